"""The heads of models: classifiers of rows or of tokens, and language models; a model's weights, each once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
)

from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.registry import FAMILIES, family_of
from raydisc.tasks.kinds.base import TaskKind


@dataclass(frozen=True)
class HeadReads:
    """The weights of a head by what they multiply, for the cost of a forward.

    Attributes:
        rows: Weights of the linears that read one vector for each row.
        tokens: Weights of those that read every token.
        all_but_last: Weights of those that read every token but a row's last.
        attended: Width of the head's attention of one query for each row.
    """

    rows: int = 0
    tokens: int = 0
    all_but_last: int = 0
    attended: int = 0


class TaskHead(ABC):
    """The part of a model that answers a task.

    Attributes:
        architecture: How the names of classes with this head end, in a configuration's ``architectures``; empty for the
            head of a configuration that names no other.
        finished: What a fine-tuned model with this head is called in messages.
        labels: What it labels, in messages; empty where it labels nothing.
        generates: Whether a finished model generates text, for which it caches keys and values.
    """

    architecture: ClassVar[str] = ""
    finished: ClassVar[str]
    labels: ClassVar[str] = ""
    generates: ClassVar[bool] = False

    @abstractmethod
    def suit(self, config: Config, num_labels: int, pad_id: int | None) -> None:
        """Prepare a configuration for models with this head; see the function ``suit``."""

    @abstractmethod
    def model_class(self, config: Config) -> Any:
        """Return the class, or auto class, that makes models of a configuration."""

    @abstractmethod
    def reads(self, config: Config, linears: Mapping[str, int]) -> HeadReads:
        """Return what the linears outside the transformer layers read.

        Args:
            config: The model's configuration.
            linears: Number of weights of each linear, by its path.
        """

    def num_outputs(self, config: Config) -> int:
        """Return the number of outputs that stand for labels of a task."""
        return int(config.num_labels)

    def check_outputs(self, config: Config, num_labels: int, folder: Path) -> None:
        """Refuse a finished model whose outputs are not the task's.

        Raises:
            InputError: Its head is another one, or the numbers of labels differ.
        """
        found = head_of(config)
        remedy = "give the teacher of this task, or add teacher.finetune to train a new head"
        if found.labels and found.labels != self.labels:
            raise InputError(
                f"teacher.model: '{folder}' labels {found.labels} but the task labels {self.labels}; {remedy}"
            )
        if config.num_labels != num_labels:
            raise InputError(
                f"teacher.model: '{folder}' has {config.num_labels} labels but the task has {num_labels}; {remedy}"
            )

    def name_architecture(self, config: Config) -> None:
        """Write the class of a plain Hugging Face model into its configuration; ``suit`` may have done so."""
        return


class SequenceHead(TaskHead):
    """One vector of logits for each row."""

    finished = "a fine-tuned classifier"
    labels = "whole texts"

    def suit(self, config: Config, num_labels: int, pad_id: int | None) -> None:
        """Set the number of labels, and what the family needs to know of padding."""
        if head_of(config) is not self:
            config.architectures = None
        config.num_labels = num_labels
        family_of(config).fit(config, pad_id)

    def model_class(self, config: Config) -> Any:
        """Return the family's sequence classifier."""
        return family_of(config).classifier()

    def reads(self, config: Config, linears: Mapping[str, int]) -> HeadReads:
        """Read one vector for each row, except where the family's head reads all tokens."""
        head = family_of(config).head(config)
        tokens = sum(linears[path] for path in head.tokenwise)
        return HeadReads(rows=sum(linears.values()) - tokens, tokens=tokens, attended=head.attended)

    def name_architecture(self, config: Config) -> None:
        """Write the class of sequence classifiers."""
        classes: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
        config.architectures = [classes[type(config)].__name__]


class TokenHead(TaskHead):
    """One vector of logits for each token."""

    architecture = "ForTokenClassification"
    finished = "a fine-tuned token classifier"
    labels = "each token"

    def suit(self, config: Config, num_labels: int, pad_id: int | None) -> None:
        """Set the class of token classifiers too."""
        config.architectures = [_token_classifier_of(config)]
        config.num_labels = num_labels
        family_of(config).fit(config, pad_id)

    def model_class(self, config: Config) -> Any:
        """Return the family's token classifier."""
        return family_of(config).token_classifier()

    def reads(self, config: Config, linears: Mapping[str, int]) -> HeadReads:
        """Read every token."""
        return HeadReads(tokens=sum(linears.values()))


