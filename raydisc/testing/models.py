"""Tiny models and data for tests: large random weights, so that a difference in a model shows in its outputs."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.forward import Outputs, forward
from raydisc.models.task_heads import TokenHead, head_of, model_class, suit
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import UnitOrder, order_units, reordered
from raydisc.supernet.importance import Importance, random_importance
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch, Split
from raydisc.tensors.lazy_state import State

VOCABULARY = 40


def tagging(config: Config) -> Config:
    """Turn a configuration into that of a token classifier, in place, and return it."""
    suit(config, task_kind("tokens"), config.num_labels, 0)
    return config


def tiny_teacher(config: Config, seed: int = 0) -> nn.Module:
    """Return a teacher in evaluation mode whose biases and norms are random too."""
    torch.manual_seed(seed)
    model: nn.Module = model_class(config).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.eval()


def layer_path(units: LayerUnits) -> str:
    """Return the path of the layer that has these units."""
    parts = (linear.path.split(".") for linear in units.linears)
    common = itertools.takewhile(lambda at: len(set(at)) == 1, zip(*parts, strict=False))
    return ".".join(names[0] for names in common).removesuffix(".layer")


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of a model's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def gradients_of(model: nn.Module) -> dict[str, Any]:
    """Return a model's gradients by name."""
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def tiny_split(
    lengths: Sequence[int],
    num_labels: int = 3,
    seed: int = 0,
    types: bool = False,
    tags: bool = False,
    vocabulary: int = VOCABULARY,
) -> Split:
    """Return rows of random tokens.

    Args:
        lengths: Tokens of each row.
        num_labels: Number of classes; 1 for real targets.
        seed: Seed of the tokens and labels.
        types: Whether tokens have types.
        tags: Whether two tokens in three have labels, instead of rows.
        vocabulary: Number of tokens to draw from.
    """
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, vocabulary, length).tolist() for length in lengths]
    columns = {"input_ids": pa.array(ids, pa.list_(pa.int32()))}
    if types:
        columns["token_type_ids"] = pa.array(
            [(np.arange(length) > length // 2).astype(int).tolist() for length in lengths], pa.list_(pa.int8())
        )
    real = rng.standard_normal(len(lengths)).astype(np.float32)
    columns["label"] = pa.array(real if num_labels == 1 else rng.integers(0, num_labels, len(lengths)))
    if tags:
        words = [[token for token in range(length) if token % 3 != 1] for length in lengths]
        columns["first"] = pa.array(words, pa.list_(pa.int32()))
        columns["label"] = pa.array([rng.integers(0, num_labels, len(row)).tolist() for row in words])
    kind = task_kind("tokens" if tags else "regression" if num_labels == 1 else "classification")
    return Split(pa.table(columns), kind)


def tiny_batch(
    config: Config, lengths: Sequence[int] = (9, 3, 6, 1), seed: int = 0, num_labels: int | None = None
) -> Batch:
    """Return a batch for a model, with padding where rows differ in length.

    Args:
        config: The model's configuration.
        lengths: Tokens of each row.
        seed: Seed of the tokens and labels.
        num_labels: Number of classes; by default the model's.
    """
    types, tags = getattr(config, "type_vocab_size", 0) > 1, isinstance(head_of(config), TokenHead)
    split = tiny_split(lengths, num_labels or config.num_labels, seed, types, tags, config.vocab_size)
    return split.batch(np.arange(len(lengths)), config.pad_token_id or 0)


def everything(model: nn.Module, config: Config, batch: Batch) -> Outputs:
    """Return logits and all hidden states, without those of padding, which nothing reads."""
    found = forward(model, batch, tuple(range(config.num_hidden_layers + 1)))
    real = batch.attention_mask.bool()
    return Outputs(found.logits, tuple(hidden[real] for hidden in found.hidden))


def counted(run: Callable[[], Any]) -> int:
    """Return the FLOPs that torch counts while something runs."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def importance_with_empty_layers(config: Config, seed: int = 0) -> Importance:
    """Return random scores by which the second layer's heads and the first layer's neurons are pruned first."""
    scores = random_importance(layers_of(config), seed)
    heads = tuple(score * (1e-3 if layer == 1 else 1.0) for layer, score in enumerate(scores.heads))
    neurons = tuple(score * (1e-3 if layer == 0 else 1.0) for layer, score in enumerate(scores.neurons))
    return Importance(heads, neurons)


def sorted_state(model: nn.Module, config: Config, importance: Importance) -> State:
    """Return a teacher's weights with its units sorted by importance."""
    return reordered(state_of(model), layers_of(config), order_units(importance))


def identity_order(config: Config) -> UnitOrder:
    """Return the teacher's own order of units."""
    widths = Widths.full(config)
    return UnitOrder(
        tuple(tuple(range(heads)) for heads in widths.heads),
        tuple(tuple(range(neurons)) for neurons in widths.neurons),
    )
