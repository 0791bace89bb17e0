"""What a model is for: to classify rows or tokens, or, in a language task, a language model; its weights, each once."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
)

from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.registry import FAMILIES, family_of
from raydisc.tasks.metrics import Kind


def suit(config: Config, kind: Kind, num_labels: int, pad_id: int | None) -> None:
    """Put into a configuration what a model of a task needs to know, its class among it.

    Args:
        config: changed in place.
        kind: of the task.
        num_labels: outputs that a classifier needs.
        pad_id: the tokenizer's padding token; None where it has none.

    Raises:
        InputError: a language task for a family without a language model that raydisc knows, a token task for one
            without a token classifier, or a decoder that needs a padding token and has none.
    """
    family = family_of(config)
    if kind == "language":
        if not family.predicts_next:
            known = ", ".join(sorted(name for name, family in FAMILIES.items() if family.predicts_next))
            raise InputError(
                f"teacher: a language task needs a model that predicts the next token, but '{config.model_type}' is "
                f"none; families that are: {known}"
            )
        classes: Any = MODEL_FOR_CAUSAL_LM_MAPPING
        config.use_cache, config.architectures = False, [classes[type(config)].__name__]
        return
    if is_language_model(config) or is_token_classifier(config):
        config.architectures = None
    if kind == "tokens":
        config.architectures = [_token_classifier_of(config)]
    config.num_labels = num_labels
    family.fit(config, pad_id)


def _token_classifier_of(config: Config) -> str:
    """The name of the class of a family's token classifiers."""
    made: Any = family_of(config).token_classifier()
    if made is not AutoModelForTokenClassification:
        return str(made.__name__)
    classes: Any = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    if type(config) not in classes:
        raise InputError(
            f"teacher: a token task needs a model that classifies tokens, and transformers has none of the family "
            f"'{config.model_type}'; take an encoder"
        )
    return str(classes[type(config)].__name__)


def is_language_model(config: Config) -> bool:
    """Whether a model of this configuration predicts the next token; else it is a classifier."""
    return any(name.endswith("ForCausalLM") for name in config.architectures or ())


def is_token_classifier(config: Config) -> bool:
    """Whether a model of this configuration classifies every token."""
    return any(name.endswith("ForTokenClassification") for name in config.architectures or ())


def model_class(config: Config) -> Any:
    """The class, or auto class, whose ``from_config`` and ``from_pretrained`` make models of a configuration."""
    if is_language_model(config):
        return AutoModelForCausalLM
    family = family_of(config)
    return family.token_classifier() if is_token_classifier(config) else family.classifier()


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """A model's weights, views of them: those that are tied (a language model's head to its embedding) once."""
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}


def put_weights(model: nn.Module, state: Mapping[str, torch.Tensor], assign: bool = False) -> None:
    """Give a model its weights back.

    Args:
        model: changed in place.
        state: as ``weights_of`` gives it.
        assign: alias the tensors of ``state`` instead of copying them.

    Raises:
        RuntimeError: a weight is missing, of another shape, or not the model's.
    """
    own = set(weights_of(model))
    missing, unknown = model.load_state_dict(state, strict=False, assign=assign)
    if unknown or not own.isdisjoint(missing):
        raise RuntimeError(f"weights missing: {sorted(own.intersection(missing))}; not the model's: {unknown}")
    if missing:
        tie: Any = model
        tie.tie_weights()
