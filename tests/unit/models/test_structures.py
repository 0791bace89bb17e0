"""Structures of models: the place where other ways to make a model smaller than widths go."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from raydisc_outside.structure import Depth
from safetensors.torch import save_file
from test_student_folders import CARD
from tiny_models import tiny_config
from torch import nn

from raydisc.config.schedules import ScheduleOptions
from raydisc.config.sections import DistillationConfig
from raydisc.errors import InputError
from raydisc.models.build import load_frozen
from raydisc.models.cost import ForwardCost
from raydisc.models.form import Form
from raydisc.models.structure import (
    STRUCTURES,
    structure_from_json,
    structure_to_json,
)
from raydisc.models.student_folder import load_student
from raydisc.models.task_heads import weights_of
from raydisc.models.widths import Widths
from raydisc.runs.recorder import candidate_rows
from raydisc.runtime.planning import forecast
from raydisc.schedules import SCHEDULES
from raydisc.schedules.base import Schedule, Trial
from raydisc.schedules.search import Search
from raydisc.schedules.steps import Outcome, Steps
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.files import read_structure
from raydisc.testing.models import state_of, tiny_batch, tiny_teacher
from raydisc.testing.runs import STUDENT_SCALE, TRAINING, run_trial, tiny_experiment

CONFIG = tiny_config("bert", layers=3)


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
