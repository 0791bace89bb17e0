"""What a file may hold, round trips, and fingerprints."""

from pathlib import Path

import pytest
import yaml
from files import FROM_THE_ISSUE, REVIEWS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raydisc.config.experiment import (
    Experiment,
    ScheduleConfig,
    load_experiment,
)
from raydisc.config.schedules import options_by_name
from raydisc.config.yaml_file import dump_yaml, read_yaml
from raydisc.errors import InputError
from raydisc.schedules.minidisc import MinidiscOptions

SHIPPED = sorted((Path(__file__).parents[3] / "experiments").glob("*.yaml"))


def test_scalars_are_read_as_a_user_means_them(write):
    text = "a: 5e-5\nb: 2e6\nc: on\nd: 2026-01-01\ne: 010\nf: 1_000\ng: no\nh: true\ni: ~\nj: .5\nk: '5'\n"
    assert read_yaml(write(text)) == {
        "a": 5e-5, "b": 2e6, "c": "on", "d": "2026-01-01", "e": 10, "f": "1_000", "g": "no", "h": True,
        "i": None, "j": 0.5, "k": "5",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("task: [", "line 1 is not valid YAML"),
        ("a: 1\na: 2\n", "line 2 is not valid YAML: key 'a' is given twice"),
        ("task: {glue: a, glue: b}\n", "key 'glue' is given twice"),
        ("- kd\n", "should be a list of sections"),
        ("", "should be a list of sections"),
        ("task: !!python/object/apply:os.getcwd []\n", "is not valid YAML"),
        ("{[1]: 2}", "a key must be plain text"),
    ],
)
def test_files_that_are_no_experiment(write, text, sentence):
    with pytest.raises(InputError, match=sentence.replace("[", r"\[")):
        load_experiment(write(text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot read the experiment file .*: No such file"):
        load_experiment(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot read the experiment file .*: Is a directory"):
        load_experiment(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not text"):
        load_experiment(tmp_path / "binary.yaml")


NESTED = "[" * 40 + "]" * 40
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n" for before, after in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"seeds: {NESTED}", "line 1 is not valid YAML: values lie more than 32 deep"),
        (f"seeds: {'[' * 5000}", "line 1 is not valid YAML: values lie more than 32 deep"),
        (BOMB, "line 5 is not valid YAML: there are more than 20000 values"),
        ("grid: &a {scales: *a}", "line 1 is not valid YAML: alias '*a' lies inside what it stands for"),
        ("seeds: !!int abc", "line 1 is not valid YAML: tag 'tag:yaml.org,2002:int' is not read here"),
        ("seeds: !!python/object/apply:os.getpid []", "tag 'tag:yaml.org,2002:python/object/apply:os.getpid' is not"),
        ("seeds: !local 1", "tag '!local' is not read here; write the value plainly"),
        (f"seeds: {'9' * 5000}", "line 1 is not valid YAML: a number has more than 400 digits"),
        ("storage: a\0b", "is not valid YAML: unacceptable character #x0000"),
        ('storage: "a\\0b"', "line 1 is not valid YAML: text has the control character '\\x00'"),
        ('"\\ud800": 1', "line 1 is not valid YAML: text has the control character '\\ud800'"),
        (f"storage: {'x' * 2**20}", "it is larger than 1 MiB"),
        (f"{'x' * 1000}: 1\n{'x' * 1000}: 1", f"key '{'x' * 57}...' is given twice"),
    ],
)
def test_a_file_beyond_bounds(write, text, sentence):
    path = write(text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message
    assert len(message) < 400


def test_aliases_are_read(write):
    assert read_yaml(write("a: &a [1, 2]\nb: *a\nc: [*a, *a]\n")) == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}


# PyYAML itself does not bring back control characters and Unicode's line separators.
_TEXT = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")))
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT


@given(
    st.dictionaries(
        _TEXT,
        _SCALARS | st.lists(_SCALARS, max_size=3) | st.dictionaries(_TEXT, _SCALARS, max_size=3),
    )
)
def test_what_is_dumped_is_read_back(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("yaml") / "data.yaml"
    path.write_text(dump_yaml(data), encoding="utf-8", newline="")
    assert read_yaml(path) == data


# The resolved experiment and its fingerprint.


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_resolved_experiment_is_read_back_equal(write, path):
    experiment = load_experiment(path)
    again = load_experiment(write(experiment.to_yaml(), "experiment.yaml"))
    assert again == experiment
    assert again.fingerprint() == experiment.fingerprint()


def test_a_null_that_was_asked_for_is_read_back(write):
    asked = ["once_for_all.dropout=null", "distillation.patience=null", "once_for_all.sandwich.middle=2"]
    experiment = load_experiment(write(REVIEWS), asked)
    resolved = experiment.to_yaml()
    assert load_experiment(write(resolved, "mine.yaml")) == experiment
    assert experiment.once_for_all.dropout is None
    assert resolved.count("null") == 1


def test_the_resolved_experiment_is_plain_yaml(write):
    resolved = yaml.safe_load(load_experiment(write(FROM_THE_ISSUE)).to_yaml())
    assert resolved["schedules"] == [
        "kd",
        {"maxidisc": {"assistants": 1}},
        {"minidisc": {"lam": 0.2, "assistants": 1, "reinvest": True}},
    ]
    assert resolved["distillation"]["lr"] == 1e-4


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "storage=elsewhere",
        "resources.trials=3",
        "resources.checkpoint_every_s=5",
        "budget.trials=3",
        "resources.wait_minutes=5",
        "resources.stall_minutes=5",
    ],
)
def test_the_fingerprint_ignores_what_changes_no_result(write, override):
    path = write(REVIEWS)
    assert load_experiment(path, [override]).fingerprint() == load_experiment(path).fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "seeds=[1]",
        "resources.cpus=2",
        "resources.precision=bfloat16",
        "student.scale=0.2",
        "schedules=[kd]",
        "controls=false",
        "grid.scales=[0.5]",
    ],
)
def test_the_fingerprint_sees_what_changes_a_result(write, override):
    path = write(REVIEWS)
    assert load_experiment(path, [override]).fingerprint() != load_experiment(path).fingerprint()


def test_the_fingerprint_is_of_what_is_meant(write):
    path = write(REVIEWS)
    spelled_out = [
        "student.scale=[0.1]",
        "seeds=[0]",
        "schedules=[{kd: {}}, {maxidisc: null}, {minidisc: {lam: 0.2}}]",
    ]
    assert load_experiment(path, spelled_out).fingerprint() == load_experiment(path).fingerprint()


# Python.


def test_schedules_in_python():
    schedule = ScheduleConfig(name="minidisc", options=MinidiscOptions(lam=0.5))
    assert schedule == ScheduleConfig.model_validate({"minidisc": {"lam": 0.5}})
    assert ScheduleConfig.model_validate({"takd": {"path": [0.5, 0.3]}}).options.path == [0.5, 0.3]
    with pytest.raises(ValidationError):
        ScheduleConfig(name="kd", options=MinidiscOptions())


def test_every_field_says_what_it_is():
    sections = [Experiment, *options_by_name().values()]
    seen = set()
    while sections:
        section = sections.pop()
        if section in seen:
            continue
        seen.add(section)
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__name__}.{name} has no description"
            inside = [field.annotation, *getattr(field.annotation, "__args__", ())]
            sections += [kind for kind in inside if isinstance(kind, type) and hasattr(kind, "model_fields")]
    assert len(seen) > 12
