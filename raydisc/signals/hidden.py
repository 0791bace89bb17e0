"""Hidden states of the matched positions.

Shape letters: U real tokens of a batch, K matched positions, D hidden size, B rows and S tokens of a batch.
"""

from collections.abc import Mapping

import numpy as np
import torch

from raydisc.models.forward import Outputs
from raydisc.signals.base import Signal, SignalSizes
from raydisc.tasks.tokenised import Batch


class HiddenStates(Signal):
    """The hidden states of the matched positions for each real token ``[U, K, D]``, rounded to two bytes."""

    field = "hidden"
    of_tokens = True
    dtype = None

    @classmethod
    def entry_shape(cls, sizes: SignalSizes) -> tuple[int, ...]:
        """See ``Signal``."""
        return sizes.positions, sizes.hidden_size

    @classmethod
    def has_file(cls, sizes: SignalSizes) -> bool:
        """Return True: the file is there, without entries, even where no position is matched."""
        return True

    @classmethod
    def taken(cls, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Return the hidden states of real tokens, row after row ``[U, K, D]`` float32."""
        if not outputs.hidden:
            return torch.empty(batch.real_tokens, 0, 0)
        return torch.stack([of_real_tokens(states, batch) for states in outputs.hidden], dim=1)

    @classmethod
    def restored(cls, entries: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return K hidden states ``[B, S, D]`` float32, converted here once for all candidates of a step."""
        return entries.float().view(len(batch.rows), batch.input_ids.shape[1], *entries.shape[1:]).unbind(dim=2)

    @classmethod
    def metadata(cls, sizes: SignalSizes, rounded: str) -> dict[str, str]:
        """See ``Signal``."""
        return {"positions": str(sizes.positions), "hidden_size": str(sizes.hidden_size), "dtype": rounded}

    @classmethod
    def read_shape(cls, metadata: Mapping[str, str]) -> tuple[int, ...]:
        """See ``Signal``."""
        return int(metadata["positions"]), int(metadata["hidden_size"])


def of_real_tokens(numbers: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Return the part of a tensor ``[B, S, ...]`` that belongs to real tokens, row after row ``[U, ...]``."""
    longest = batch.input_ids.shape[1]
    real = np.flatnonzero(np.arange(longest) < batch.lengths[:, None])
    index = torch.from_numpy(real).to(batch.input_ids.device, non_blocking=True)
    return numbers.flatten(0, 1).index_select(0, index)
