import pytest

from raydisc.errors import InputError
from raydisc.losses.layer_mapping import matched_positions

UNIFORM = {
    1: (0, 1),
    2: (0, 1, 2),
    3: (0, 1, 2, 3),
    4: (0, 1, 2, 3, 4),
    5: (0, 1, 2, 3, 4, 5),
    6: (0, 1, 2, 3, 4, 5, 6),
    7: (0, 1, 2, 4, 5, 6, 7),
    8: (0, 1, 3, 4, 5, 7, 8),
    9: (0, 2, 3, 4, 6, 8, 9),
    10: (0, 2, 3, 5, 7, 8, 10),
    11: (0, 2, 4, 6, 7, 9, 11),
    12: (0, 2, 4, 6, 8, 10, 12),
    13: (0, 2, 4, 6, 9, 11, 13),
}


@pytest.mark.parametrize("num_layers", UNIFORM)
def test_uniform_takes_every_sixth_of_the_layers(num_layers):
    student, teacher = matched_positions("uniform", num_layers)
    assert student == teacher == UNIFORM[num_layers]
    assert all(abs(at - index * num_layers / 6) <= 0.5 for index, at in enumerate(student)) or num_layers < 6
    assert len(set(student)) == len(student)


@pytest.mark.parametrize("num_layers", [1, 6, 13])
def test_last_and_all(num_layers):
    assert matched_positions("last", num_layers) == ((num_layers,), (num_layers,))
    everyone = tuple(range(num_layers + 1))
    assert matched_positions("all", num_layers) == (everyone, everyone)


def test_pairs_name_student_and_teacher():
    assert matched_positions([[0, 0], [1, 2], [4, 4]], 4) == ((0, 1, 4), (0, 2, 4))
    assert matched_positions(((3, 1),), 4) == ((3,), (1,))


@pytest.mark.parametrize("pairs", [[[0, 5]], [[5, 0]], [[-1, 0]], [[0, 1], [1]], [[0, 1, 2]]])
def test_positions_that_the_model_lacks(pairs):
    with pytest.raises(InputError, match=r"distillation.layer_mapping: .* positions .*0 to 4"):
        matched_positions(pairs, 4)


def test_no_pairs():
    with pytest.raises(InputError, match="layer_mapping: the list is empty"):
        matched_positions([], 4)
