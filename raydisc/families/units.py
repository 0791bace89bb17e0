"""Units: the heads and neurons of a layer, and the linears whose rows or columns they are.

A head is one attention head; in a grouped-query model it is one key/value head with the query heads that share it.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PrunableLinear:
    """A linear that has units along one axis of its weight.

    A fused weight is several blocks of equal size along the axis, and a unit has its part in each of them.

    Attributes:
        path: Path of the linear in the model.
        axis: 0 if the units are its output rows, 1 if they are its input columns.
        size: Rows or columns of one unit in a block.
        blocks: Number of blocks.
        has_bias: Whether the linear has a bias, whose entries go with the rows.
    """

    path: str
    axis: int
    size: int
    blocks: int = 1
    has_bias: bool = True

    def kept(self, units: int) -> int:
        """Return the number of rows or columns that a number of units has."""
        return self.blocks * self.size * units

    def first(self, tensor: torch.Tensor, units: int) -> torch.Tensor:
        """Return the part of a weight, or of the bias where rows are units, that belongs to the first units.

        It is a view, unless the weight is fused.

        Args:
            tensor: The weight or the bias.
            units: The number of units.
        """
        if self.blocks == 1:
            return tensor.narrow(self.axis, 0, self.size * units)
        sizes = (self.blocks, tensor.shape[self.axis] // self.blocks)
        blocks: torch.Tensor = tensor.unflatten(self.axis, sizes)
        return blocks.narrow(self.axis + 1, 0, self.size * units).flatten(self.axis, self.axis + 1)

    def sorted(self, tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
        """Return a copy of the weight, or of the bias where rows are units, with its units in another order.

        Args:
            tensor: The weight or the bias.
            order: The present places of the units.
        """
        within = (torch.tensor(order).unsqueeze(1) * self.size + torch.arange(self.size)).flatten()
        starts = torch.arange(self.blocks).unsqueeze(1) * len(within)
        return tensor.index_select(self.axis, (starts + within).flatten().to(tensor.device))


@dataclass(frozen=True)
class Units:
    """The units of one kind in one layer.

    Attributes:
        count: Their number in the teacher.
        outputs: The linears whose output rows they are: query, key and value, or those into the feed-forward.
        input: The linear whose input columns they are: the output of attention, or that of the feed-forward.
        buffers: Names of buffers with one entry for each of the teacher's units, such as their numbers in a table that
            layers share. The entries are sorted with the units and never pruned.
    """

    count: int
    outputs: tuple[PrunableLinear, ...]
    input: PrunableLinear
    buffers: tuple[str, ...] = ()

    @property
    def linears(self) -> tuple[PrunableLinear, ...]:
        """Every linear that has the units."""
        return (*self.outputs, self.input)

    def weights(self, hidden_size: int) -> int:
        """Return the number of entries of weight matrices that go with one unit."""
        return sum(linear.kept(1) for linear in self.linears) * hidden_size

    @property
    def biases(self) -> int:
        """The number of entries of biases that go with one unit."""
        return sum(linear.kept(1) for linear in self.outputs if linear.has_bias)


@dataclass(frozen=True)
class LayerUnits:
    """The units of one transformer layer.

    Attributes:
        heads: Its attention heads, or its key/value heads.
        neurons: Its feed-forward neurons.
        hidden_size: Width of the residual stream.
    """

    heads: Units
    neurons: Units
    hidden_size: int

    @property
    def linears(self) -> tuple[PrunableLinear, ...]:
        """Every prunable linear of the layer."""
        return (*self.heads.linears, *self.neurons.linears)

    @property
    def unit_parameters(self) -> tuple[int, int]:
        """The parameters of one head and of one neuron."""
        per_head, per_neuron = (kind.weights(self.hidden_size) + kind.biases for kind in (self.heads, self.neurons))
        return per_head, per_neuron
