"""Predictions of a model, or of one slice of a supernet, on a split."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from raydisc.models.forward import forward
from raydisc.tasks.batching import evaluation_batches
from raydisc.tasks.tokenised import Batch, Split
from raydisc.training.inference import Pass


def predict(model: nn.Module, split: Split, pad_id: int, how: Pass) -> np.ndarray:
    """Logits ``[N, C]`` of every row, each counted once, in the split's order; float32 in every precision.

    Of a language model the mean loss of each row's tokens ``[N, 1]``, in nats. Of a token classifier the class of each
    token that is asked for, row by row from the left ``[N, most of any row]``; NaN where it gives no finite answer.
    Each worker computes its share of the rows; all are given all logits.
    """
    device = next(model.parameters()).device
    logits: list[np.ndarray] = []
    order: list[np.ndarray] = []
    model.eval()
    with torch.no_grad():
        for batch in how.over(split, evaluation_batches(split.lengths, how.batch_size), pad_id, device):
            found = predictions_of(forward(model, batch, (), how.precision).logits, batch).cpu().numpy()
            logits.append(found if split.words is None else _side_by_side(found, batch, int(split.words.counts.max())))
            order.append(batch.rows)
    predictions = np.zeros((len(split), logits[0].shape[-1]), dtype=np.float32)
    predictions[np.concatenate(order)] = np.concatenate(logits)
    return how.rank.total(torch.from_numpy(predictions)).numpy()  # zeros where it was another's row


def predictions_of(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """What is kept of a batch's logits ``[L, C]``.

    Of a language model the mean loss of each row's tokens ``[B, 1]``; of a token classifier the class of each token
    that is asked for ``[L]``; else all.
    """
    if batch.asked is not None:
        return logits.argmax(dim=-1).where(logits.isfinite().all(dim=-1), torch.nan)
    if not batch.language:
        return logits
    losses = functional.cross_entropy(logits, batch.labels, reduction="none")
    return losses.view(len(batch.rows), batch.input_ids.shape[1] - 1).mean(dim=1, keepdim=True)


def _side_by_side(values: np.ndarray, batch: Batch, width: int) -> np.ndarray:
    """The values ``[L]`` of a batch's labels as ``[B, width]``, each row's from the left."""
    found = np.zeros((len(batch.rows), width), np.float32)
    found[np.arange(width) < batch.label_counts[:, None]] = values
    return found
