"""Sharding of a model by FSDP2: each transformer layer, the embedding tables, then what is left.

The model's code needs no change: elastic layers slice a weight inside their forward pass, where it is gathered. The
loss of a worker is its part of the whole batch's loss, so gradients are summed over workers, not averaged.
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
from raydisc.families.registry import layers_in
from raydisc.families.units import LayerUnits
from raydisc.models.precision import Precision
from raydisc.parallel.rank import Rank
from raydisc.parallel.sharded_embedding import look_up_by_rows

Item = TypeVar("Item")


def blocks_of(model: nn.Module, config: Config) -> list[nn.Module]:
    """Return every transformer layer, and other modules of the same class, such as the decoder layer of EncT5."""
    kinds = {type(_layer_of(model, units)) for units in layers_in(model, config)}
    return [module for module in model.modules() if type(module) in kinds]


def tables_of(model: nn.Module) -> list[nn.Module]:
    """Return the word embedding and a language model's head, unless they share a weight; both are large tables."""
    whole = cast(PreTrainedModel, model)
    embedding, head = whole.get_input_embeddings(), whole.get_output_embeddings()
    if head is None:
        return [embedding]
    return [] if head.weight is embedding.weight else [embedding, head]


def _layer_of(model: nn.Module, units: LayerUnits) -> nn.Module:
    """Return the innermost module that contains all prunable linears of a layer and is called."""
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
    """Shard a model's weights in place over a rank's mesh, and sum its gradients over the workers.

    In bfloat16 the weights are gathered in the type that they are multiplied in, which halves the bytes sent; gradients
    are summed in float32.

    Args:
        model: A model on the device of the mesh, or on the meta device to be loaded afterwards.
        config: The model's configuration.
        rank: The rank of this worker.
        precision: The precision of the model's matrix multiplications.
        offload: Whether to keep shards in the host's memory and bring them to the device when needed.
        frozen: Whether the model is never trained, so that tokens can be sent to the worker that has their rows.

    Returns:
        The same model.
    """
    # hidden states are views of layers' inputs, which nothing changes in place
    warnings.filterwarnings("ignore", message=".*returned a view tensor")
    options: dict[str, Any] = {"mesh": rank.mesh, "reshard_after_forward": True}
    # weights of a layer without heads or neurons, since FSDP cannot sum empty gradients
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
    """Iterate over the items of one step; the caller runs a forward and a backward pass for each.

    Args:
        model: A model; only a sharded one is prepared for the step.
        items: The items of the step.
        once: Whether to gather the weights once, keep weights and gradients unsharded, and sum gradients in the last
            backward pass; otherwise both happen for every item.
    """
    return _kept_gathered(cast(FSDPModule, model), items) if once and is_sharded(model) else items


def _kept_gathered(model: FSDPModule, items: Sequence[Item]) -> Iterator[Item]:
    model.set_reshard_after_forward(False)
    for count, item in enumerate(items, start=1):
        model.set_requires_gradient_sync(count == len(items))
        model.set_reshard_after_backward(count == len(items))
        yield item
    model.set_reshard_after_forward(True)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole of a tensor that may be sharded; every worker must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
