"""The package outside raydisc keeps every contract that raydisc ships."""

import pytest
from raydisc_outside.family import OUTSIDE_BERT
from raydisc_outside.loss import LogitMAE
from raydisc_outside.metric import MEAN_RECALL
from raydisc_outside.schedule import Midway
from raydisc_outside.task import Praise
from transformers import AutoConfig

from raydisc.config.schedules import ScheduleOptions
from raydisc.families.registry import FAMILIES
from raydisc.losses import LOSSES
from raydisc.schedules import SCHEDULES
from raydisc.tasks.metrics import METRICS
from raydisc.tasks.named import TASKS
from raydisc.testing.families import FamilyContract
from raydisc.testing.losses import LossContract
from raydisc.testing.metrics import MetricContract
from raydisc.testing.schedules import ScheduleContract
from raydisc.testing.tasks import TaskContract


class TestFamily(FamilyContract):
    @pytest.fixture
    def config(self):
        with FAMILIES.registering(OUTSIDE_BERT):
            yield AutoConfig.for_model(
                "outside_bert",
                vocab_size=40,
                hidden_size=24,
                intermediate_size=20,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=34,
                initializer_range=0.3,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                num_labels=3,
            )


class TestLoss(LossContract):
    @pytest.fixture
    def loss(self):
        with LOSSES.registering(LogitMAE):
            yield LogitMAE()


class TestMetric(MetricContract):
    @pytest.fixture
    def metric(self):
        with METRICS.registering(MEAN_RECALL):
            yield MEAN_RECALL


class TestSchedule(ScheduleContract):
    @pytest.fixture
    def schedule(self):
        with SCHEDULES.registering(Midway):
            yield Midway(ScheduleOptions())


class TestTask(TaskContract):
    @pytest.fixture
    def task(self):
        with METRICS.registering(MEAN_RECALL), TASKS.registering(Praise):
            yield Praise
