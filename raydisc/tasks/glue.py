"""The nine GLUE tasks (Wang et al. 2018, arXiv 1804.07461) from the hub, and GLUE's submission format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raydisc.errors import InputError
from raydisc.tasks.source import TaskSource

if TYPE_CHECKING:
    from raydisc.config.sections import TaskConfig

HUB = "nyu-mll/glue"


@dataclass(frozen=True)
class GluePreset:
    """The settings of a GLUE task.

    Attributes:
        text: The text columns.
        metric: The metric of GLUE's leaderboard; where there are two, their mean.
        classes: Class names in label order; empty for regression.
        submit_names: Whether a submission has class names instead of numbers.
        validation: The name of the validation split at the hub.
        test: The name of the test split at the hub, which has no labels.
    """

    text: tuple[str, ...]
    metric: str
    classes: tuple[str, ...]
    submit_names: bool = False
    validation: str = "validation"
    test: str = "test"


_PAIR = ("sentence1", "sentence2")
_INFERENCE = ("entailment", "not_entailment")
PRESETS: Mapping[str, GluePreset] = {
    "cola": GluePreset(("sentence",), "matthews", ("unacceptable", "acceptable")),
    "sst2": GluePreset(("sentence",), "accuracy", ("negative", "positive")),
    "mrpc": GluePreset(_PAIR, "accuracy_f1", ("not_equivalent", "equivalent")),
    "stsb": GluePreset(_PAIR, "pearson_spearman", ()),
    "qqp": GluePreset(("question1", "question2"), "accuracy_f1", ("not_duplicate", "duplicate")),
    "mnli": GluePreset(
        ("premise", "hypothesis"),
        "accuracy",
        ("entailment", "neutral", "contradiction"),
        submit_names=True,
        validation="validation_matched",
        test="test_matched",
    ),
    "qnli": GluePreset(("question", "sentence"), "accuracy", _INFERENCE, submit_names=True),
    "rte": GluePreset(_PAIR, "accuracy", _INFERENCE, submit_names=True),
    "wnli": GluePreset(_PAIR, "accuracy", ("not_entailment", "entailment")),
}


def glue_preset(name: str) -> GluePreset:
    """Return the preset of a name.

    Raises:
        InputError: GLUE has no task of this name.
    """
    if name not in PRESETS:
        raise InputError(f"task.glue: there is no GLUE task {name!r}; the tasks are {', '.join(PRESETS)}")
    return PRESETS[name]


def read_glue(config: TaskConfig) -> TaskSource:
    """Load a GLUE task from the hub or the local cache of ``datasets``.

    Raises:
        InputError: There is no such task, or the hub cannot be reached.
    """
    name = str(config.glue)
    preset = glue_preset(name)
    places = {split: f"the {split} split of {HUB} {name}" for split in ("train", "validation", "test")}
    splits = _download(name, preset)
    notices = ("mnli: the mismatched validation and test splits are not used",) if name == "mnli" else ()
    classes = preset.classes or None
    return TaskSource(
        splits, preset.text, preset.metric, classes=classes, name=f"glue-{name}", places=places, notices=notices
    )


def write_submission(path: str | Path, preset: str, predictions: np.ndarray) -> None:
    """Write the predictions of an unlabelled test in GLUE's format for submissions: a TSV of index and prediction.

    Args:
        path: The file to write; GLUE's server expects particular names, such as ``CoLA.tsv``.
        preset: The name of the GLUE task.
        predictions: Logits ``[N, C]``; numbers ``[N]`` or ``[N, 1]`` for STS-B, clipped to its range 0 to 5.

    Raises:
        InputError: There is no such task, or it has another number of classes.
    """
    task = glue_preset(preset)
    if not task.classes:
        lines = [f"{value:.3f}" for value in np.clip(predictions.reshape(len(predictions)), 0.0, 5.0)]
    else:
        if predictions.shape[1:] != (len(task.classes),):
            raise InputError(
                f"predictions of shape {predictions.shape} do not fit GLUE {preset}, which has "
                f"{len(task.classes)} classes"
            )
        chosen = predictions.argmax(-1)
        lines = [task.classes[i] if task.submit_names else str(i) for i in chosen]
    rows = "".join(f"{index}\t{line}\n" for index, line in enumerate(lines))
    Path(path).write_text("index\tprediction\n" + rows, encoding="utf-8")


def _download(name: str, preset: GluePreset) -> dict[str, pa.Table]:
    """Return the three splits of a task."""
    import datasets  # takes a second to import and is needed here only

    try:
        task = datasets.load_dataset(HUB, name)
    except Exception as error:  # hub, HTTP client and cache each have their own family of errors
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"task.glue: {HUB} {name} cannot be loaded from the Hugging Face hub ({reason}); where it "
            "cannot be reached, give local files: task.train, task.validation and task.test with "
            f"text: [{', '.join(preset.text)}]"
        ) from error
    at_hub = {"train": "train", "validation": preset.validation, "test": preset.test}
    return {split: task[key].with_format("arrow")[:] for split, key in at_hub.items()}
