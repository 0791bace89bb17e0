"""The experiment file: what is accepted, what is refused and in which words, overrides, round trips."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raydisc.errors import InputError
from raydisc.experiment import (
    SCHEDULES,
    Experiment,
    GridConfig,
    MinidiscOptions,
    ReviewsConfig,
    ScheduleConfig,
    StudentConfig,
    TaskConfig,
    TeacherConfig,
    load_experiment,
)
from raydisc.experiment_file import dump_yaml, read_yaml
from raydisc.settings import SandwichConfig

SHIPPED = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))

FROM_THE_ISSUE = """
task:        {train: data/train.parquet, validation: data/validation.parquet, test: data/test.parquet,
              text: [sentence], label: label, metric: accuracy, max_length: 128}
teacher:     {model: path-or-hub-name, finetune: {epochs: 3, lr: 5.0e-5}}     # no finetune: a teacher already
grid:        {scales: [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05], importance: gradient}
student:     {scale: 0.1}
schedules:   [kd, maxidisc, {minidisc: {lam: 0.2, assistants: 1}}]
once_for_all: {epochs: 3, lr: 1.0e-4, batch_size: 32, sandwich: all}
distillation: {epochs: 3, lr: 1.0e-4, batch_size: 32, initialisation: supernet}
seeds:       [0, 1, 2]
resources:   {trials: auto, cpus: 1, gpus: 0}
storage:     runs
"""

REVIEWS = "task: {reviews: {}}\nteacher: {model: some-teacher}\nstudent: {scale: 0.1}\n"
GLUE = "task: {glue: sst2}\nteacher: {model: some-teacher}\nstudent: {scale: 0.1}\n"


@pytest.fixture
def write(tmp_path):
    def write(text: str, name: str = "mine.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def refusal(write):
    """Load a text with overrides and return the one sentence that refuses it, without the file's name."""

    def refusal(text: str, *overrides: str) -> str:
        path = write(text)
        with pytest.raises(InputError) as caught:
            load_experiment(path, overrides)
        message = str(caught.value)
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")

    return refusal


def test_the_file_of_the_issue_is_read(write):
    experiment = load_experiment(write(FROM_THE_ISSUE))
    assert experiment.name == "mine"
    assert experiment.task.text == ["sentence"]
    assert experiment.teacher.finetune is not None
    assert experiment.teacher.finetune.lr == 5e-5
    assert [schedule.name for schedule in experiment.schedules] == ["kd", "maxidisc", "minidisc"]
    assert experiment.student.scale == [0.1]
    assert experiment.once_for_all.sandwich == "all"
    assert experiment.notices() == ["grid.scales: 0.05 left out, below the smallest student's scale 0.1"]


def test_defaults():
    experiment = Experiment(
        task=TaskConfig(reviews=ReviewsConfig()),
        teacher=TeacherConfig(model="some-teacher"),
        student=StudentConfig(scale=[0.05]),
    )
    assert experiment.grid.scales == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
    assert [schedule.name for schedule in experiment.schedules] == ["kd", "maxidisc", "minidisc"]
    assert experiment.controls
    assert experiment.distillation.losses == {"hidden_mse": 1.0, "soft_cross_entropy": 1.0}
    assert not experiment.teacher.trust_remote_code
    assert experiment.storage == "runs"
    assert experiment.notices() == []


def test_an_experiment_is_frozen(write):
    experiment = load_experiment(write(REVIEWS))
    with pytest.raises(ValidationError):
        experiment.storage = "elsewhere"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files(path):
    first = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert f"raydisc run experiments/{path.name}" in first, "it opens with its launch command"
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert experiment.notices() == []
    assert {schedule.name for schedule in experiment.schedules} >= {"kd", "maxidisc", "minidisc"}
    assert len([scale for scale in experiment.grid.scales if scale > max(experiment.student.scale)]) >= 5


def test_all_experiments_are_shipped():
    assert {path.stem for path in SHIPPED} >= {"quickstart", "sst2", "mrpc", "sick_nli", "sick_relatedness"}


FROM_SCRATCH = {"quickstart", "language", "tokens"}
"""On the project's own texts, with a vocabulary of their words."""


@pytest.mark.parametrize(
    "path", [path for path in SHIPPED if path.stem not in FROM_SCRATCH], ids=lambda path: path.stem
)
def test_shipped_files_take_glue_from_the_hub(path):
    task = load_experiment(path, ["task.glue=sst2"]).task
    assert (task.glue, task.train, task.text, task.metric, task.classes) == ("sst2", None, [], None, None)


# What is wrong, where, and what would be right.


