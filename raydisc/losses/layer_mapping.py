"""The hidden states of student and teacher that losses compare."""

from collections.abc import Sequence

from raydisc.errors import InputError

_UNIFORM_STRIDES = 6

Mapping = str | Sequence[Sequence[int]]
"""``uniform``, ``last``, ``all``, or pairs ``[student position, teacher position]``."""


def matched_positions(mapping: Mapping, num_layers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the matched positions among the L + 1 hidden states, of the student and of the teacher.

    Position 0 is the output of the embeddings, position L that of the last layer. ``uniform`` takes the embeddings and
    then every (L / 6)-th layer up to the last; a model of fewer than six layers is matched at every layer. Student and
    teacher have the same number of layers, since arXiv 2205.14570 prunes only inside them.

    Args:
        mapping: The rule, or the pairs of positions.
        num_layers: The number of layers, L.

    Raises:
        InputError: There is no pair, or the model does not have a position.

    Example:
        >>> matched_positions("uniform", 12)
        ((0, 2, 4, 6, 8, 10, 12), (0, 2, 4, 6, 8, 10, 12))
        >>> matched_positions([[1, 2], [3, 3]], 3)
        ((1, 3), (2, 3))
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
