"""Sharding of a model that knows nothing of it: FSDP2 by transformer layer, tables of words, then what is left.

Elastic layers slice a weight inside their forward, where it is gathered: they need no change. The loss of each worker
is its part of the whole batch's, so that gradients are added up, not averaged.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from os.path import commonprefix
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.precision import Precision
from raydisc.parallel.rank import Rank
from raydisc.parallel.sharded_embedding import look_up_by_rows

Item = TypeVar("Item")


def blocks_of(model: nn.Module, config: Config) -> list[nn.Module]:
    """Every transformer layer, and what has the same class: a decoder's layer that only a classifier reads."""
    kinds = {type(_layer_of(model, units)) for units in layers_of(config)}
    return [module for module in model.modules() if type(module) in kinds]


def tables_of(model: nn.Module) -> list[nn.Module]:
    """The word embedding and a language model's head, unless they are one: each is as large as several layers."""
    whole = cast(PreTrainedModel, model)
    embedding, head = whole.get_input_embeddings(), whole.get_output_embeddings()
    if head is None:
        return [embedding]
    return [] if head.weight is embedding.weight else [embedding, head]


def _layer_of(model: nn.Module, units: LayerUnits) -> nn.Module:
    """The module that has all prunable linears of a layer, and is called."""
    path = commonprefix([linear.path.split(".") for linear in units.linears])
    while isinstance(model.get_submodule(".".join(path)), nn.ModuleList):
        path = path[:-1]
    return model.get_submodule(".".join(path))


def shard(
    model: nn.Module,
    config: Config,
    rank: Rank,
    precision: Precision,
    offload: bool = False,
    frozen: bool = False,
) -> nn.Module:
    """Shard a model's weights over a place's mesh, in place, and add up gradients over its workers.

    In bfloat16 the weights travel in the type that they are multiplied in, half as many bytes; gradients are added up
    in float32.

    Args:
        model: on the device of the mesh, or on the meta device, to be loaded afterwards.
        config: of the model.
        rank: of this worker.
        precision: in which the model computes.
        offload: keep shards in the host's memory and bring them to the device when they are needed.
        frozen: whether it is never to be trained, so that tokens can be looked up where their rows are.
    """
    # hidden states are views of layers' inputs, and nobody changes them in place
    warnings.filterwarnings("ignore", message=".*returned a view tensor")
    options: dict[str, Any] = {"mesh": rank.mesh, "reshard_after_forward": True}
    # of a layer that has lost all its heads or neurons; FSDP cannot add up gradients without entries
    options["ignored_params"] = {parameter for parameter in model.parameters() if not parameter.numel()}
    if precision == "bfloat16":
        options["mp_policy"] = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    if offload:
        options["offload_policy"] = CPUOffloadPolicy()
    for block in blocks_of(model, config):
        fully_shard(block, **options)
    for table in tables_of(model):
        if frozen and not offload and isinstance(table, nn.Embedding):
            options["ignored_params"].add(look_up_by_rows(table, rank))
        else:
            fully_shard(table, **options)
    fully_shard(model, **options)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are spread over workers."""
    return isinstance(model, FSDPModule)


def backwards(model: nn.Module, items: Sequence[Item], once: bool) -> Iterable[Item]:
    """The items of one step, for each of which the caller runs a forward and a backward.

    Args:
        model: any; only a sharded one is told anything.
        items: of the step.
        once: gather the weights before the first forward, keep them and the gradients unsharded, and add gradients up
            in the last backward; else do both for every item.
    """
    return _kept_gathered(cast(FSDPModule, model), items) if once and is_sharded(model) else items


def _kept_gathered(model: FSDPModule, items: Sequence[Item]) -> Iterator[Item]:
    model.set_reshard_after_forward(False)
    for rank, item in enumerate(items, start=1):
        model.set_requires_gradient_sync(rank == len(items))
        model.set_reshard_after_backward(rank == len(items))
        yield item
    model.set_reshard_after_forward(True)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor whose parts every worker gets; every worker must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
