"""The `raydisc` command: help, exit codes, and what it hands to the runtime and the reports."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from raydisc.cli.main import main
from raydisc.cli.parser import build_parser
from raydisc.config.experiment import load_experiment
from raydisc.errors import InputError
from raydisc.report.ledger import Ledger

COMMANDS = [
    "run", "recommend", "validate", "plan", "show", "compare", "resume", "ls", "submit", "status", "logs", "stop", "gc",
    "predict", "schema", "completion",
]  # fmt: skip
ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "experiments" / "quickstart.yaml"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def driver(monkeypatch):
    """A driver and its surroundings that only note what they are asked for."""
    asked = SimpleNamespace(
        ran=[], checked=[], printed=[], plain=[], outcome=lambda: SimpleNamespace(failures=[], following=[], places={})
    )

    def run_experiment(experiment, reporter):
        asked.ran.append(experiment)
        return asked.outcome()

    def check_experiment(experiment):
        asked.checked.append(experiment)
        return ["the test has no labels"]

    def print_comparison(ledger, runs, file=None, plain=False):
        asked.printed.append((ledger.root, runs))

    parts = {
        "raydisc.runtime.driver": {"run_experiment": run_experiment, "check_experiment": check_experiment},
        "raydisc.report.live.reporter": {"LiveReporter": lambda plain: asked.plain.append(plain)},
        "raydisc.report.tables": {"print_comparison": print_comparison},
    }
    for name, contents in parts.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def refusal(capsys, *words: str) -> str:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("raydisc: ")
    assert printed.err.count("\n") == 1
    return printed.err.removeprefix("raydisc: ").strip()


# Help.


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in text
    assert "raydisc run experiments/quickstart.yaml" in text
    assert "exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by its budget or a signal" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_an_example_that_parses(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert all(len(line) <= 110 for line in text.splitlines())
    about, examples = text.split("examples:\n")
    assert len(about.split("\n\n")[1].split()) > 10, "it says what the command does"
    lines = [
        line.split(" | ")[0].split(" > ")[0].split("      ")[0].replace("'", "")
        for line in examples.strip().splitlines()
    ]
    for line in lines:
        words = line.split()
        assert words[:2] == ["raydisc", command]
        assert build_parser().parse_args(words[1:]).command == command


def test_help_does_not_wait_for_heavy_packages():
    script = "import sys, raydisc.cli.main; raydisc.cli.main.build_parser().format_help(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60, cwd=ROOT
    ).stdout.split()
    assert "raydisc.cli.main" in loaded
    assert not {"torch", "ray", "transformers", "pandas", "pyarrow", "matplotlib", "rich"} & set(loaded)


# Words that are not a command.


@pytest.mark.parametrize(
    "words", [[], ["rn"], ["run"], ["compare"], ["show", "a", "b"], ["run", "x.yaml", "--pla"], ["predict", "a", "b"]]
)
def test_wrong_words_are_bad_input(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "--help" in capsys.readouterr().err


# Bad input, told before anything is imported or trained.


def test_a_missing_file(capsys):
    assert (
        refusal(capsys, "run", "none.yaml") == "cannot read the experiment file 'none.yaml': No such file or directory"
    )


@pytest.mark.parametrize("command", ["run", "validate", "plan"])
def test_an_unknown_key(capsys, command):
    sentence = refusal(capsys, command, str(QUICKSTART), "--set", "student.scal=0.1")
    assert sentence == f"{QUICKSTART}: unknown key 'scal' in student (did you mean 'scale'?)"


def test_a_reserved_name(capsys):
    assert "a run cannot be named 'artifacts'" in refusal(capsys, "run", str(QUICKSTART), "--name", "artifacts")


def test_unknown_runs(capsys):
    assert "there is no run 'nothing' in 'runs'" in refusal(capsys, "resume", "nothing")
    Path("runs/quickstart").mkdir(parents=True)
    Path("runs/quickstart/experiment.yaml").write_text(load_experiment(QUICKSTART).to_yaml())
    sentence = refusal(capsys, "resume", "quikstart")
    assert sentence == "there is no run 'quikstart' in 'runs' (did you mean 'quickstart'?)"


@pytest.mark.parametrize("command", ["resume", "show", "compare"])
@pytest.mark.parametrize("run", ["../x", "a/b", "runs/..", "/", "", "a\nb", "x" * 101])
def test_names_that_no_run_can_have(capsys, command, run):
    elsewhere = Path("runs", run, "experiment.yaml")
    if run.isprintable() and len(run) <= 100 and run != "/":
        elsewhere.parent.mkdir(parents=True, exist_ok=True)
        elsewhere.write_text(load_experiment(QUICKSTART).to_yaml())
    sentence = refusal(capsys, command, run)
    assert sentence.startswith("a run's name is ")
    assert sentence.endswith("but should be at most 100 letters, digits, '.', '_' and '-', the first a letter or digit")


@pytest.mark.parametrize("command", ["show", "compare"])
def test_unknown_runs_of_a_ledger(capsys, command):
    assert "nothing" in refusal(capsys, command, "nothing", "--json")


def test_a_storage_without_runs(capsys):
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == "there are no runs in runs yet; start one with `raydisc run FILE`\n"


# What is read from the ledger.


@pytest.fixture
def one_trial():
    """A storage whose ledger has one finished kd trial of a run named `mine`."""
    ledger = Ledger(Path("runs/ledger"))
    costs = {"flops": 2e9, "device_seconds": 1.0, "wall_seconds": 1.0, "cpu_seconds": 1.0}
    stage = {"run": "mine", "trial": "kd", "state": "finished", "finished_at": "2026-01-01T00:00:00"} | costs
    ledger.write("stages", [stage | {"key": "s", "kind": "distil", "inputs": []}], "s")
    trial = {
        "run": "mine", "trial": "kd", "task": "reviews", "metric": "accuracy", "schedule": "kd", "path": [],
        "student_scale": 0.1, "student_parameters": 1000, "initialisation": "teacher", "seed": 0, "student": "s",
        "state": "finished", "validation_metric": 0.8, "stages": ["s"], "reused": [],
    }  # fmt: skip
    ledger.write("trials", [trial], "kd")


@pytest.mark.usefixtures("one_trial")
def test_compare_prints_json_and_writes_csv(capsys):
    assert main(["compare", "runs/mine", "--json", "--csv", "rows.csv"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["run"], row["schedule"], row["path"], row["search_flops"]) == ("mine", "kd", [], 2e9)
    heading, line = Path("rows.csv").read_text().splitlines()
    assert "search_flops" in heading.split(",")
    assert line.startswith("mine,reviews,kd,")


@pytest.mark.usefixtures("one_trial")
def test_compare_prints_a_table(capsys):
    assert main(["compare", "mine"]) == 0
    assert "kd" in capsys.readouterr().out


@pytest.mark.usefixtures("one_trial")
def test_csv_that_cannot_be_written(capsys):
    assert refusal(capsys, "compare", "mine", "--csv", "none/rows.csv") == (
        "--csv none/rows.csv cannot be written: No such file or directory"
    )


@pytest.mark.usefixtures("one_trial")
def test_show_prints_json(capsys):
    assert main(["show", "mine", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["run"] == "mine"
    assert [stage["kind"] for stage in shown["stages"]] == ["distil"]
    assert shown["candidates"] == []


@pytest.mark.usefixtures("one_trial")
def test_show_prints_tables(capsys):
    assert main(["show", "mine"]) == 0
    assert "distil" in capsys.readouterr().out


@pytest.mark.usefixtures("one_trial")
def test_ls_lists_the_runs(capsys):
    assert main(["ls"]) == 0
    assert "mine" in capsys.readouterr().out


# What is handed on.


def test_run_hands_the_experiment_to_the_driver(driver):
    words = ["--set", "seeds=[3]", "--set", "student.parameters=2e5", "--name", "2024", "--storage", "here", "--plain"]
    assert main(["run", str(QUICKSTART), *words]) == 0
    [experiment] = driver.ran
    assert (experiment.name, experiment.storage, experiment.seeds) == ("2024", "here", [3])
    assert experiment.student.parameters == [2e5]
    assert driver.plain == [True]
    assert driver.printed == [(Path("here/ledger"), ["2024"])]


def test_run_is_named_after_its_file(driver):
    assert main(["run", str(QUICKSTART)]) == 0
    assert (driver.ran[0].name, driver.ran[0].storage) == ("quickstart", "runs")


def test_run_tells_where_things_lie(driver, capsys):
    driver.outcome = lambda: SimpleNamespace(
        failures=[], following=[], places={"student": Path("runs/quickstart/student")}
    )
    assert main(["run", str(QUICKSTART)]) == 0
    assert "student: runs/quickstart/student" in capsys.readouterr().out


def test_several_files_are_run_in_turn(driver):
    """All are read before the first is run; what fails does not hold up the others, and its code is the command's."""
    files = sorted((ROOT / "experiments" / "budget_curves").glob("reviews_*.yaml"))
    driver.outcome = lambda: SimpleNamespace(failures=["oh"] if len(driver.ran) == 2 else [], following=[], places={})
    assert main(["run", *map(str, files), "--set", "seeds=[7]"]) == 1
    assert [experiment.name for experiment in driver.ran] == [file.stem for file in files]
    assert all(experiment.seeds == [7] for experiment in driver.ran)


