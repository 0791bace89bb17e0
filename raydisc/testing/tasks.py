"""The contracts of task kinds and of tasks that experiment files call by name, as tests.

Derive from a contract in a test module and define its fixture::

    class TestMyTask(TaskContract):
        @pytest.fixture
        def task(self):
            return MyTask

Shape letters: N rows, B rows and S tokens of a batch, L labels, C classes.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import BaseModel
from torch.nn import functional

from raydisc.config.sections import TaskConfig
from raydisc.errors import InputError
from raydisc.models.task_heads import HEADS
from raydisc.tasks.base import load_task
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.metrics import METRICS, Metric
from raydisc.tasks.named import TASKS, Task
from raydisc.tasks.reviews import word_tokenizer
from raydisc.tasks.source import TaskSource, selected
from raydisc.tasks.tokenised import Batch, Split
from raydisc.testing.tolerance import assert_near

TEXTS = (
    "the food was good", "not bad", "the staff was awful and the view was nice", "the room was dull", "great",
    "i said the price was very poor", "the music was superb", "nobody thinks the view was great",
)  # fmt: skip
CLASSES = ("B-left", "O")
LENGTH = 12
_SURE = 50.0
"""A logit that leaves other classes no probability."""


def example_source(kind: TaskKind, metric: Metric) -> TaskSource:
    """Return a few labelled rows of a kind, as they are before labels are encoded.

    Args:
        kind: The kind of task.
        metric: A metric for it.
    """
    texts: list[Any] = [text.split() for text in TEXTS] if kind.words else list(TEXTS)
    labels: list[Any]
    if kind.words:
        labels = [[CLASSES[(row + place) % 2] for place, _ in enumerate(words)] for row, words in enumerate(texts)]
    elif kind.named_classes:
        labels = [CLASSES[row % 3 % 2] for row, _ in enumerate(texts)]
    else:
        labels = [0.5 * row for row, _ in enumerate(texts)]
    rows = pa.table({"text": texts, "label": labels})
    splits = dict.fromkeys(("train", "validation", "test"), rows)
    places = {split: f"the {split} split" for split in splits}
    return selected(TaskSource(splits, ("text",), metric.name, places=places), kind.words, kind.labelled)


def example_split(kind: TaskKind, metric: Metric) -> tuple[Split, tuple[str, ...]]:
    """Return the rows of ``example_source`` as tokens, and their classes."""
    classes, tables = kind.encode(example_source(kind, metric), metric)
    return Split(kind.tokenise(tables["train"], word_tokenizer(), LENGTH, "train", lambda: None), kind), classes


def perfect_logits(batch: Batch, outputs: int) -> torch.Tensor:
    """Return logits ``[L, C]`` of a model that gives every label of a batch."""
    if batch.labels.is_floating_point():
        return batch.labels[:, None]
    return _SURE * functional.one_hot(batch.labels, outputs).float()


def scored(
    split: Split, metric: Metric, classes: tuple[str, ...], logits: torch.Tensor | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions and labels of a split in the form that metrics take.

    Args:
        split: The rows.
        metric: The metric.
        classes: Names of the classes.
        logits: Logits of all labels ``[L, C]``; None for those of a perfect model.
    """
    batch = split.batch(np.arange(len(split)), 0)
    if logits is None:
        logits = perfect_logits(batch, num_outputs(split.kind, classes))
    found = split.kind.by_row(split.kind.predictions(logits, batch).numpy(), batch, split)
    return split.kind.scored(found, split, metric, classes), split.labels


def num_outputs(kind: TaskKind, classes: tuple[str, ...]) -> int:
    """Return the number of outputs of a model for the rows of ``example_split``."""
    return len(word_tokenizer()) if kind.over_vocabulary else kind.num_outputs(classes)


