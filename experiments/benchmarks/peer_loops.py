"""A distillation as users write it without raydisc: by a Hugging Face Trainer, and by a plain loop."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from raydisc.config.sections import DistillationConfig
from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.models.build import load_trainable
from raydisc.models.precision import Precision, computing_in
from raydisc.models.widths import Widths
from raydisc.tasks.tokenised import Split
from raydisc.training.dropout import set_dropout

EVALUATION_ROWS = 64


@dataclass(frozen=True)
class Assignment:
    """One distillation: the same for every way of doing it.

    Attributes:
        teacher: The frozen teacher with its units sorted by importance.
        config: The configuration of the teacher.
        state: The weights of the teacher, from which students are cut.
        widths: The units that each scale of the grid keeps.
        scale: The scale of the student.
        matched: The positions of the hidden states that are compared.
        train: The training rows.
        validation: The rows on which the student is evaluated at the end.
        pad_id: The padding token of the tokenizer.
        max_length: The largest number of tokens of a row.
        section: The learning rate, the batch size and other settings.
        steps: The number of optimiser steps.
        seed: The seed of order and dropout.
        device: The device to compute on.
        precision: The precision of matrix multiplications.
    """

    teacher: nn.Module
    config: Config
    state: Mapping[str, torch.Tensor]
    widths: Mapping[float, Widths]
    scale: float
    matched: tuple[int, ...]
    train: Split
    validation: Split
    pad_id: int
    max_length: int
    section: DistillationConfig
    steps: int
    seed: int
    device: torch.device
    precision: Precision = "float32"

    @property
    def warm_up(self) -> int:
        """Steps in which the learning rate climbs."""
        return round(self.section.warmup * self.steps)


def load_trainer() -> bool:
    """Import transformers' Trainer, which no training should be charged for; False where accelerate is missing."""
    if importlib.util.find_spec("accelerate") is None:
        return False
    importlib.import_module("transformers.trainer")
    return True


def sliced(state: Mapping[str, torch.Tensor], config: Config, widths: Widths) -> dict[str, torch.Tensor]:
    """Return views of the first units of every layer, through which gradients flow into the whole weights."""
    narrow = dict(state)
    for index, units in enumerate(layers_of(config)):
        for linear, kept in widths.of(index, units):
            weight, bias = f"{linear.path}.weight", f"{linear.path}.bias"
            narrow[weight] = linear.first(narrow[weight], kept)
            if linear.axis == 0:
                narrow[bias] = linear.first(narrow[bias], kept)
    return narrow


def kd_loss(mine: Any, theirs: Any, mask: torch.Tensor, matched: Sequence[int], regression: bool) -> torch.Tensor:
    """Soft cross entropy of the logits and squared error of matched hidden states over real tokens.

    Args:
        mine: The Hugging Face output of the student, with hidden states.
        theirs: The output of the teacher.
        mask: The attention mask ``[B, S]``.
        matched: The positions of the hidden states that are compared.
        regression: Whether to use the squared error of the logits instead of the cross entropy.
    """
    if regression:
        logits = functional.mse_loss(mine.logits, theirs.logits)
    else:
        logits = functional.cross_entropy(mine.logits, theirs.logits.softmax(-1))
    real = mask.bool()
    pairs = [(mine.hidden_states[at][real], theirs.hidden_states[at][real]) for at in matched]
    return logits + torch.stack([functional.mse_loss(a, b) for a, b in pairs]).mean()


