"""The contract of structures over every kind in the registry, and what it notices."""

import pytest
from raydisc_outside.structure import Depth
from tiny_models import tiny_config

from raydisc.models.form import Form
from raydisc.models.structure import STRUCTURES, Size
from raydisc.models.widths import Widths
from raydisc.testing.models import tiny_batch, tiny_teacher
from raydisc.testing.structures import StructureContract

EXAMPLES = {"widths": [Widths((2, 2, 2), (7, 7, 7)), Widths((3, 0, 1), (0, 20, 5))]}
"""The structures of each kind that are held to the contract."""


def test_every_kind_is_held_to_the_contract():
    assert {*EXAMPLES} == {*STRUCTURES.names()}


class TestEveryStructure(StructureContract):
    @pytest.fixture(params=[it for kind in EXAMPLES.values() for it in kind], ids=str)
    def structure(self, request):
        return request.param

    @pytest.fixture(params=["bert", "qwen3"])
    def config(self, request):
        return tiny_config(request.param)


class TestNestedWidths(StructureContract):
    @pytest.fixture
    def structure(self):
        return Widths((2, 0, 1), (5, 7, 0))

    @pytest.fixture
    def wider(self):
        return Widths((2, 1, 1), (9, 7, 3))


class Unchecked(Depth):
    @classmethod
    def from_json(cls, values):
        return cls(values["layers"])


class Boundless(Depth):
    def fits(self, config):
        return True


class One(Depth):
    @classmethod
    def of_candidate(cls, candidate, **settings):
        return cls(1)


class Uncut(Depth):
    def cut(self, state, config):
        return state


class Doubled(Depth):
    """Changes weights each time that it cuts them."""

    def cut(self, state, config):
        return {name: 2 * tensor for name, tensor in super().cut(state, config).items()}


class AsLarge(Depth):
    def size(self, config, teacher_parameters):
        return Size(1.0, teacher_parameters)


class WithoutScores(Depth):
    def flops(self, layers, batch_size, length):
        return super().flops(layers, batch_size * length, 1)


class ByNumbers(Depth):
    """Is built by the numbers in its weights."""

    def shape(self, model, config):
        if float(model.classifier.weight.abs().sum()) < 0:
            raise AssertionError


CONFIG, CONTRACT = tiny_config("bert"), StructureContract()
TEACHER, BATCH = tiny_teacher(CONFIG), tiny_batch(CONFIG)
WIDER = Depth(3)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Unchecked, lambda it: CONTRACT.test_it_goes_through_json(it, it)),
        (Boundless, lambda it: CONTRACT.test_what_fits_a_teacher(it, it, CONFIG)),
        (One, lambda it: CONTRACT.test_a_student_has_it_by_its_form(it, CONFIG, Form.of("depth", layers=2))),
        (One, lambda it: CONTRACT.test_a_student_has_it_by_its_form(it, CONFIG, None)),
        (Uncut, lambda it: CONTRACT.test_what_is_built_takes_what_is_cut(it, CONFIG, TEACHER)),
        (Doubled, lambda it: CONTRACT.test_the_full_structure_is_the_teacher(it, CONFIG, TEACHER, BATCH)),
        (Doubled, lambda it: CONTRACT.test_cutting_twice_is_cutting_once(it, type(it)(3), CONFIG, TEACHER)),
        (AsLarge, lambda it: CONTRACT.test_its_size_is_that_of_its_model(it, WIDER, CONFIG, TEACHER)),
        (WithoutScores, lambda it: CONTRACT.test_flops_are_those_that_torch_counts(it, WIDER, CONFIG)),
        (ByNumbers, lambda it: CONTRACT.test_it_runs_without_contents(it, CONFIG, BATCH)),
    ],
    ids=lambda it: it.__name__ if isinstance(it, type) else "",
)
def test_a_fault_is_noticed(kind, check):
    with STRUCTURES.registering(kind), pytest.raises((AssertionError, KeyError, RuntimeError, pytest.fail.Exception)):
        check(kind(2))