def test_an_unknown_key_names_the_nearest(refusal):
    assert refusal(REVIEWS + "shedules: [kd]\n") == "unknown key 'shedules' (did you mean 'schedules'?)"
    assert refusal(REVIEWS, "teacher.modle=x") == "unknown key 'modle' in teacher (did you mean 'model'?)"
    assert (
        refusal(REVIEWS, "distillation.temprature=2")
        == "unknown key 'temprature' in distillation (did you mean 'temperature'?)"
    )


def test_a_key_like_no_other_lists_the_known_ones(refusal):
    assert refusal(REVIEWS, "student.wxyz=1") == "unknown key 'wxyz' in student (known: scale, parameters)"


def test_an_unknown_key_deep_in_a_list(refusal):
    text = REVIEWS + "schedules: [kd, {minidisc: {lamb: 0.2}}]\n"
    assert refusal(text) == "unknown key 'lamb' in schedules[1] (did you mean 'lam'?)"


def test_unknown_names(refusal):
    assert refusal(REVIEWS, "schedules=[kd, minidsc]") == (
        "unknown schedule 'minidsc' in schedules[1] (did you mean 'minidisc'?)"
    )
    assert refusal(REVIEWS, "distillation.losses={hiden_mse: 1}") == (
        "unknown key 'hiden_mse' in distillation.losses (did you mean 'hidden_mse'?)"
    )
    assert refusal(REVIEWS, "grid.importance=gradent") == (
        "grid.importance is 'gradent', but should be 'gradient', 'magnitude' or 'random'"
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("distillation.lr=fast", "distillation.lr is 'fast', but should be a number"),
        ("distillation.lr=0", "distillation.lr is 0, but should be greater than 0"),
        ("distillation.lr=.nan", "distillation.lr is nan, but should be a finite number"),
        ("distillation.epochs=true", "distillation.epochs is True, but should be a number"),
        ("distillation.batch_size=2.5", "distillation.batch_size is 2.5, but should be a whole number"),
        ("controls=1", "controls is 1, but should be true or false"),
        ("storage=3", "storage is 3, but should be text"),
        ("grid=[0.9]", "grid is [0.9], but should be a section of keys and values"),
        ("grid.scales=0.9", "grid.scales is 0.9, but should be a list"),
        ("grid.scales=[0.9, 1.5]", "grid.scales[1] is 1.5, but should be less than or equal to 1"),
        ("grid.scales=[]", "grid.scales is [], but should have at least 1 in it"),
        ("student.scale=0", "student.scale is 0, but should be greater than 0"),
        ("student.scale=small", "student.scale is 'small', but should be a number"),
        ("student.scale=[0.1, 2]", "student.scale[1] is 2, but should be less than or equal to 1"),
        ("student.scale=[0.1, 0.1]", "student: names a size twice: [0.1, 0.1]"),
        (
            "resources.trials=many",
            "resources.trials is 'many', but should be 'auto' or a whole number from 1",
        ),
        (
            "resources.gpus=1.5",
            "resources.gpus: 1.5 GPUs: above 1 only whole numbers can be given to a trial",
        ),
        (
            "once_for_all.sandwich=most",
            "once_for_all.sandwich is 'most', but should be 'all' or a section with 'middle' and the like",
        ),
        (
            "once_for_all.sandwich=1",
            "once_for_all.sandwich is 1, but should be 'all' or a section with 'middle' and the like",
        ),
        ("once_for_all.sandwich.midle=2", "unknown key 'midle' in once_for_all.sandwich (did you mean 'middle'?)"),
        ("once_for_all.sandwich.middle=two", "once_for_all.sandwich.middle is 'two', but should be a whole number"),
        (
            "once_for_all.sandwich.middle=-1",
            "once_for_all.sandwich.middle is -1, but should be greater than or equal to 0",
        ),
        (
            "once_for_all.sandwich.draw=costs",
            "once_for_all.sandwich.draw is 'costs', but should be 'uniform' or 'cost'",
        ),
        (
            "once_for_all.candidates=smaller-half",
            "once_for_all.candidates is 'smaller-half', but should be 'smaller_half' or 'all'",
        ),
        (
            "once_for_all={patience: 2, choose_at: 0.5}",
            "once_for_all: 'patience' compares the mean over all candidates, which 'choose_at' ends; "
            "set choose_at: 1 beside it",
        ),
        (
            "distillation.layer_mapping=[[1, 2, 3]]",
            "distillation.layer_mapping is [[1, 2, 3]], but should be 'uniform', 'last', 'all' or a list of "
            "[student layer, teacher layer] pairs",
        ),
        (
            "distillation.losses={label: 0}",
            "distillation: every weight in 'losses' is 0, so nothing would be learned",
        ),
        ("seeds=[1, 1]", "seeds names a seed twice: [1, 1]"),
        ("schedules=[{name: [1]}]", "unknown schedule '[1]' in schedules[0] (known: kd, takd, maxidisc, minidisc)"),
        ("seeds=[-1]", "seeds[0] is -1, but should be greater than or equal to 0"),
        ("schedules=[kd, kd]", "schedules names one schedule twice with the same options"),
        (
            "schedules=[{kd: {}, takd: {}}]",
            "schedules[0] is {'kd': {}, 'takd': {}}, but should be a schedule's name, or one name with its options",
        ),
        ("schedules=[{takd: {}}]", "schedules[0] needs the key 'path'"),
        (
            "schedules=[{takd: {path: [0.3, 0.5]}}]",
            "schedules[0]: the path [0.3, 0.5] must fall from each assistant to the next",
        ),
        (
            "schedules=[{takd: {path: [0.1]}}]",
            "the takd path [0.1] must stay above the student's scale 0.1",
        ),
        ("name=ledger", "a run cannot be named 'ledger': the storage has a folder of that name"),
        ("task.metric=[a]", "task.metric is ['a'], but should be text"),
        ("teacher.model=null", "teacher: needs exactly one of 'model' and 'architecture', but has none"),
    ],
)
def test_wrong_values(refusal, override, sentence):
    assert refusal(REVIEWS, override) == sentence


