"""Which hidden states of student and teacher are compared."""

from collections.abc import Sequence

from raydisc.errors import InputError

_UNIFORM_STRIDES = 6

Mapping = str | Sequence[Sequence[int]]
"""``uniform``, ``last``, ``all``, or pairs ``[student position, teacher position]``."""


def matched_positions(mapping: Mapping, num_layers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions among the ``num_layers + 1`` hidden states (0 is the embeddings'), of student and of teacher.

    ``uniform`` takes the embeddings and then every ``num_layers / 6``-th layer, the last included; a model of
    fewer than six layers is matched at every one (arXiv 2205.14570 leaves layers whole, so student and teacher
    have the same number).

    Raises:
        InputError: no pair, or a position that the model does not have.
    """
    if isinstance(mapping, str):
        positions = _named(mapping, num_layers)
        return positions, positions
    pairs = [tuple(pair) for pair in mapping]
    if not pairs:
        raise InputError("distillation.layer_mapping: the list is empty, but a loss compares hidden states")
    for pair in pairs:
        if len(pair) != 2 or not all(0 <= position <= num_layers for position in pair):
            raise InputError(
                f"distillation.layer_mapping: {list(pair)} is not [student, teacher] with positions 0 to {num_layers}"
            )
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _named(mapping: str, num_layers: int) -> tuple[int, ...]:
    if mapping == "last":
        return (num_layers,)
    strides = num_layers if mapping == "all" else min(_UNIFORM_STRIDES, num_layers)
    return tuple(round(index * num_layers / strides) for index in range(strides + 1))
