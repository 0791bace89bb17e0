"""The contract of a loss, as tests.

Derive from ``LossContract`` in a test module and define the fixture ``loss``::

    class TestMyLoss(LossContract):
        @pytest.fixture
        def loss(self):
            return MyLoss()

Shape letters: B rows, S tokens, D hidden size, K matched positions, L labels, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from raydisc.losses import LOSSES
from raydisc.losses.base import Loss, Part
from raydisc.losses.objective import applies_to
from raydisc.models.forward import Outputs
from raydisc.signals.cache import starts_of
from raydisc.signals.inner import StudentSignal
from raydisc.signals.registry import SIGNALS
from raydisc.signals.top_tokens import Grouping, grouped, likeliest
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch, Split
from raydisc.tasks.words import places_of

LENGTHS = (5, 1, 3, 4, 2, 5)
TEMPERATURE = 2.0
_HIDDEN_SIZE, _POSITIONS, _INNER, _CLASSES, _VOCABULARY, _TOP_TOKENS = 4, 3, 5, 3, 11, 3
_KINDS = {"classification": _CLASSES, "regression": 1, "tokens": _CLASSES, "language": _VOCABULARY}
"""The number of outputs for each kind of task."""


@dataclass(frozen=True)
class Example:
    """A student and a teacher on the rows of a task; random float64 numbers, so that only the formula is compared.

    Attributes:
        kind: The kind of the task.
        split: The rows, of the lengths ``LENGTHS``; of a language task all of the longest.
        student: The student's outputs on all rows.
        teacher: The teacher's.
    """

    kind: str
    split: Split
    student: Outputs
    teacher: Outputs

    @staticmethod
    def of(kind: str, seed: int = 0, inner: Sequence[str] = (), alone: Sequence[str] = ()) -> "Example":
        """Return the example of a kind of task.

        Args:
            kind: The kind of the task.
            seed: The seed of all numbers.
            inner: The fields of the signals from inside both models that there are, each with 5 numbers of a token.
            alone: The fields of those from inside the student alone.
        """
        split = _split(kind, np.random.default_rng(seed))
        generator = torch.Generator().manual_seed(seed)
        labels, rows, longest = int(split.label_counts.sum()), len(split), int(split.lengths.max())

        def outputs(fields: Sequence[str]) -> Outputs:
            def of_tokens(width: int) -> torch.Tensor:
                return torch.randn(rows, longest, width, generator=generator, dtype=torch.float64)

            hidden = tuple(of_tokens(_HIDDEN_SIZE) for _ in range(_POSITIONS))
            logits = 2 * torch.randn(labels, _KINDS[kind], generator=generator, dtype=torch.float64)
            return Outputs(logits, hidden, inner={field: of_tokens(_INNER) for field in fields})

        return Example(kind, split, outputs([*inner, *alone]), outputs(inner))

    def batch(self, rows: range | None = None) -> Batch:
        """Return a batch of some rows, or of all of them."""
        return self.split.batch(np.arange(len(self.split)) if rows is None else np.array(rows), 0)

    def part(self, loss: Loss, batch: Batch, student: Outputs | None = None, teacher: Outputs | None = None) -> Part:
        """Return a loss's sum and count on a batch; see ``seen``."""
        return loss(*self.seen(loss, batch, student, teacher), batch, TEMPERATURE)

    def seen(
        self, loss: Loss, batch: Batch, student: Outputs | None = None, teacher: Outputs | None = None
    ) -> tuple[Outputs, Outputs]:
        """Return the outputs of student and teacher on a batch as a loss sees them in training.

        Args:
            loss: The loss; in a language task those over classes see the teacher's likeliest tokens.
            batch: Some of the rows, or a worker's share of them.
            student: The outputs on all rows; those of the example if left out.
            teacher: The outputs on all rows; those of the example if left out.
        """
        mine = self._on(batch, student or self.student)
        theirs = self._on(batch, teacher or self.teacher)
        if batch.kind.over_vocabulary:
            logits, tokens = likeliest(theirs.logits, Grouping(_TOP_TOKENS, TEMPERATURE))
            theirs = replace(theirs, logits=logits, tokens=tokens)
            if loss.over_classes:
                mine = replace(mine, logits=grouped(mine.logits, tokens, TEMPERATURE))
        return mine, theirs

    def _on(self, batch: Batch, outputs: Outputs) -> Outputs:
        places = places_of(starts_of(self.split.label_counts)[batch.rows], batch.label_counts)
        width = batch.input_ids.shape[1]
        rows = torch.from_numpy(batch.rows)
        _, *of_tokens = _tensors(outputs)
        there = [_widened(numbers, width)[rows, :width] for numbers in of_tokens]
        return _rebuilt(outputs, [outputs.logits[torch.from_numpy(places)], *there])


