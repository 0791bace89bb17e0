"""The JSON Schema of experiment files: what it accepts and refuses, beside what `load_experiment` does."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from raydisc.cli.main import main
from raydisc.config.experiment import Experiment
from raydisc.config.json_schema import experiment_schema
from raydisc.config.schedules import options_by_name
from raydisc.config.yaml_file import apply_overrides, read_yaml

SHIPPED = sorted((Path(__file__).parents[3] / "experiments").glob("*.yaml"))
QUICKSTART = next(path for path in SHIPPED if path.stem == "quickstart")


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = experiment_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def complaints(validator: Draft202012Validator, data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(data)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_conform(validator: Draft202012Validator, path: Path) -> None:
    assert complaints(validator, read_yaml(path)) == []


def test_the_resolved_experiment_conforms(validator: Draft202012Validator) -> None:
    experiment = Experiment.model_validate(read_yaml(QUICKSTART))
    assert complaints(validator, experiment.model_dump(mode="json")) == []


@pytest.mark.parametrize(
    ("override", "conforms"),
    [
        ("student={scale: [0.2, 0.1]}", True),
        ("student={parameters: 2000000}", True),
        ("student={scale: 1.5}", False),
        ("student={scal: 0.1}", False),
        ("schedules=[kd, maxidisc, minidisc, {takd: {path: [0.5, 0.2]}}]", True),
        ("schedules=[{minidisc: {lam: 0.5, reinvest: false}}, {kd: null}, {maxidisc: {}}]", True),
        ("schedules=[minidsic]", False),
        ("schedules=[takd]", False),
        ("schedules=[{takd: null}]", False),
        ("schedules=[{kd: {}, minidisc: {}}]", False),
        ("schedules=[{minidisc: {lamda: 0.5}}]", False),
        ("schedules=[{minidisc: {lam: -1}}]", False),
        ("once_for_all.sandwich=all", True),
        ("once_for_all.sandwich={middle: 2}", True),
        ("once_for_all.sandwich=some", False),
        ("once_for_all.dropout=null", True),
        ("distillation.losses={hidden_mse: 1}", True),
        ("distillation.losses={hiden_mse: 1}", False),
        ("resources.trials=2", True),
        ("resources.trials=0", False),
        ("bugdet={trials: 1}", False),
    ],
)
def test_the_schema_agrees_with_the_reader(validator: Draft202012Validator, override: str, conforms: bool) -> None:
    data = apply_overrides(read_yaml(QUICKSTART), [override], {})
    assert (complaints(validator, data) == []) is conforms
    if conforms:
        Experiment.model_validate(data)
    else:
        with pytest.raises(ValidationError):
            Experiment.model_validate(data)


def test_a_typing_error_is_named(validator: Draft202012Validator) -> None:
    data = apply_overrides(read_yaml(QUICKSTART), ["grid.allocaton=uniform"], {})
    [complaint] = complaints(validator, data)
    assert complaint.startswith("$.grid: ")
    assert "'allocaton' was unexpected" in complaint


def test_every_setting_has_a_description() -> None:
    sections = experiment_schema()["$defs"]
    assert {options.__name__ for options in options_by_name().values()} <= set(sections)
    for name, section in sections.items():
        for key, setting in section.get("properties", {}).items():
            assert name == "ScheduleConfig" or "description" in setting or "$ref" in setting, f"{name}.{key}"


def test_no_description_has_an_example_of_the_code() -> None:
    schema = experiment_schema()
    assert schema["$defs"]["Experiment"]["description"].endswith("the schedules to compare.")
    assert ">>>" not in json.dumps(schema)


def test_the_command_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == experiment_schema()
