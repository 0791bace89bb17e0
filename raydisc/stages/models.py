"""The models that stages compute with, on the worker's device: whole, or sharded over the workers."""

import torch
from torch import nn

from raydisc.families.base import Config
from raydisc.models.build import build, compute_twice, load_frozen, load_trainable
from raydisc.models.structure import Structure
from raydisc.parallel.load_shards import load_shards
from raydisc.parallel.shard import is_sharded, shard
from raydisc.stages.context import Context
from raydisc.stages.files import Weights
from raydisc.tensors.lazy_state import State


def frozen_model(weights: Weights, context: Context) -> nn.Module:
    """Return a model in evaluation mode, never to be trained; it shares the artifact's memory where it can."""
    if context.rank.mesh is None:
        return load_frozen(weights.config, weights.structure, weights.state).to(context.device)
    model = _sharded(weights.config, weights.structure, weights.state, context, frozen=True)
    return model.requires_grad_(False).eval()


def trainable_model(config: Config, structure: Structure, state: State, context: Context) -> nn.Module:
    """Return a model with its own copy of some weights, to be trained."""
    if context.rank.mesh is None:
        return to_train(load_trainable(config, structure, state), context)
    return to_train(_sharded(config, structure, state, context, frozen=False), context)


def to_train(model: nn.Module, context: Context) -> nn.Module:
    """Put a model on the worker's device; if activations are not to be kept, have it compute them again."""
    if context.execution.checkpointing:
        compute_twice(model)
    return model if is_sharded(model) else model.to(context.device)


def _sharded(config: Config, structure: Structure, state: State, context: Context, frozen: bool) -> nn.Module:
    with torch.device("meta"):
        model = build(config, structure)
    shard(model, config, context.rank, context.execution.precision, context.execution.offload, frozen)
    load_shards(model, state, torch.device("cpu") if context.execution.offload else context.device)
    return model