class TaskKindContract:
    """The promises of every kind of task to training, evaluation and forecasts."""

    @pytest.fixture
    def kind(self) -> TaskKind:
        """Return the kind to test."""
        raise pytest.UsageError("define the fixture 'kind' in the class that derives from TaskKindContract")

    @pytest.fixture
    def metric(self, kind: TaskKind) -> Metric:
        """Return a metric for the kind."""
        return next(metric for metric in METRICS if metric.kind == kind.name)

    @pytest.fixture
    def split(self, kind: TaskKind, metric: Metric) -> Split:
        """Return a few rows as tokens."""
        return example_split(kind, metric)[0]

    @pytest.fixture
    def classes(self, kind: TaskKind, metric: Metric) -> tuple[str, ...]:
        """Return the classes of these rows."""
        return example_split(kind, metric)[1]

    @pytest.fixture
    def batch(self, split: Split) -> Batch:
        """Return all rows as a batch."""
        return split.batch(np.arange(len(split)), 0)

    def test_it_is_found_by_its_name(self, kind: TaskKind) -> None:
        """The name in artifacts leads back to the kind."""
        assert task_kind(kind.name) is kind

    def test_a_model_has_its_head(self, kind: TaskKind) -> None:
        """The head that it asks for exists."""
        assert kind.head in HEADS

    def test_labels_come_back_from_batches(self, kind: TaskKind, metric: Metric, split: Split, batch: Batch) -> None:
        """Labels of a batch are those that were written, row after row."""
        table = example_source(kind, metric).splits["train"]
        classes, _ = kind.encode(example_source(kind, metric), metric)
        if not kind.labelled:
            assert batch.labels.tolist() == batch.input_ids[:, 1:].flatten().tolist()
            return
        written = table.column("label").to_pylist()
        labels = [label for row in written for label in row] if kind.words else written
        found = [classes[label] for label in batch.labels.tolist()] if kind.named_classes else batch.labels.tolist()
        assert found == labels

    def test_labels_are_counted_alike_everywhere(self, kind: TaskKind, split: Split, batch: Batch) -> None:
        """The split, its batches and the bound for forecasts agree on the number of labels of a row."""
        assert batch.label_counts.tolist() == split.label_counts.tolist()
        assert int(split.label_counts.sum()) == len(batch.labels)
        assert all(
            count <= kind.most_labels(int(length))
            for count, length in zip(split.label_counts, split.lengths, strict=True)
        )

    def test_labels_of_an_artifact_are_counted(self, kind: TaskKind, metric: Metric, split: Split) -> None:
        """The facts of a tokenised task give the number of labels, where it is not the number of rows."""
        _, tables = kind.encode(example_source(kind, metric), metric)
        made = {"train": kind.tokenise(tables["train"], word_tokenizer(), LENGTH, "train", lambda: None)}
        facts = {"rows": {"train": len(split)}, "tokens": {"train": int(split.lengths.sum())}, **kind.extra_facts(made)}
        total = kind.label_total(facts, "train")
        assert int(split.label_counts.sum()) == (len(split) if total is None else total)

    def test_blank_labels_are_the_most_there_can_be(self, kind: TaskKind, batch: Batch) -> None:
        """Labels without contents have the type and the number of the largest batch of a shape."""
        labels, tagged = kind.blank_labels(batch.input_ids)
        assert labels.dtype == batch.labels.dtype
        assert len(labels) == len(batch.input_ids) * kind.most_labels(batch.input_ids.shape[1])
        assert (tagged is None) == (batch.tagged is None)

    @pytest.mark.parametrize("workers", [2, 3, 11])
    def test_shares_of_workers_add_up(
        self, kind: TaskKind, batch: Batch, classes: tuple[str, ...], workers: int
    ) -> None:
        """The losses of all workers' shares add up to that of the batch, and so do their labels."""
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(len(batch.labels), num_outputs(kind, classes), generator=generator)
        starts = np.cumsum(batch.label_counts) - batch.label_counts
        whole, parts = kind.loss(logits, batch.labels), []
        for rank in range(workers):
            share = batch.share(rank, workers)
            rows = [range(starts[row], starts[row] + batch.label_counts[row]) for row in share.rows]
            own = [place for places in rows for place in places]
            assert share.labels.tolist() == batch.labels[own].tolist()
            assert share.mean_labels == batch.mean_labels
            parts.append(kind.loss(logits[own], share.labels))
        assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5)

    def test_padding_does_not_count(self, kind: TaskKind, split: Split, batch: Batch, classes: tuple[str, ...]) -> None:
        """Logits at padding change no prediction."""
        generator = torch.Generator().manual_seed(0)
        outputs = num_outputs(split.kind, classes)
        for row in range(len(split)):
            alone = split.batch(np.array([row]), 0)
            logits, wide = (
                torch.randn(_shape_of_logits(kind.head, it, outputs), generator=generator) for it in (alone, batch)
            )
            if logits.ndim == 2:
                wide[row] = logits[0]
            else:
                wide[row, : logits.shape[1]] = logits[0]
            mine = kind.by_row(kind.predictions(kind.labelled_logits(logits, alone), alone).numpy(), alone, split)
            theirs = kind.by_row(kind.predictions(kind.labelled_logits(wide, batch), batch).numpy(), batch, split)
            assert_near(mine[0], theirs[row])

    def test_the_loss_of_a_perfect_model_is_zero(
        self, kind: TaskKind, split: Split, batch: Batch, classes: tuple[str, ...]
    ) -> None:
        """The loss is a sum that vanishes where every label is given, and has a gradient elsewhere."""
        outputs = num_outputs(split.kind, classes)
        assert float(kind.loss(perfect_logits(batch, outputs), batch.labels)) == pytest.approx(0, abs=1e-6)
        logits = torch.zeros(len(batch.labels), outputs, requires_grad=True)
        loss = kind.loss(logits, batch.labels)
        [gradient] = torch.autograd.grad(loss, logits)
        assert float(loss.detach()) > 0
        assert bool(gradient.isfinite().all())
        assert bool(gradient.abs().sum() > 0)

    @pytest.mark.parametrize("teacher_metric", [0.0, 0.04, 0.9, 1.0])
    def test_the_reference_is_a_share(self, kind: TaskKind, teacher_metric: float) -> None:
        """A candidate's metric is divided by something in (0, 1]."""
        assert 0 < kind.reference(teacher_metric) <= 1

    def test_answers_name_every_row(
        self, kind: TaskKind, metric: Metric, split: Split, classes: tuple[str, ...]
    ) -> None:
        """A file of answers has a line for each row or word, unless the kind has no answers."""
        try:
            answers = kind.answering("student", None)
        except InputError:
            assert not kind.labelled
            return
        batch = split.batch(np.arange(len(split)), 0)
        logits = perfect_logits(batch, num_outputs(split.kind, classes))
        predictions = kind.by_row(kind.predictions(logits, batch).numpy(), batch, split)
        source = example_source(kind, metric).splits["train"]
        found = answers(predictions, source, split, classes).column("label").to_pylist()
        written = source.column("label").to_pylist()
        assert found == ([label for row in written for label in row] if kind.words else written)