def _split(kind: str, rng: np.random.Generator) -> Split:
    lengths = list(LENGTHS) if task_kind(kind).padded else [max(LENGTHS)] * len(LENGTHS)
    columns = {"input_ids": pa.array([rng.integers(1, _VOCABULARY, size) for size in lengths], pa.list_(pa.int32()))}
    if kind == "classification":
        columns["label"] = pa.array(rng.integers(_CLASSES, size=len(lengths)), pa.int64())
    elif kind == "regression":
        columns["label"] = pa.array(rng.normal(size=len(lengths)), pa.float32())
    elif kind == "tokens":  # Every second token begins a word.
        firsts = [list(range(0, size, 2)) for size in lengths]
        columns["first"] = pa.array(firsts, pa.list_(pa.int32()))
        columns["label"] = pa.array([rng.integers(_CLASSES, size=len(row)) for row in firsts], pa.list_(pa.int64()))
    return Split(pa.table(columns), task_kind(kind))


def _widened(states: torch.Tensor, width: int) -> torch.Tensor:
    return functional.pad(states, (0, 0, 0, max(0, width - states.shape[1])), value=3.0)


def examples(loss: Loss) -> Iterator[Example]:
    """Yield an example of each kind of task that a loss applies to."""
    inner = sorted(signal.field for signal in loss.needs if getattr(signal, "inner", False))
    alone = sorted({signal.field for signal in loss.needs_of_student} - {*inner})
    for kind in _KINDS:
        if applies_to(loss, task_kind(kind)):
            yield Example.of(kind, inner=inner, alone=alone)


class LossContract:
    """The tests that every loss has to pass; a subclass defines the fixture ``loss``."""

    def test_its_attributes_agree(self, loss: Loss) -> None:
        """The signals exist, and a loss over classes names one that takes its place where there are no classes."""
        assert loss.needs <= set(SIGNALS)
        assert all(issubclass(signal, StudentSignal) for signal in loss.needs_of_student)
        if loss.in_regression is not None:
            other = LOSSES.get(loss.in_regression)
            assert other.in_regression is None
            assert not other.over_classes
        assert not (loss.over_classes and loss.in_regression is None), "a softmax over the one output of a regression"

    def test_it_returns_a_sum_and_a_count(self, loss: Loss) -> None:
        """The sum is a finite scalar; the count is a positive number that depends on no output."""
        for example in examples(loss):
            total, count = example.part(loss, example.batch())
            assert total.shape == (), example.kind
            assert total.isfinite(), example.kind
            assert count > 0, example.kind
            assert example.part(loss, example.batch()) == (total, count), example.kind
            others = (_moved(it, _direction(it, 1), 1.0) for it in (example.student, example.teacher))
            assert example.part(loss, example.batch(), *others)[1] == count, example.kind

    def test_two_batches_add_up_to_one(self, loss: Loss) -> None:
        """Sums and counts of two parts are those of the whole, so that each label or token weighs the same."""
        for example in examples(loss):
            total, count = example.part(loss, example.batch())
            parts = [example.part(loss, example.batch(rows)) for rows in (range(2), range(2, len(LENGTHS)))]
            assert float(total) == pytest.approx(float(sum(part for part, _ in parts)), rel=1e-9), example.kind
            assert count == pytest.approx(sum(part for _, part in parts)), example.kind

    @pytest.mark.parametrize("workers", [2, 5, len(LENGTHS) + 1])
    def test_workers_add_up_to_one(self, loss: Loss, workers: int) -> None:
        """The sums of all shares of a batch are the whole's, and each share has its count; shares may be empty."""
        for example in examples(loss):
            batch = example.batch()
            total, count = example.part(loss, batch)
            parts = [example.part(loss, batch.share(rank, workers)) for rank in range(workers)]
            assert float(total) == pytest.approx(float(sum(part for part, _ in parts)), rel=1e-9), example.kind
            assert {part for _, part in parts} == {count}, example.kind

    def test_padding_does_not_count(self, loss: Loss) -> None:
        """Neither what models compute for padding nor the amount of padding changes sum or count."""
        for example in examples(loss):
            batch = example.batch()
            found = example.part(loss, batch)
            padding = batch.attention_mask == 0
            student, teacher = (_filled(outputs, padding) for outputs in (example.student, example.teacher))
            _assert_equal(example.part(loss, batch, student, teacher), found, example.kind)
            if padding.any():
                _assert_equal(example.part(loss, _padded(batch)), found, example.kind)

    def test_padding_has_no_gradient(self, loss: Loss) -> None:
        """The gradient with respect to hidden states and other numbers of padding is zero."""
        for example in examples(loss):
            batch = example.batch()
            _, *of_tokens = _tensors(_gradients(partial(_sum, example, loss, batch), example.student))
            for gradient in of_tokens:
                assert not gradient[batch.attention_mask == 0].any(), example.kind

    def test_the_teacher_itself_is_the_minimum(self, loss: Loss) -> None:
        """A student with the teacher's outputs has no gradient, and no student near it has a lower loss."""
        if not loss.needs or loss.needs_of_student:
            return  # Neither labels nor what the student has alone say where the minimum is.
        for example in examples(loss):
            batch = example.batch()

            value = partial(_sum, example, loss, batch)
            for gradient in _tensors(_gradients(value, example.teacher)):
                assert gradient.abs().max() < 1e-7, example.kind
            lowest = value(example.teacher)
            for seed in range(5):
                near = _moved(example.teacher, _direction(example.teacher, seed), 0.1)
                assert value(near) > lowest, example.kind

    def test_the_gradient_is_that_of_the_sum(self, loss: Loss) -> None:
        """Along random directions it equals a central difference; every signal that the loss needs has some."""
        for example in examples(loss):
            batch = example.batch()

            value = partial(_sum, example, loss, batch)
            found = _gradients(value, example.student)
            assert all(gradient.isfinite().all() for gradient in _tensors(found)), example.kind
            assert any(gradient.any() for gradient in _tensors(found)), example.kind
            for alone in loss.needs_of_student:
                assert found.inner[alone.field].any(), (example.kind, alone.field)
            for signal in loss.needs:
                named = {"logits": (found.logits,), "hidden": found.hidden}
                gradients = (found.inner[signal.field],) if signal.inner else named.get(signal.field, ())
                assert all(gradient.any() for gradient in gradients), (example.kind, signal.field)
            for seed in range(5):
                direction, step = _direction(example.student, seed), 1e-5
                ahead, behind = (value(_moved(example.student, direction, sign * step)) for sign in (1, -1))
                slope = float((ahead - behind) / (2 * step))
                parts = zip(_tensors(found), _tensors(direction), strict=True)
                expected = sum(float((gradient * part).sum()) for gradient, part in parts)
                assert expected == pytest.approx(slope, rel=1e-5, abs=1e-7), example.kind

    def test_it_leaves_the_outputs_alone(self, loss: Loss) -> None:
        """Neither the call nor the backward writes to the outputs, which other losses and candidates read as well."""
        for example in examples(loss):
            batch = example.batch()
            student, teacher = example.seen(loss, batch)
            mine = _rebuilt(student, [tensor.detach().requires_grad_() for tensor in _tensors(student)])
            before = [tensor.detach().clone() for tensor in (*_tensors(mine), *_tensors(teacher))]
            loss(mine, teacher, batch, TEMPERATURE)[0].backward()
            assert all(map(torch.equal, before, (*_tensors(mine), *_tensors(teacher)))), example.kind


