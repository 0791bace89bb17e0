"""Units: the heads and neurons of a layer, and the linears whose rows or columns they are.

A head is one attention head; in a grouped-query model it is one key/value head with the query heads that share it.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Carrier:
    """A linear that has units along one axis of its weight.

    A fused weight is several blocks of equal size along the axis, and a unit has its part in each of them.

    Attributes:
        path: of the linear.
        axis: 0, the units are its output rows; 1, its input columns.
        size: rows or columns of one unit in a block.
        blocks: how many there are.
        has_bias: whether the linear has one; it goes with the rows.
    """

    path: str
    axis: int
    size: int
    blocks: int = 1
    has_bias: bool = True

    def kept(self, units: int) -> int:
        """Rows or columns of so many units."""
        return self.blocks * self.size * units

    def first(self, tensor: torch.Tensor, units: int) -> torch.Tensor:
        """The part of the first units: of the weight, or of the bias of a linear whose rows are units.

        A view, unless the weight is fused.
        """
        if self.blocks == 1:
            return tensor.narrow(self.axis, 0, self.size * units)
        sizes = (self.blocks, tensor.shape[self.axis] // self.blocks)
        blocks: torch.Tensor = tensor.unflatten(self.axis, sizes)
        return blocks.narrow(self.axis + 1, 0, self.size * units).flatten(self.axis, self.axis + 1)

    def sorted(self, tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
        """The weight, or the bias as in ``first``, with its units in another order; a copy."""
        within = (torch.tensor(order).unsqueeze(1) * self.size + torch.arange(self.size)).flatten()
        starts = torch.arange(self.blocks).unsqueeze(1) * len(within)
        return tensor.index_select(self.axis, (starts + within).flatten().to(tensor.device))


@dataclass(frozen=True)
class Units:
    """The units of one kind in one layer.

    Attributes:
        count: of the teacher.
        outputs: the linears whose output rows they are (query, key and value; into the feed-forward).
        input: the linear whose input columns they are (attention's output; out of the feed-forward).
    """

    count: int
    outputs: tuple[Carrier, ...]
    input: Carrier

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        """Every linear that has them."""
        return (*self.outputs, self.input)

    def weights(self, hidden_size: int) -> int:
        """Entries of weight matrices that go with one unit."""
        return sum(carrier.kept(1) for carrier in self.carriers) * hidden_size

    @property
    def biases(self) -> int:
        """Entries of biases that go with one unit."""
        return sum(carrier.kept(1) for carrier in self.outputs if carrier.has_bias)


@dataclass(frozen=True)
class LayerUnits:
    """The units of one transformer layer.

    Attributes:
        heads: its attention heads, or key/value groups.
        neurons: its feed-forward neurons.
        hidden_size: width of the residual stream.
        head_order: name of the buffer that holds the teacher's number of each head, where something that layers share
            is kept by those numbers.
    """

    heads: Units
    neurons: Units
    hidden_size: int
    head_order: str | None = None

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        """Every prunable linear of the layer."""
        return (*self.heads.carriers, *self.neurons.carriers)