def test_a_name_that_is_no_folder(refusal):
    assert refusal(REVIEWS, "name=a/b") == (
        "name is 'a/b', but should be at most 100 letters, digits, '.', '_' and '-', the first a letter or digit"
    )
    assert "should be at most 100 letters" in refusal(REVIEWS, f"name={'a' * 101}")


@pytest.mark.parametrize("address", ["s3://key:recognisable@bucket/runs", "s3://bucket/runs?secret_key=recognisable"])
def test_a_password_in_the_storage_address_is_not_repeated(refusal, address):
    sentence = refusal(REVIEWS, f"storage={address}")
    assert sentence.startswith("storage is an address with a password or a key in it")
    assert "recognisable" not in sentence


@pytest.mark.parametrize("storage", ["abfs://container@account.dfs.core.windows.net/runs", "runs/token=3"])
def test_a_storage_without_a_password(write, storage):
    assert load_experiment(write(REVIEWS), [f"storage={storage}"]).storage == storage


def test_several_errors_give_the_first_and_their_number(refusal):
    sentence = refusal(REVIEWS, "distillation.lr=fast", "distillation.batch_size=0", "seeds=x")
    assert sentence == "distillation.lr is 'fast', but should be a number (and 2 more)"


def test_a_missing_section(refusal):
    assert refusal("task: {reviews: {}}\nstudent: {scale: 0.1}\n") == "the experiment needs the key 'teacher'"


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("{}", "task: needs exactly one of 'train', 'glue' and 'reviews', but has none"),
        (
            "{glue: sst2, reviews: {}}",
            "task: needs exactly one of 'train', 'glue' and 'reviews', but has 'glue' and 'reviews'",
        ),
        ("{train: a.csv}", "task: needs 'validation', 'text' and 'metric' beside 'train'"),
        ("{glue: sst2, text: [a]}", "task: 'text' belongs to local files ('train'), but the task is 'glue'"),
        (
            "{train: a.csv, validation: b.csv, metric: f1, text: [a, b, c]}",
            "task.text is ['a', 'b', 'c'], but should have at most 2 in it",
        ),
    ],
)
def test_a_task_has_one_source(refusal, task, sentence):
    assert refusal(f"task: {task}\nteacher: {{model: x}}\nstudent: {{scale: 0.1}}\n") == sentence


def test_an_architecture_needs_what_a_checkpoint_would_bring(refusal):
    assert "needs a 'model_type'" in refusal(REVIEWS, "teacher.architecture={hidden_size: 8}")
    assert "needs 'finetune'" in refusal(REVIEWS, "teacher.architecture={model_type: bert}")
    scratch = ["teacher.architecture={model_type: bert}", "teacher.finetune={}"]
    assert "needs teacher.tokenizer" in refusal(GLUE, *scratch)


def test_a_grid_without_room_for_assistants(refusal, write):
    assert refusal(REVIEWS, "grid.scales=[0.1, 0.05]") == (
        "grid.scales has 0 above the student's scale 0.1, but maxidisc needs at least 1 for its assistants"
    )
    assert refusal(REVIEWS, "grid.scales=[0.5, 0.1]", "schedules=[{minidisc: {assistants: 2}}]") == (
        "grid.scales has 1 above the student's scale 0.1, but minidisc needs at least 2 for its assistants"
    )
    alone = load_experiment(write(REVIEWS), ["grid.scales=[0.1]", "schedules=[kd]"])
    assert alone.grid.scales == [0.1], "kd needs no assistant"


