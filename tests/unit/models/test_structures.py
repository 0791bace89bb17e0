"""Structures of models: the place where other ways to make a model smaller than widths go."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from safetensors.torch import save_file
from test_student_folders import CARD
from tiny_models import tiny_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import DistillationConfig
from raydisc.errors import InputError
from raydisc.families.base import Config
from raydisc.families.registry import layers_of
from raydisc.families.units import LayerUnits
from raydisc.models.build import build, load_frozen, load_trainable
from raydisc.models.cost import ForwardCost
from raydisc.models.form import Form
from raydisc.models.structure import (
    STRUCTURES,
    Size,
    Structure,
    formed,
    full_structure,
    structure_from_json,
    structure_to_json,
)
from raydisc.models.student_folder import load_student
from raydisc.models.task_heads import weights_of
from raydisc.models.widths import Widths
from raydisc.parallel.shard import blocks_of
from raydisc.runs.recorder import candidate_rows
from raydisc.runtime.planning import forecast
from raydisc.schedules import SCHEDULES
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.search import Search
from raydisc.schedules.steps import Outcome, Steps
from raydisc.stages.artifact import Artifact, Cost, Model
from raydisc.stages.files import read_structure, read_weights, weight_blobs
from raydisc.stages.store import ArtifactStore
from raydisc.tensors.lazy_state import State
from raydisc.testing.models import state_of, tiny_batch, tiny_teacher
from raydisc.testing.runs import STUDENT_SCALE, TRAINING, run_trial, tiny_experiment

CONFIG = tiny_config("bert", layers=3)


@dataclass(frozen=True)
class Depth(Structure):
    """The first layers of a BERT, whole."""

    kind: ClassVar[str] = "depth"
    layers: int

    @classmethod
    def full(cls, config: Config) -> Self:
        return cls(config.num_hidden_layers)

    @classmethod
    def of_candidate(cls, candidate: Structure, **settings: Any) -> Self:
        return cls(settings["layers"])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        return cls(int(values["layers"]))

    def to_json(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def fits(self, config: Config) -> bool:
        return 0 < self.layers <= config.num_hidden_layers

    def model_config(self, config: Config) -> Config:
        shallow = copy(config)
        shallow.num_hidden_layers = self.layers
        return shallow

    def shape(self, model: nn.Module, config: Config) -> None:
        assert len(model.get_submodule("bert.encoder.layer")) == self.layers

    def cut(self, state: State, config: Config) -> State:
        dropped = tuple(f"bert.encoder.layer.{layer}." for layer in range(self.layers, config.num_hidden_layers))
        return {name: state[name] for name in state if not name.startswith(dropped)}

    def flops(self, layers: Sequence[LayerUnits], batch_size: int, length: int) -> int:
        kept = layers[: self.layers]
        widths = Widths(tuple(units.heads.count for units in kept), tuple(units.neurons.count for units in kept))
        return widths.flops(kept, batch_size, length)

    def size(self, config: Config, teacher_parameters: int) -> Size:
        one = sum(
            parameter.numel() for parameter in tiny_teacher(config).get_submodule("bert.encoder.layer.0").parameters()
        )
        dropped = config.num_hidden_layers - self.layers
        return Size(self.layers / config.num_hidden_layers, teacher_parameters - dropped * one)


@pytest.fixture
def shallow() -> Iterator[Depth]:
    """A student without the last layer."""
    with STRUCTURES.registering(Depth):
        yield Depth(2)


def test_a_model_without_its_last_layer_is_built_and_cut(shallow: Depth) -> None:
    teacher, batch = tiny_teacher(CONFIG), tiny_batch(CONFIG)
    state = shallow.cut(state_of(teacher), CONFIG)
    student = load_frozen(CONFIG, shallow, state)
    with torch.no_grad():
        hidden = teacher(**batch.inputs(), output_hidden_states=True).hidden_states[2]
        found = student(**batch.inputs(), output_hidden_states=True).hidden_states
    assert len(found) == 3
    assert torch.allclose(found[-1], hidden, atol=1e-5)


def test_it_is_costed(shallow: Depth) -> None:
    eager = tiny_config("bert", layers=3, attention="eager")  # whose multiplications torch counts
    teacher, batch = tiny_teacher(eager), tiny_batch(eager)
    student = load_trainable(eager, shallow, shallow.cut(state_of(teacher), eager))
    cost = ForwardCost.of(teacher, CONFIG)
    assert cost == ForwardCost.of(student, CONFIG)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        student(**batch.inputs())
    assert cost.flops(shallow, *batch.shape) == counter.get_total_flops()
    parameters = sum(parameter.numel() for parameter in teacher.parameters())
    size = shallow.size(CONFIG, parameters)
    assert size == Size(2 / 3, sum(parameter.numel() for parameter in student.parameters()))
    assert Depth.full(CONFIG).size(CONFIG, parameters) == full_structure(CONFIG).size(CONFIG, parameters)


def test_linears_of_its_own_are_none_of_the_head() -> None:
    teacher = tiny_teacher(CONFIG)
    cost = ForwardCost.of(teacher, CONFIG)
    teacher.get_submodule("bert.encoder.layer.0.output.dense").gate = nn.Linear(24, 3)
    assert ForwardCost.of(teacher, CONFIG) == cost


class Shallow(Schedule[ScheduleOptions]):
    """Distil a student with fewer layers."""

    name = "shallow"

    def run(self, search: Search) -> Steps[Outcome]:
        ready = yield from search.prepare()
        form = Form.of("depth", layers=2)
        student = yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale, form=form)
        return Outcome(student)


@pytest.mark.integration
def test_it_is_distilled_planned_and_told_apart(shallow: Depth, tmp_path: Path) -> None:
    losses = DistillationConfig(**TRAINING, losses={"kl_forward": 1.0})
    with SCHEDULES.registering(Shallow):
        trial = Trial(Shallow(ScheduleOptions()), STUDENT_SCALE, 0)
        ran = run_trial(tiny_experiment(distillation=losses), trial, tmp_path)
        plan = forecast(tiny_experiment(distillation=losses, schedules=["shallow"]), 1, "1GiB")
    stage, student = ran.stages[-1]
    assert read_structure(ran.store, Model(student)) == shallow
    assert stage.settings()["form"] == {"kind": "depth", "settings": (("layers", 2),)}
    [planned] = [row for row in plan["stages"] if row["stage"] == stage.label() == "teacher → 0.25 with depth"]
    assert planned["flops"]["expected"] == student.flops
    assert planned["peak_bytes"] > 0


def test_the_layers_that_it_has_are_sharded(shallow: Depth) -> None:
    student = build(CONFIG, shallow)
    assert blocks_of(student, CONFIG) == list(student.get_submodule("bert.encoder.layer"))


def test_a_structure_that_no_student_can_be_given_is_refused() -> None:
    with pytest.raises(InputError, match="the structure 'widths' is not one that a student can be given"):
        formed(full_structure(CONFIG), Form.of("widths"))


def test_it_is_saved_and_loaded_as_a_student(shallow: Depth, tmp_path: Path) -> None:
    state = shallow.cut(state_of(tiny_teacher(CONFIG)), CONFIG)
    expected = load_frozen(CONFIG, shallow, state)
    save_file(dict(weights_of(expected)), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    (tmp_path / "subnet.json").write_text(json.dumps({"scale": 0.6, **structure_to_json(shallow)}))
    replace(CARD, classes=("a", "b", "c")).write(tmp_path)
    batch = tiny_batch(CONFIG)
    with torch.no_grad():
        assert torch.equal(load_student(tmp_path)(**batch.inputs()).logits, expected(**batch.inputs()).logits)
    (tmp_path / "subnet.json").write_text(json.dumps({"structure": "depth", "layers": 4}))
    with pytest.raises(InputError, match=r"subnet\.json keeps more than config\.json has"):
        load_student(tmp_path)


def test_it_goes_through_artifacts(shallow: Depth, tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    state = shallow.cut(state_of(tiny_teacher(CONFIG)), CONFIG)
    artifact = store.commit(Artifact("k" * 64, "distil"), {}, Cost(), weight_blobs(CONFIG, shallow, 0.6, state))
    weights = read_weights(store, Model(artifact))
    assert (weights.structure, weights.scale) == (shallow, 0.6)
    assert read_structure(store, Model(artifact)) == shallow
    batch = tiny_batch(CONFIG)
    with torch.no_grad():
        logits = [load_frozen(CONFIG, shallow, it)(**batch.inputs()).logits for it in (state, weights.state)]
    assert torch.equal(*logits)


def test_candidates_of_other_structures_have_no_widths_in_the_ledger(shallow: Depth) -> None:
    found = {"measured_scale": 0.6, "flops_share": 0.7, "parameters": 9, "flops": 2.0, "metric": 0.9, "reference": 1.0}
    rows = [{"scale": scale, "se": 0.1, **found} for scale in (0.6, 0.3)]
    rows[0] |= structure_to_json(shallow)
    rows[1] |= structure_to_json(Widths((1, 2), (3, 4)))
    [other, widths] = candidate_rows(Artifact("k" * 64, "once_for_all", facts={"candidates": rows}))
    assert (other["heads"], other["neurons"]) == (None, None)
    assert (widths["heads"], widths["neurons"]) == ([1, 2], [3, 4])


def test_the_kind_stands_in_the_json_of_all_but_widths(shallow: Depth) -> None:
    widths = Widths((1, 0, 4), (20, 3, 0))
    assert structure_to_json(widths) == {"heads": [1, 0, 4], "neurons": [20, 3, 0]}
    assert structure_to_json(shallow) == {"structure": "depth", "layers": 2}
    for structure in (widths, shallow):
        written = json.loads(json.dumps({"scale": 0.5, **structure_to_json(structure)}))
        assert structure_from_json(written) == structure


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"heads": [1]},
        {"heads": [1], "neurons": [-1]},
        {"heads": 3, "neurons": [1]},
        {"heads": None, "neurons": None},
    ],
)
def test_broken_widths_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        structure_from_json(values)


def test_a_kind_that_is_not_installed_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"unknown kind of structure 'experts' \(known: widths\)"):
        structure_from_json({"structure": "experts", "experts": 4})


@pytest.mark.parametrize(
    ("widths", "fits"),
    [
        (Widths.full(CONFIG), True),
        (Widths((0, 0, 0), (0, 0, 1)), True),
        (Widths((5, 0, 0), (0, 0, 1)), False),
        (Widths((4, 4), (20, 20)), False),
    ],
)
def test_what_fits_a_teacher(widths: Widths, fits: bool) -> None:
    assert widths.fits(CONFIG) is fits


@pytest.mark.parametrize("name", STRUCTURES.names())
def test_every_kind_keeps_its_promises_at_full_size(name: str) -> None:
    """The full structure is the teacher: same function, FLOPs as counted, size and JSON."""
    full = STRUCTURES.get(name).full(CONFIG)
    teacher, batch = tiny_teacher(CONFIG), tiny_batch(CONFIG)
    with torch.no_grad():
        student = load_frozen(CONFIG, full, full.cut(state_of(teacher), CONFIG))
        assert torch.equal(student(**batch.inputs()).logits, teacher(**batch.inputs()).logits)
    parameters = sum(parameter.numel() for parameter in teacher.parameters())
    assert full.size(CONFIG, parameters) == Size(1.0, parameters)
    assert full.fits(CONFIG)
    assert structure_from_json(structure_to_json(full)) == full
    assert full.flops(layers_of(CONFIG), 2, 3) == full_structure(CONFIG).flops(layers_of(CONFIG), 2, 3)
