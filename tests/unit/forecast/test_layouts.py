"""Layouts of a run's workers: as few parts of the weights as memory allows, and refusals that say what it takes."""

import re

import pytest
from tiny_runs import changed, tiny_experiment
from tiny_schedules import minidisc_trial

from raydisc.config.resources import ResourcesConfig
from raydisc.config.sections import TeacherConfig
from raydisc.errors import InputError
from raydisc.forecast.dry_run import Forecaster
from raydisc.forecast.footprints import Footprints
from raydisc.forecast.layouts import Layouts, heaviest_stages, layouts_for, settled_layouts
from raydisc.parallel.mesh import Layout
from raydisc.stages.problem import inspect
from raydisc.testing.runs import ARCHITECTURE, STUDENT_SCALE

pytestmark = pytest.mark.integration

MIB = 2**20
WIDE = ARCHITECTURE | {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2}
ROOMY = 2**34
"""Bytes: anything tiny fits."""

TRIALS = [minidisc_trial(STUDENT_SCALE)]


@pytest.fixture(scope="module")
def wide():
    experiment = tiny_experiment()
    return changed(experiment, teacher=TeacherConfig(architecture=WIDE, finetune=experiment.teacher.finetune))


@pytest.fixture(scope="module")
def stages(wide, tmp_path_factory):
    """The heaviest stages of a search."""
    forecaster = Forecaster(wide, inspect(wide), tmp_path_factory.mktemp("scratch"))
    footprints = Footprints(forecaster, "float32")
    return heaviest_stages([forecaster.forecasts(trial) for trial in TRIALS], footprints)


def settled(stages, memory, **resources):
    return layouts_for(stages, ResourcesConfig(**resources), memory)


def needed(stages, **resources):
    """Bytes with which these resources will do, to a thousandth of a MiB."""
    low, high = 0.0, 2.0**30
    while high - low > MIB / 1000:
        middle = (low + high) / 2
        try:
            settled(stages, middle, **resources)
            high = middle
        except InputError:
            low = middle
    return high


LEAST = {"parallel": "shard", "synchronise": "candidate"}


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({"workers": 4}, Layout(4, 1)),
        ({"workers": 4, "parallel": "shard"}, Layout(1, 4)),
        ({"workers": 4, "parallel": "hybrid", "shard": 2}, Layout(2, 2)),
        ({"workers": 4, "parallel": "shard", "synchronise": "candidate"}, Layout(1, 4, once=False)),
    ],
)
def test_with_room_for_all_only_what_is_asked_for_is_sharded(stages, resources, wanted):
    assert settled(stages, ROOMY, **resources) == Layouts(wanted, wanted)


def test_less_memory_means_more_parts_and_then_more_messages(stages):
    least = needed(stages, workers=4, **LEAST)
    assert settled(stages, least, workers=4) == Layouts(Layout(1, 4, False), Layout(1, 4, False))
    found = [settled(stages, least * more, workers=4).trial for more in (1.0, 1.2, 1.5, 2.0, 3.0, 8.0)]
    parts = [layout.shard for layout in found]
    assert parts == sorted(parts, reverse=True)
    assert found[-1] == Layout(4, 1)
    assert any(layout.shard > 1 and layout.once for layout in found)


def test_a_model_that_does_not_fit_says_how_many_workers_it_takes(stages):
    least = needed(stages, workers=8, **LEAST)
    with pytest.raises(InputError, match=r"resources.workers: .*, even sharded; sharded over all, it needs") as refused:
        settled(stages, least, workers=2)
    takes = int(re.search(r"needs (\d+) of them", str(refused.value))[1])
    assert 2 < takes <= 8
    settled(stages, least, workers=8)
    with pytest.raises(InputError, match=r"does not fit 8 devices .* with a whole copy on each; sharded over all"):
        settled(stages, least, workers=8, parallel="data")
    with pytest.raises(InputError, match="does not fit 1 device "):
        settled(stages, least)


def test_shards_in_the_host_s_memory_leave_more_of_the_device(stages):
    settings = {"workers": 2, "gpus": 1.0, **LEAST}
    assert needed(stages, offload=True, **settings) < needed(stages, **settings) - 0.05 * MIB


def test_activations_that_are_computed_twice_need_less_memory(wide, stages, tmp_path):
    forecaster = Forecaster(wide, inspect(wide), tmp_path)
    thrifty = Footprints(forecaster, "float32", checkpointing=True)
    found = heaviest_stages([forecaster.forecasts(trial) for trial in TRIALS], thrifty)
    kept, twice = (
        {stage.request.kind: footprint for footprint, stage in them if footprint.gradients} for them in (stages, found)
    )
    assert kept.keys() == twice.keys() == {"finetune", "once_for_all", "distil"}
    for kind, footprint in twice.items():
        assert footprint.activations < 0.8 * kept[kind].activations


def test_the_teacher_s_workers_are_laid_out_by_its_own_stages(stages):
    """What is trained takes more memory than importance and the teacher's outputs."""
    frozen = [(footprint, stage) for footprint, stage in stages if stage.request.kind != "finetune"]
    memory = 0.9 * needed([it for it in frozen if not it[1].request.of_teacher], workers=1)
    found = settled(frozen, memory, workers=4, teacher_workers=2)
    assert found.trial.workers == 4
    assert found.teacher == Layout(2, 1)


def test_a_small_model_alone_is_not_even_foreseen(wide):
    """Nor is its data read: the experiment has no task that could be."""
    nowhere = changed(wide, task=changed(wide.task, max_length=-1))
    assert settled_layouts(nowhere, inspect(wide), TRIALS, "float32", 2**34) == Layouts()


def test_a_run_s_workers_are_laid_out_by_its_stages(wide):
    several = changed(wide, resources=ResourcesConfig(workers=2, parallel="shard"))
    assert settled_layouts(several, inspect(wide), TRIALS, "float32", 2**34) == Layouts(Layout(1, 2), Layout(1, 2))
    with pytest.raises(InputError, match="does not fit 1 device "):
        settled_layouts(wide, inspect(wide), TRIALS, "float32", MIB)
