"""`raydisc plan`: what it prints, what it refuses, and that it trains and reads no weights."""

import gc
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import pytest
from tiny_models import tiny_config
from transformers import PreTrainedTokenizerFast

from raydisc.cli.main import main
from raydisc.config.experiment import load_experiment
from raydisc.errors import InputError
from raydisc.forecast.devices import parse_bytes
from raydisc.forecast.dry_run import Forecaster
from raydisc.forecast.footprints import Footprints
from raydisc.forecast.plan import shown_beside, total_row
from raydisc.forecast.tables import plan_sheets
from raydisc.report.table import as_text
from raydisc.runtime.planning import forecast
from raydisc.schedules import SCHEDULES
from raydisc.schedules.base import Schedule
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import expand
from raydisc.stages.artifact import Model
from raydisc.stages.base import Stage
from raydisc.stages.context import Result
from raydisc.stages.files import read_structure
from raydisc.stages.kinds import STAGES
from raydisc.stages.plan import Plan
from raydisc.stages.problem import inspect
from raydisc.stages.scoring import run_evaluation
from raydisc.stages.work import Passes, Work
from raydisc.tasks.reviews import word_tokenizer
from raydisc.tasks.tokenised import Split

pytestmark = pytest.mark.integration

FILE = """
task: {reviews: {train: 96, validation: 40, test: 40, clauses: 2}, max_length: 32}
teacher:
  architecture: {model_type: bert, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 4,
    intermediate_size: 32, max_position_embeddings: 32, initializer_range: 0.2}
  finetune: {epochs: 1, lr: 2.0e-3, batch_size: 16}
grid: {scales: [0.8, 0.5, 0.4, 0.25], importance_rows: 32}
student: {scale: 0.25}
once_for_all: {epochs: 1, lr: 1.0e-3, batch_size: 16}
distillation: {epochs: 1, lr: 1.0e-3, batch_size: 16}
schedules: [kd, minidisc]
controls: false
"""