class LanguageModelHead(TaskHead):
    """The logits of the next token, for every token but a row's last."""

    architecture = "ForCausalLM"
    finished = "a language model"
    generates = True

    def suit(self, config: Config, num_labels: int, pad_id: int | None) -> None:
        """Set the class of language models; nothing is cached while rows are whole."""
        if not family_of(config).predicts_next:
            known = ", ".join(sorted(family.model_type for family in FAMILIES if family.predicts_next))
            raise InputError(
                f"teacher: a language task needs a model that predicts the next token, which '{config.model_type}' "
                f"does not have; families that have one: {known}"
            )
        classes: Any = MODEL_FOR_CAUSAL_LM_MAPPING
        config.use_cache, config.architectures = False, [classes[type(config)].__name__]

    def model_class(self, config: Config) -> Any:
        """Return the auto class of language models."""
        return AutoModelForCausalLM

    def reads(self, config: Config, linears: Mapping[str, int]) -> HeadReads:
        """Read every token but a row's last."""
        return HeadReads(all_but_last=sum(linears.values()))

    def num_outputs(self, config: Config) -> int:
        """Return 0: the tokens of the vocabulary are not labels of a task."""
        return 0

    def check_outputs(self, config: Config, num_labels: int, folder: Path) -> None:
        """Accept any: there are no labels that could differ."""


HEADS: Mapping[str, TaskHead] = {
    "sequence": SequenceHead(), "token": TokenHead(), "language_model": LanguageModelHead()
}  # fmt: skip
"""Every head by the name under which task kinds ask for it."""


def head_of(config: Config) -> TaskHead:
    """Return the head of the models of a configuration."""
    names = config.architectures or ()
    special = (head for head in HEADS.values() if head.architecture)
    named = (head for head in special if any(name.endswith(head.architecture) for name in names))
    return next(named, HEADS["sequence"])


def suit(config: Config, kind: TaskKind, num_labels: int, pad_id: int | None) -> None:
    """Put into a configuration what a model of a task needs to know, its class among it.

    Args:
        config: The configuration, changed in place.
        kind: The kind of task.
        num_labels: The number of outputs that a classifier needs.
        pad_id: The padding token; None if the tokenizer does not have one.

    Raises:
        InputError: The family has no model with the head that the task needs, or needs a padding token that the
            tokenizer does not have.
    """
    HEADS[kind.head].suit(config, num_labels, pad_id)


def model_class(config: Config) -> Any:
    """Return the class, or auto class, whose ``from_config`` and ``from_pretrained`` make models of a configuration."""
    return head_of(config).model_class(config)


def _token_classifier_of(config: Config) -> str:
    """Return the name of the class of a family's token classifiers."""
    made: Any = family_of(config).token_classifier()
    if made is not AutoModelForTokenClassification:
        return str(made.__name__)
    classes: Any = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    if type(config) not in classes:
        raise InputError(
            "teacher: a token task needs a model that classifies tokens, which transformers does not have for the "
            f"family '{config.model_type}'; use an encoder"
        )
    return str(classes[type(config)].__name__)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return views of a model's weights; tied ones, such as a language model's head and embedding, only once."""
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}


def put_weights(model: nn.Module, state: Mapping[str, torch.Tensor], assign: bool = False) -> None:
    """Give a model its weights back.

    Args:
        model: The model, changed in place.
        state: Its weights, as ``weights_of`` returns them.
        assign: Whether parameters alias the tensors of ``state`` instead of copying them.

    Raises:
        RuntimeError: A weight is missing, has another shape, or is not the model's.
    """
    own = set(weights_of(model))
    missing, unknown = model.load_state_dict(state, strict=False, assign=assign)
    if unknown or not own.isdisjoint(missing):
        raise RuntimeError(f"weights missing: {sorted(own.intersection(missing))}; not the model's: {unknown}")
    if missing:
        tie: Any = model
        tie.tie_weights()