def test_files_that_cannot_be_run_in_turn(driver, capsys):
    file = str(QUICKSTART)
    assert refusal(capsys, "run", file, file, "--name", "one") == (
        "`--name` names one run, but there are 2 files; leave it out"
    )
    assert refusal(capsys, "run", file, file) == (
        "2 of the files are named 'quickstart', but runs of one storage need different names"
    )
    assert "none.yaml" in refusal(capsys, "run", file, "none.yaml")
    assert not driver.ran


def test_failed_trials_fail_the_command(driver, capsys):
    failures = ["maxidisc 0.5: the loss is not finite at step 3"]
    driver.outcome = lambda: SimpleNamespace(failures=failures, following=[], places={})
    assert main(["run", str(QUICKSTART)]) == 1
    assert "maxidisc 0.5: the loss is not finite at step 3" in capsys.readouterr().err


def test_a_run_that_has_spent_its_budget_says_what_would_be_next(driver, capsys):
    driver.outcome = lambda: SimpleNamespace(failures=[], following=["kd", "test-of-kd"], places={})
    assert main(["run", str(QUICKSTART)]) == 3
    said = capsys.readouterr().err
    assert "the budget is spent; next would be: kd, test-of-kd\n" in said
    assert "raydisc resume quickstart --set budget." in said