@pytest.fixture(autouse=True)
def _file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(FILE)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """The plan of the file above for eight GPUs."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    path.write_text(FILE)
    return forecast(load_experiment(path), 8, "80GiB")


def text_of(plan):
    return "\n".join(map(as_text, plan_sheets(plan)))


def refusal(capsys, *words):
    assert main(["plan", "tiny.yaml", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("raydisc: ").strip()


def test_json_has_everything_that_scripts_need(capsys, tmp_path, plan):
    assert main(["plan", "tiny.yaml", "--json", "--gpus", "8", "--gpu-memory", "80GiB"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plan)), "the same twice"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"], "nothing is left behind"
    assert set(plan) == {
        "name", "task", "notices", "precision", "devices", "candidates", "stages", "schedules", "experiment", "fits",
    }  # fmt: skip
    assert plan["devices"] == {"kind": "gpu", "count": 8, "memory": 80 * 2**30, "name": "8 GPUs of 80GiB"}
    assert plan["precision"] == "bfloat16"
    assert [row["scale"] for row in plan["candidates"]] == [1.0, 0.8, 0.5, 0.4, 0.25]
    assert [row["student"] for row in plan["candidates"]] == [False, False, False, False, True]
    shares = [row["flops_share"] for row in plan["candidates"]]
    assert shares == sorted(shares, reverse=True)
    for row in plan["stages"]:
        assert set(row) == {
            "kind", "stage", "count", "schedules", "searched", "flops", "stored_bytes", "peak_bytes",
        }  # fmt: skip
        assert row["flops"]["low"] <= row["flops"]["expected"] <= row["flops"]["high"]
    assert plan["experiment"]["stages"] > 5
    for row in plan["fits"]:
        assert (row["fit"]["kind"], row["fit"]["replicate"], row["fewest_workers"]) == ("data", 8, 1)


def test_minidisc_and_maxidisc_stand_side_by_side_whatever_the_file_asks_for(plan):
    schedules = {row["schedule"]: row for row in plan["schedules"]}
    assert list(schedules) == ["kd", "minidisc", "maxidisc"]
    assert [row["asked"] for row in schedules.values()] == [True, True, False]
    assert schedules["maxidisc"]["trials"] == 3
    assert schedules["minidisc"]["assistants"] == [[0.5], [0.4]], "the smaller half of those above the student"
    cheapest = schedules["minidisc"]["relative_to_cheapest_path"]
    assert cheapest["low"] < cheapest["expected"] < cheapest["high"]
    assert schedules["kd"]["relative_to_cheapest_path"]["expected"] < 1
    assert schedules["maxidisc"]["relative_to_dearest_path"]["expected"] < 3


def test_schedules_of_one_name_and_controls_of_several_rivals_have_lines_of_their_own():
    named = ["schedules=[minidisc, {minidisc: {lam: 0.4}}, {maxidisc: {paths: 1}}]", "controls=[kd_equal_compute]"]
    plan = forecast(load_experiment("tiny.yaml", named), 1, "80GiB")
    labels = [
        "kd_equal_compute", "kd_equal_compute-lam-0.4", "minidisc", "minidisc-lam-0.4", "maxidisc-paths-1",
    ]  # fmt: skip
    assert [row["label"] for row in plan["schedules"]] == labels
    lines = text_of(plan).splitlines()
    assert all(sum(line.startswith(f"{label}  ") for line in lines) == 1 for label in labels)


def test_schedules_that_the_file_lacks_are_added_where_the_grid_has_room():
    def names(*overrides):
        trials = shown_beside(load_experiment("tiny.yaml", overrides), [0.25])
        return list(dict.fromkeys((trial.schedule.name, trial.schedule.assistants) for trial in trials))

    assert names("schedules=[maxidisc]") == [("minidisc", 1)]
    assert names("schedules=[{minidisc: {assistants: 2}}]") == [("maxidisc", 2)]
    assert names("schedules=[{minidisc: {assistants: 3}}]") == [("maxidisc", 2)]
    assert names("schedules=[kd]") == [("minidisc", 1), ("maxidisc", 1)]
    assert names("schedules=[minidisc, maxidisc]") == []
    assert names("schedules=[kd]", "grid.scales=[0.25]") == []


def test_trainings_share_the_rows_and_the_batches_that_they_have_in_common(tmp_path):
    """A plan of many seeds, teachers and students must not hold the data once for each of their stages."""

    def splits():
        gc.collect()
        return sum(isinstance(it, Split) for it in gc.get_objects())

    before = splits()
    experiment = load_experiment("tiny.yaml", ["seeds=[0, 1, 2]", "schedules=[kd, maxidisc, minidisc]"])
    forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path / "scratch")
    forecasts = [way for trial in expand(experiment, [0.25]) for way in forecaster.forecasts(trial)]
    trainings = [stage.plan.training for way in forecasts for stage in way.stages if stage.plan.training]
    sources = {id(training.source): training.source for training in trainings}
    assert len({id(training) for training in trainings}) > 20
    assert len(sources) == 4, "one for each seed, beside that of the teacher, which is fine-tuned with a curriculum"
    assert len({id(source.split) for source in sources.values()}) == 1
    assert splits() - before == 3, (
        "train, validation, all of which is looked at for the choice of the assistant, and test"
    )


@dataclass(frozen=True)
class Note(Stage):
    """A stage of another package."""

    kind: ClassVar[str] = "note"

    def compute(self, context):
        return Result({}, 0.0)

    def plan(self, outlook):
        return Plan({})

    def label(self, undecided=False):
        return "a note"


class NotedFirst(Schedule):
    """Asks for something else before the preparation."""

    name = "noted_first"

    def run(self, search):
        yield Note()
        ready = yield from search.prepare()
        return Outcome((yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale)))


def test_a_schedule_may_ask_for_something_else_before_the_task():
    with SCHEDULES.registering(NotedFirst):
        plan = forecast(load_experiment("tiny.yaml", ["schedules=[noted_first]"]), 1, "80GiB")
    [test] = [row for row in plan["stages"] if row["kind"] == "evaluate"]
    assert "noted_first" in test["schedules"]
    assert test["flops"]["low"] > 0


@dataclass(frozen=True)
class Looked(Stage):
    """A stage of another package that runs a model and has no field for the task."""

    kind: ClassVar[str] = "looked"
    model: Model

    def compute(self, context):
        return Result({}, 0.0)

    def plan(self, outlook):
        passes = Passes("run", read_structure(outlook.store, self.model), Counter({(64, 32): 1}))
        return Plan({}, Work((passes,)), run=run_evaluation)

    def label(self, undecided=False):
        return "a look"


class LookedAt(Schedule):
    """Looks at the student."""

    name = "looked_at"

    def run(self, search):
        ready = yield from search.prepare()
        student = yield from search.distil(ready, ready.teacher, ready.teacher, search.student_scale)
        yield Looked(Model(student))
        return Outcome(student)


def test_a_stage_needs_no_field_for_the_task(tmp_path):
    with SCHEDULES.registering(LookedAt), STAGES.registering(Looked):
        experiment = load_experiment("tiny.yaml", ["schedules=[looked_at]", "controls=false"])
        forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path)
        [planned] = forecaster.forecasts(*expand(experiment, [0.25]))
        footprints = Footprints(forecaster, "float32")
        [found] = [footprints.of(stage) for stage in planned.stages if stage.request.kind == "looked"]
    assert found.peak > found.activations > 0


def test_the_whole_run_is_what_was_asked_for_with_one_teacher_for_all_seeds(tmp_path):
    def total(*overrides):
        experiment = load_experiment("tiny.yaml", overrides)
        forecaster = Forecaster(experiment, inspect(experiment, weights=False), tmp_path / str(len(overrides)))
        return total_row([forecaster.forecasts(trial) for trial in expand(experiment, [0.25])], None)["flops"]

    alone, twice = total(), total("seeds=[0, 1]")
    assert alone["low"] < alone["expected"] < alone["high"] < twice["low"]
    assert twice["high"] < 2 * alone["low"]


def test_tables_of_a_plan(plan):
    printed = text_of(plan)
    titles = ["candidates", "stages", "what each search costs", "memory, on 8 GPUs of 80GiB"]
    assert [line for line in printed.splitlines() if line.startswith("tiny: ")] == [f"tiny: {it}" for it in titles]
    lines = [line.split() for line in printed.splitlines()]
    assert ["scale", "measured", "parameters", "a", "forward", "share"] in lines
    assert any(line[:2] == ["0.25", "student"] for line in lines)
    supernet = next(line for line in printed.splitlines() if line.startswith("once-for-all 0.5, 0.4, 0.25"))
    assert "minidisc" in supernet
    [maxidisc] = [line for line in lines if line[:2] == ["maxidisc", "*"]]
    assert maxidisc[2:7] == ["0.8", "…", "0.4", "0.25", "3"]
    [minidisc] = [line for line in lines if line[0:3] == ["minidisc", "0.5", "or"]]
    assert minidisc[3:6] == ["0.4", "0.25", "1"]
    assert "8 replicas" in printed


def test_a_teacher_that_is_only_a_configuration_can_be_planned(capsys, tmp_path):
    folder = tmp_path / "teacher"
    config = tiny_config("bert", num_labels=3)
    config.vocab_size, config.max_position_embeddings = len(word_tokenizer()), 32
    config.save_pretrained(folder)
    PreTrainedTokenizerFast.save_pretrained(word_tokenizer(), folder)
    words = ["--set", f"teacher={{model: {folder}}}"]
    assert main(["plan", "tiny.yaml", *words]) == 0
    printed = capsys.readouterr().out
    assert "\ntake in the teacher " in printed
    assert "memory, on this machine" in printed
    assert "\x1b" not in printed
    assert "holds no weights" in refusal_of_validate(capsys, *words)
    (folder / "config.json").unlink()
    assert "it has no config.json" in refusal(capsys, *words)


def refusal_of_validate(capsys, *words):
    assert main(["validate", "tiny.yaml", *words]) == 2
    return capsys.readouterr().err


# Refusals.


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gpus", "0", "--gpu-memory", "80GiB"], "`--gpus` must be at least 1, but is 0"),
        (["--gpus", "-2", "--gpu-memory", "80GiB"], "`--gpus` must be at least 1, but is -2"),
        (["--gpus", "8"], "--gpus and --gpu-memory belong together"),
        (["--gpu-memory", "80GiB"], "--gpus and --gpu-memory belong together"),
        (
            ["--gpus", "8", "--gpu-memory", "80 bananas"],
            "`--gpu-memory` must be an amount of memory such as 80GiB or 40000MB, but is '80 bananas'",
        ),
        (["--gpus", "8", "--gpu-memory", "80"], "such as 80GiB or 40000MB, but is '80'"),
        (["--address", "auto", "--gpus", "8"], "--address asks the cluster for its devices"),
        (["--address", ""], "--address: it is empty; give the address of a Ray cluster"),
        (["--price", "2.5"], "--price needs --probe"),
        (["--price", "-1", "--probe"], "`--price` must be a number of at least 0"),
        (["--price", "nan", "--probe"], "the price of a device-hour, but is nan"),
    ],
)
def test_devices_that_make_no_sense(capsys, words, sentence):
    assert sentence in refusal(capsys, *words)


def test_a_model_that_cannot_fit_says_how_many_it_would_take():
    plan = forecast(load_experiment("tiny.yaml", ["schedules=[kd]", "grid.scales=[0.25]"]), 1, "300KB")
    refused = [row for row in plan["fits"] if row["refusal"]]
    assert refused
    for row in refused:
        assert row["fit"] is None
        assert re.search(
            r"does not fit 1 device of .*; (sharded over all, it needs \d+ of them|no number of them)", row["refusal"]
        )
        assert row["refusal"] in text_of(plan)
    assert "does not fit " in text_of(plan)


@pytest.mark.parametrize(
    ("text", "count"), [("80GiB", 80 * 2**30), ("40000 MB", 40 * 10**9), ("1.5gib", 3 * 2**29), ("512B", 512)]
)
def test_amounts_of_memory(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "80", "-1GiB", "0GiB", "1e3GiB", "80GiB80"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(InputError, match="must be an amount of memory"):
        parse_bytes(text)


# Seconds.


def test_a_probe_tells_seconds_and_money():
    plan = forecast(load_experiment("tiny.yaml"), probed=True, price=3600.0)
    assert plan["probe"]["samples"] > 10
    for row in plan["schedules"]:
        assert row["device_seconds"]["expected"] > 0
        assert row["money"] == pytest.approx(row["device_seconds"])
    costs = {row["schedule"]: row["device_seconds"]["expected"] for row in plan["schedules"]}
    assert costs["kd"] < costs["minidisc"] < costs["maxidisc"]
    assert plan["experiment"]["money"]["expected"] > costs["minidisc"]
    assert "device hours" in text_of(plan)
    assert "money" in text_of(plan)


def test_a_probe_times_steps_with_checkpointing_where_a_run_has_it(monkeypatch):
    probed = []
    monkeypatch.setattr("raydisc.forecast.timing.compute_twice", lambda model: probed.append(model))
    words = ["schedules=[kd]", "grid.scales=[0.25]"]
    forecast(load_experiment("tiny.yaml", words), probed=True)
    assert not probed
    forecast(load_experiment("tiny.yaml", [*words, "resources.checkpointing=true"]), probed=True)
    assert probed


def test_a_language_task_is_planned_and_probed():
    decoder = (
        "{model_type: llama, hidden_size: 24, num_hidden_layers: 1, num_attention_heads: 4, intermediate_size: 32, "
        "max_position_embeddings: 32, tie_word_embeddings: true}"
    )
    words = ["task.metric=token_likelihood", "task.max_length=16", f"teacher.architecture={decoder}"]
    plan = forecast(load_experiment("tiny.yaml", words), probed=True)
    assert {row["length"] for row in plan["candidates"]} == {16}
    kinds = {row["kind"]: row for row in plan["stages"]}
    assert set(kinds) == {
        "tokenise", "finetune", "teacher_outputs", "importance", "distil", "once_for_all", "finalist", "evaluate",
    }  # fmt: skip
    assert all(row["peak_bytes"] > 0 and row["flops"]["low"] > 0 for kind, row in kinds.items() if kind != "tokenise")
    costs = {row["schedule"]: row["device_seconds"]["expected"] for row in plan["schedules"]}
    assert 0 < costs["kd"] < costs["maxidisc"]
    assert text_of(plan)