def _sum(example: Example, loss: Loss, batch: Batch, student: Outputs) -> torch.Tensor:
    return example.part(loss, batch, student)[0]


def _assert_equal(found: Part, expected: Part, kind: str) -> None:
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-12), kind
    assert found[1] == expected[1], kind


def _padded(batch: Batch, more: int = 3) -> Batch:
    """Return the same rows with more padding."""
    pad = (0, more)
    return replace(
        batch,
        input_ids=functional.pad(batch.input_ids, pad),
        attention_mask=functional.pad(batch.attention_mask, pad),
        tagged=None if batch.tagged is None else np.pad(batch.tagged, ((0, 0), pad)),
    )


def _filled(outputs: Outputs, padding: torch.Tensor) -> Outputs:
    """Return the outputs with other numbers of tokens where a mask ``[B, S]`` is true."""
    logits, *of_tokens = _tensors(outputs)
    return _rebuilt(outputs, [logits, *(numbers.masked_fill(padding.unsqueeze(-1), 17.0) for numbers in of_tokens)])


def _tensors(outputs: Outputs) -> tuple[torch.Tensor, ...]:
    """Return the logits, and all numbers of tokens ``[B, S, ...]``."""
    return outputs.logits, *outputs.hidden, *outputs.inner.values()


def _rebuilt(outputs: Outputs, tensors: Sequence[torch.Tensor]) -> Outputs:
    """Return outputs of the same signals with other tensors, in the order of ``_tensors``."""
    logits, *of_tokens = tensors
    hidden, inner = of_tokens[: len(outputs.hidden)], of_tokens[len(outputs.hidden) :]
    return replace(outputs, logits=logits, hidden=tuple(hidden), inner=dict(zip(outputs.inner, inner, strict=True)))


def _gradients(value: Callable[[Outputs], torch.Tensor], outputs: Outputs) -> Outputs:
    """Return the gradients with respect to all outputs, of which some may not be used."""
    leaves = [tensor.detach().requires_grad_() for tensor in _tensors(outputs)]
    found = torch.autograd.grad(value(_rebuilt(outputs, leaves)), leaves, allow_unused=True)
    gradients = [torch.zeros_like(leaf) if it is None else it for leaf, it in zip(leaves, found, strict=True)]
    return _rebuilt(outputs, gradients)


def _direction(outputs: Outputs, seed: int) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in _tensors(outputs)]
    return _rebuilt(outputs, drawn)


def _moved(outputs: Outputs, direction: Outputs, step: float) -> Outputs:
    pairs = zip(_tensors(outputs), _tensors(direction), strict=True)
    return _rebuilt(outputs, [tensor + step * part for tensor, part in pairs])