def test_bad_input_that_the_driver_finds(driver, capsys):
    def refuse():
        raise InputError("task.train: there is no file 'a.csv'")

    driver.outcome = refuse
    assert refusal(capsys, "run", str(QUICKSTART)) == "task.train: there is no file 'a.csv'"


def test_an_interrupted_run_says_how_to_go_on(driver, capsys):
    def interrupt():
        raise KeyboardInterrupt

    driver.outcome = interrupt
    assert main(["run", str(QUICKSTART)]) == 3
    assert capsys.readouterr().err == "raydisc: interrupted; continue with: raydisc resume quickstart\n"
    assert main(["run", str(QUICKSTART), "--storage", "my runs"]) == 3
    assert capsys.readouterr().err.endswith("raydisc resume quickstart --storage 'my runs'\n")


@pytest.mark.parametrize("run", ["mine", "kept/mine", "kept/mine/"])
@pytest.mark.parametrize("place", ["before", "after"])
def test_resume_runs_the_resolved_experiment(driver, run, place):
    folder = Path("kept/mine")
    folder.mkdir(parents=True)
    experiment = load_experiment(QUICKSTART, ["name=mine", "seeds=[7]", "storage=moved"])
    (folder / "experiment.yaml").write_text(experiment.to_yaml())
    storage = ["--storage", "kept"]
    assert main([*storage, "resume", run] if place == "before" else ["resume", run, *storage]) == 0
    [resumed] = driver.ran
    assert (resumed.name, resumed.storage) == ("mine", "kept")
    assert resumed.fingerprint() == experiment.fingerprint()


def test_validate_prints_the_resolved_experiment(driver, capsys):
    assert main(["validate", str(QUICKSTART), "--set", "seeds=[5]"]) == 0
    printed = capsys.readouterr()
    Path("again.yaml").write_text(printed.out)
    assert load_experiment("again.yaml") == load_experiment(QUICKSTART, ["seeds=[5]"]) == driver.checked[0]
    assert printed.err == "notice: the test has no labels\n"
    assert driver.ran == []