def _shape_of_logits(head: str, batch: Batch, outputs: int) -> tuple[int, ...]:
    """Return the shape of what a model with a head computes for a batch."""
    rows, length = batch.input_ids.shape
    return {"sequence": (rows, outputs), "token": (rows, length, outputs)}.get(head, (rows, length - 1, outputs))


class TaskContract:
    """The promises of every task that experiment files call by name."""

    @pytest.fixture
    def task(self) -> type[Task]:
        """Return the task to test."""
        raise pytest.UsageError("define the fixture 'task' in the class that derives from TaskContract")

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        """Return options as an experiment file would give them; small ones, so that loading is quick."""
        return {}

    @pytest.fixture
    def config(self, task: type[Task], options: dict[str, Any]) -> TaskConfig:
        """Return the ``task`` section of an experiment file."""
        return TaskConfig(name=task.name, options=options)

    def test_it_is_found_by_its_name(self, task: type[Task]) -> None:
        """The name in experiment files leads to the task."""
        assert TASKS.get(task.name) is task

    def test_every_process_loads_the_same_rows(self, config: TaskConfig) -> None:
        """Rows, classes and metric are the same each time."""
        first, second = load_task(config), load_task(config)
        assert first.fingerprint == second.fingerprint
        assert all(first.splits[name].equals(second.splits[name]) for name in first.splits)

    def test_splits_can_be_trained_and_judged_on(self, config: TaskConfig) -> None:
        """Every split has rows, and its labels suit the metric."""
        loaded = load_task(config)
        assert {"train", "validation", "test"} <= set(loaded.splits)
        assert all(table.num_rows > 0 for table in loaded.splits.values())
        assert METRICS.get(loaded.metric).kind == loaded.kind.name

    def test_a_section_of_an_experiment_file_comes_back(self, config: TaskConfig) -> None:
        """The section that is written reads as the same section."""
        assert TaskConfig.model_validate(config.model_dump(mode="json")) == config

    def test_unknown_options_are_refused(self, task: type[Task], config: TaskConfig) -> None:
        """A misspelt option is an error and not ignored."""
        assert issubclass(task.Options, BaseModel)
        wrong = config.model_copy(update={"options": {**config.options, "no_such_option": 1}})
        with pytest.raises(InputError, match=r"task\.options"):
            load_task(wrong)