def test_a_grid_out_of_order_is_put_in_order_with_a_notice(write):
    experiment = load_experiment(write(REVIEWS), ["grid.scales=[0.5, 0.9, 0.5, 0.2]"])
    assert experiment.grid.scales == [0.9, 0.5, 0.2]
    assert experiment.notices() == [
        "grid.scales was not in descending order without duplicates; it is now 0.9, 0.5, 0.2"
    ]


@given(st.lists(st.floats(min_value=1e-3, max_value=1), min_size=1, max_size=12))
def test_any_grid_becomes_strictly_descending(scales):
    grid = GridConfig(scales=scales)
    assert grid.scales == sorted(set(scales), reverse=True)
    assert (grid.reordered is None) == (grid.scales == scales)


# Overrides.


def test_a_part_of_the_sandwich_is_overridden(write):
    path = write(REVIEWS)
    assert load_experiment(path).once_for_all.sandwich == SandwichConfig()
    found = load_experiment(path, ["once_for_all.sandwich.middle=2", "once_for_all.sandwich.slices=true"])
    assert found.once_for_all.sandwich == SandwichConfig(middle=2, slices=True)
    assert load_experiment(path, ["once_for_all.sandwich=all"]).once_for_all.sandwich == "all"


def test_overrides_reach_every_section(write):
    experiment = load_experiment(
        write(FROM_THE_ISSUE),
        [
            "task.train=b.csv",
            "teacher.finetune.epochs=0.5",
            "grid.scales=[0.7, 0.2]",
            "once_for_all.patience=2",
            "once_for_all.choose_at=1",
        ],
    )
    assert experiment.task.train == "b.csv"
    assert experiment.task.validation == "data/validation.parquet"
    assert experiment.teacher.finetune.epochs == 0.5
    assert experiment.grid.scales == [0.7, 0.2], "a list is replaced whole"
    assert experiment.once_for_all.patience == 2


def test_the_last_override_wins(write):
    assert load_experiment(write(REVIEWS), ["seeds=[1]", "seeds=[2]"]).seeds == [2]


def test_a_section_can_be_taken_away_and_filled(write):
    assert load_experiment(write(FROM_THE_ISSUE), ["teacher.finetune=null"]).teacher.finetune is None
    refilled = load_experiment(write(FROM_THE_ISSUE), ["teacher.finetune=null", "teacher.finetune.epochs=1"])
    assert refilled.teacher.finetune.epochs == 1


def test_an_override_drops_the_alternatives(write):
    path = write(FROM_THE_ISSUE)
    student = load_experiment(path, ["student.parameters=2e6"]).student
    assert (student.scale, student.parameters) == (None, [2e6])
    assert load_experiment(path, ["task.reviews.train=100"]).task.reviews.train == 100
    assert load_experiment(path, ["task.glue=mrpc"]).task.train is None

    files = ["task.train=a.csv", "task.validation=b.csv", "task.text=[s]", "task.metric=f1"]
    for text in (REVIEWS, GLUE):
        task = load_experiment(write(text, "other.yaml"), files).task
        assert (task.train, task.glue, task.reviews) == ("a.csv", None, None)

    scratch = ["teacher.architecture={model_type: bert}", "teacher.tokenizer=t"]
    teacher = load_experiment(path, scratch).teacher
    assert (teacher.model, teacher.tokenizer) == (None, "t")


def test_an_override_beside_the_alternatives_drops_nothing(write):
    task = load_experiment(write(REVIEWS), ["task.metric=accuracy", "task.max_length=32"]).task
    assert task.reviews is not None
    assert task.metric == "accuracy"


def test_overriding_two_alternatives_is_refused(refusal):
    assert "but has 'scale' and 'parameters'" in refusal(REVIEWS, "student.scale=0.2", "student.parameters=2e6")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("student.scale", "--set student.scale should look like --set student.scale=0.1"),
        ("=3", "--set =3 should look like --set student.scale=0.1"),
        ("a..b=3", "--set a..b=3 should look like --set student.scale=0.1"),
        ("seeds.0=3", "--set seeds.0: seeds is a list: give it whole, as in --set seeds=..."),
        (
            "student.scale.x=3",
            "--set student.scale.x: student.scale is a single value, as in --set student.scale=...",
        ),
        ("seeds=[1", "--set seeds=[1, line 1 is not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_overrides_that_cannot_be(refusal, override, sentence):
    assert refusal(REVIEWS + "seeds: [0]\n", override) == sentence


def test_an_override_leaves_the_file_alone(write):
    path = write(FROM_THE_ISSUE)
    load_experiment(path, ["student.scale=0.2"])
    assert path.read_text(encoding="utf-8") == FROM_THE_ISSUE


# YAML.


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
    sections = [Experiment, *SCHEDULES.values()]
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
