"""Fixtures that the contracts of families and of structures share."""

import pytest
from torch import nn

from raydisc.families.base import Config
from raydisc.tasks.tokenised import Batch
from raydisc.testing.models import tiny_batch, tiny_teacher


class TinyModels:
    """A contract whose models are small ones with random weights, built from the fixture ``config``."""

    @pytest.fixture
    def teacher(self, config: Config) -> nn.Module:
        """Return a classifier with random weights."""
        return tiny_teacher(config)

    @pytest.fixture
    def batch(self, config: Config) -> Batch:
        """Return a batch of rows of several lengths, with padding."""
        return tiny_batch(config)
