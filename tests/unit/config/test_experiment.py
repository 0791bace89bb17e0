"""The experiment file: what is accepted, what is refused and in which words."""

from pathlib import Path

import pytest
from files import FROM_THE_ISSUE, GLUE, REVIEWS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from raydisc.config.experiment import (
    Experiment,
    GridConfig,
    ReviewsConfig,
    StudentConfig,
    TaskConfig,
    TeacherConfig,
    load_experiment,
)

SHIPPED = sorted((Path(__file__).parents[3] / "experiments").glob("*.yaml"))


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


FROM_SCRATCH = {"quickstart", "language", "learned_search", "tokens"}
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
    assert refusal(text) == "unknown key 'lamb' in schedules[1].minidisc (did you mean 'lam'?)"


def test_unknown_names(refusal):
    assert refusal(REVIEWS, "schedules=[kd, minidsc]") == (
        "unknown schedule 'minidsc' in schedules[1] (did you mean 'minidisc'?)"
    )
    assert refusal(REVIEWS, "distillation.losses={hiden_mse: 1}") == (
        "unknown loss 'hiden_mse' in distillation.losses (did you mean 'hidden_mse'?)"
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
        ("controls=1", "controls is 1, but should be true, false or a list of controls"),
        ("controls=[takd_smalest]", "unknown control 'takd_smalest' in controls (did you mean 'takd_smallest'?)"),
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
        ("teacher={model: x, finetune: {}, seeds: [1, 1]}", "teacher: 'seeds' names a seed twice: [1, 1]"),
        (
            "teacher={model: x, seeds: [0, 1]}",
            "teacher: 'seeds' makes several teachers by fine-tuning, so it needs 'finetune' ({} takes the defaults)",
        ),
        (
            "teacher={model: x, finetune: {}, seed: 2, seeds: [0]}",
            "teacher: 'seed' is 2 and 'seeds' is [0]; give one of them",
        ),
        ("teacher={model: x, finetune: {}, seeds: []}", "teacher.seeds is [], but should have at least 1 in it"),
        (
            "schedules=[{name: [1]}]",
            "unknown schedule '[1]' in schedules[0] (known: kd, takd, maxidisc, minidisc, "
            "minidisc_paper, autodisc, optuna, recommend); "
            "a schedule of your own has to be installed as an entry point in the group raydisc.schedules",
        ),
        ("seeds=[-1]", "seeds[0] is -1, but should be greater than or equal to 0"),
        ("schedules=[kd, kd]", "schedules names one schedule twice with the same options"),
        (
            "schedules=[{kd: {}, takd: {}}]",
            "schedules[0] is {'kd': {}, 'takd': {}}, but should be a schedule's name, or one name with its options",
        ),
        ("schedules=[{takd: {}}]", "schedules[0].takd needs the key 'path'"),
        ("schedules=[takd]", "schedules[0] needs the key 'path'"),
        (
            "schedules=[{minidisc: {lam: -1}}]",
            "schedules[0].minidisc.lam is -1, but should be greater than or equal to 0",
        ),
        (
            "schedules=[{name: minidisc, options: {lam: -1}}]",
            "schedules[0].options.lam is -1, but should be greater than or equal to 0",
        ),
        (
            "schedules=[{takd: {path: [0.3, 0.5]}}]",
            "schedules[0].takd: the path [0.3, 0.5] must fall from each assistant to the next",
        ),
        (
            "schedules=[{takd: {path: [0.1]}}]",
            "schedules: the takd path [0.1] must stay above the student's scale 0.1",
        ),
        ("name=ledger", "a run cannot be named 'ledger': the storage has a folder of that name"),
        ("task.metric=[a]", "task.metric is ['a'], but should be text"),
        ("teacher.model=null", "teacher: needs exactly one of 'model' and 'architecture', but has no such key"),
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
        ("{}", "task: needs exactly one of 'train', 'glue', 'reviews' and 'name', but has no such key"),
        (
            "{glue: sst2, reviews: {}}",
            "task: needs exactly one of 'train', 'glue', 'reviews' and 'name', but has 'glue' and 'reviews'",
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
