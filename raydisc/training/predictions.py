"""Predictions of a model, or of one slice of a supernet, on a split."""

import numpy as np
import torch
from torch import nn

from raydisc.models.forward import forward
from raydisc.tasks.batching import evaluation_batches
from raydisc.tasks.tokenised import Split
from raydisc.training.inference import Pass


def predict(model: nn.Module, split: Split, pad_id: int, how: Pass) -> np.ndarray:
    """Return the predictions for every row ``[N, ...]``, in the split's order; float32 in every precision.

    What a prediction is depends on the kind of task (``TaskKind.predictions`` and ``by_row``). Each worker computes
    its share of the rows; all workers return all predictions.
    """
    device = next(model.parameters()).device
    found: list[np.ndarray] = []
    order: list[np.ndarray] = []
    model.eval()
    with torch.no_grad():
        for batch in how.over(split, evaluation_batches(split.lengths, how.batch_size), pad_id, device):
            logits = forward(model, batch, (), how.precision).logits
            found.append(split.kind.by_row(split.kind.predictions(logits, batch).cpu().numpy(), batch, split))
            order.append(batch.rows)
    predictions = np.zeros((len(split), found[0].shape[-1]), dtype=np.float32)
    predictions[np.concatenate(order)] = np.concatenate(found)
    return how.rank.total(torch.from_numpy(predictions)).numpy()  # Zeros in the rows of other workers.