def by_trainer(assignment: Assignment) -> nn.Module:
    """Run a ``transformers.Trainer`` whose loss runs the teacher; batches are padded to their longest row."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    train, validation = _Rows(assignment.train, assignment), _Rows(assignment.validation, assignment)

    class KdTrainer(Trainer):
        def compute_loss(
            self,
            model: nn.Module,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> Any:
            labels = inputs.pop("labels")
            mine = model(**inputs, output_hidden_states=True)
            with torch.no_grad():
                theirs = assignment.teacher(**inputs, output_hidden_states=True)
            mask, regression = inputs["attention_mask"], labels.is_floating_point()
            loss = kd_loss(mine, theirs, mask, assignment.matched, regression)
            return (loss, {"logits": mine.logits}) if return_outputs else loss

    section = assignment.section
    model = _student(assignment, assignment.scale)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder, max_steps=assignment.steps, per_device_train_batch_size=section.batch_size,
            per_device_eval_batch_size=EVALUATION_ROWS, learning_rate=section.lr, weight_decay=section.weight_decay,
            warmup_steps=assignment.warm_up, max_grad_norm=section.max_grad_norm, lr_scheduler_type="linear",
            seed=assignment.seed, save_strategy="no", eval_strategy="no", report_to="none", disable_tqdm=True,
            use_cpu=assignment.device.type == "cpu", remove_unused_columns=False, logging_strategy="no",
            bf16=assignment.precision == "bfloat16",
        )  # fmt: skip
        trainer = KdTrainer(model=model, args=settings, train_dataset=train, data_collator=_collate(assignment))
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        trainer.predict(validation)
    return model


class _Rows(torch.utils.data.Dataset[int]):
    """Row numbers, which the collator makes a batch of."""

    def __init__(self, split: Split, assignment: Assignment) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Any:
        batch = self.split.batch(np.array([index]), 0)
        return {name: tensor[0] for name, tensor in {**batch.inputs(), "labels": batch.labels}.items()}


def _collate(assignment: Assignment) -> Any:
    def collate(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        found = {"labels": torch.stack([row["labels"] for row in rows])}
        for name in rows[0].keys() - {"labels"}:
            fill = assignment.pad_id if name == "input_ids" else 0
            found[name] = nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True, padding_value=fill)
        return found

    return collate


def by_plain_loop(assignment: Assignment, scales: Sequence[float]) -> nn.Module:
    """Run a loop like that of MiniDisc's code (arXiv 2205.14570, section 3): nothing is kept, nothing is left out.

    Every batch is padded to the longest row that the task allows, the teacher runs in every step, and every step
    trains all candidates in shared weights, one after the other.

    Args:
        assignment: The distillation.
        scales: The scales of the candidates, including the student's.
    """
    torch.manual_seed(assignment.seed)
    section, widest = assignment.section, max(scales)
    shared = dict(_student(assignment, widest).named_parameters())
    shells = {scale: _student(assignment, scale) for scale in scales}  # of which the forward is used, not the weights
    decayed = [p for p in shared.values() if p.ndim > 1]
    others = [p for p in shared.values() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": section.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=section.lr)
    climb, fall = max(1, assignment.warm_up), max(1, assignment.steps - assignment.warm_up)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / climb, (assignment.steps - step) / fall)
    )
    order = np.random.default_rng(assignment.seed)
    waiting: list[np.ndarray] = []
    for _ in range(assignment.steps):
        if not waiting:
            waiting = np.array_split(order.permutation(len(assignment.train)), _batches(assignment))
        inputs, labels = _padded(assignment.train, waiting.pop(), assignment)
        with torch.no_grad(), computing_in(assignment.precision, assignment.device):
            theirs = assignment.teacher(**inputs, output_hidden_states=True)
        for scale in scales:
            weights = sliced(shared, assignment.config, assignment.widths[scale])
            shells[scale].train()
            with computing_in(assignment.precision, assignment.device):
                mine = functional_call(shells[scale], weights, kwargs={**inputs, "output_hidden_states": True})
            mask, regression = inputs["attention_mask"], labels.is_floating_point()
            kd_loss(mine, theirs, mask, assignment.matched, regression).backward()
        nn.utils.clip_grad_norm_(shared.values(), section.max_grad_norm)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
    student = shells[assignment.scale]
    with torch.no_grad():
        student.load_state_dict(sliced(shared, assignment.config, assignment.widths[assignment.scale]))
    _evaluate(student, assignment)
    return student


def _student(assignment: Assignment, scale: float) -> nn.Module:
    widths = assignment.widths[scale]
    model = load_trainable(assignment.config, widths, sliced(assignment.state, assignment.config, widths))
    set_dropout(model, assignment.section.dropout)  # the same for all: what it costs is not a matter of how one trains
    return model.to(assignment.device)


def _batches(assignment: Assignment) -> int:
    return -(-len(assignment.train) // assignment.section.batch_size)


def _padded(split: Split, rows: np.ndarray, assignment: Assignment) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    batch = split.batch(rows, assignment.pad_id)
    inputs = {}
    for name, tensor in batch.inputs().items():
        fill = assignment.pad_id if name == "input_ids" else 0
        more = assignment.max_length - tensor.shape[1]
        inputs[name] = functional.pad(tensor, (0, more), value=fill).to(assignment.device)
    return inputs, batch.labels.to(assignment.device)


def _evaluate(model: nn.Module, assignment: Assignment) -> None:
    """Predict the validation rows, since everyone does at the end of a training; what comes out is not needed."""
    model.eval()
    rows = np.arange(len(assignment.validation))
    with torch.no_grad(), computing_in(assignment.precision, assignment.device):
        for first in range(0, len(rows), EVALUATION_ROWS):
            model(**_padded(assignment.validation, rows[first : first + EVALUATION_ROWS], assignment)[0])
