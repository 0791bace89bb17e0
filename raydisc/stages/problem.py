"""The task and the teacher of an experiment, inspected before anything is computed: fingerprints, shape and size."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from raydisc.config.experiment import Experiment
from raydisc.config.sections import TeacherConfig
from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.registry import family_of, layers_of
from raydisc.models.architecture import from_architecture
from raydisc.models.build import config_from_dict
from raydisc.models.task_heads import model_class, suit
from raydisc.models.teacher_checkpoint import (
    check_head,
    check_outputs,
    check_units,
    checkpoint_fingerprint,
    load_config,
    locate,
)
from raydisc.stages.objective import Objective
from raydisc.stages.targets import refuse_misfit
from raydisc.stages.tokenise import tokenizer_fingerprint, tokenizer_of
from raydisc.supernet.candidates import scale_for_parameters
from raydisc.supernet.importance import compares_over_the_model
from raydisc.tasks.base import TaskData, load_task


@dataclass(frozen=True)
class Subject:
    """The task and the teacher of an experiment, small enough to send to every trial.

    Attributes:
        task_name: The name in tables.
        metric: The task's metric.
        task_fingerprint: SHA-256 of the rows.
        tokenizer_fingerprint: SHA-256 of the tokenizer's files.
        weights_fingerprint: SHA-256 of the checkpoint, or of the architecture to be trained from scratch.
        config: The teacher's configuration as a dictionary.
        teacher_parameters: The parameters of the whole model, with the task's head.
        notices: The sentences that the user should read.
    """

    task_name: str
    metric: str
    task_fingerprint: str
    tokenizer_fingerprint: str
    weights_fingerprint: str
    config: dict[str, Any]
    teacher_parameters: int
    notices: tuple[str, ...]

    @property
    def num_layers(self) -> int:
        """Transformer layers of the teacher."""
        return len(layers_of(config_from_dict(self.config)))


def inspect(experiment: Experiment, weights: bool = True) -> Subject:
    """Read the task and the teacher's files, and refuse what cannot work.

    Args:
        experiment: The experiment.
        weights: Whether the teacher's weights are looked at too; otherwise its configuration stands for them.

    Raises:
        InputError: The task, the teacher or its tokenizer cannot work; the sentence says why.
    """
    task = load_task(experiment.task)
    tokenizer = tokenizer_of(experiment.teacher)
    task.kind.check_tokenizer(tokenizer)
    config, fingerprint = _teacher(experiment.teacher, task, len(tokenizer), tokenizer.pad_token_id, weights)
    with torch.device("meta"):
        model = model_class(config).from_config(config)
    _refuse_too_small(model, config, len(tokenizer), task.max_length)
    refuse_misfit(Objective.of(experiment.distillation), task.kind, len(layers_of(config)))
    return Subject(
        task_name=task.name,
        metric=task.metric,
        task_fingerprint=task.fingerprint,
        tokenizer_fingerprint=tokenizer_fingerprint(tokenizer),
        weights_fingerprint=fingerprint,
        config=config.to_dict(),
        teacher_parameters=sum(parameter.numel() for parameter in model.parameters()),
        notices=(*task.notices, *_few_units(config, experiment)),
    )


def _few_units(config: Config, experiment: Experiment) -> list[str]:
    """Return sentences on kinds of units of which a layer has few, and what that means for the search."""
    layers, notices = layers_of(config), []
    for noun, counts in (
        ("attention heads (or key/value groups)", [layer.heads.count for layer in layers]),
        ("feed-forward neurons", [layer.neurons.count for layer in layers]),
    ):
        if not compares_over_the_model(counts):
            continue
        few = f"teacher: some layers have only {min(counts)} {noun}"
        notices.append(f"{few}, so these are ranked over the whole model without normalisation within layers")
        if experiment.grid.allocation == "uniform":
            notices.append(
                f"{few}, of which grid.allocation: uniform keeps one in each layer at least; the tradeoff and the "
                "tables have the measured scale"
            )
    return notices


def _teacher(
    teacher: TeacherConfig, task: TaskData, vocab_size: int, pad_id: int | None, weights: bool
) -> tuple[Config, str]:
    if teacher.model is None:
        architecture = dict(teacher.architecture or {})
        config = from_architecture(architecture, vocab_size, task.kind, task.num_labels, pad_id)
        return config, _digest(architecture)
    folder = locate(teacher.model, weights)
    config = load_config(folder, teacher.trust_remote_code)
    if weights:
        check_units(folder, config)
    if teacher.finetune is None:
        check_outputs(config, task.kind, task.num_labels, folder)
    suit(config, task.kind, task.num_labels, pad_id)
    if teacher.finetune is None and weights:
        check_head(folder, config)
    return config, checkpoint_fingerprint(folder) if weights else _digest(config.to_dict())


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _refuse_too_small(model: nn.Module, config: Config, vocab_size: int, max_length: int) -> None:
    """Refuse a teacher without an embedding for every token and for every position of the task."""
    words = cast(nn.Embedding, cast(PreTrainedModel, model).get_input_embeddings())
    if vocab_size > words.num_embeddings:
        raise InputError(
            f"teacher: its tokenizer has {vocab_size} tokens but the model embeds {words.num_embeddings}; "
            "give the tokenizer that belongs to the model"
        )
    positions = family_of(config).positions(config)
    if positions is not None and max_length > positions:
        raise InputError(
            f"task.max_length: {max_length} tokens are more than the teacher's {positions} positions; "
            f"set it to {positions} or less"
        )


def student_scales(experiment: Experiment, subject: Subject) -> tuple[float, ...]:
    """Return the scales of the students wanted, whether given as scales or as parameters.

    Raises:
        InputError: No scale gives a number of parameters that is asked for.
    """
    if experiment.student.scale is not None:
        return tuple(experiment.student.scale)
    config = config_from_dict(subject.config)
    return tuple(
        scale_for_parameters(config, subject.teacher_parameters, parameters, experiment.grid.allocation)
        for parameters in experiment.student.parameters or ()
    )
