"""Which settings of an experiment reach the keys of which stages: those on which results depend, and no others."""

import shutil
from dataclasses import replace

import pytest
from tiny_models import tiny_config
from tiny_runs import PLAIN, changed, search_of, tiny_experiment, tokens_known
from tiny_schedules import along, minidisc_with

from raydisc.config.experiment import (
    DistillationConfig,
    FineTuneConfig,
    GridConfig,
    OnceForAllConfig,
    ResourcesConfig,
    TaskConfig,
    TeacherConfig,
    TeacherOutputsConfig,
)
from raydisc.config.sections import SandwichConfig
from raydisc.models.precision import Arithmetic
from raydisc.schedules.foresight import foresee
from raydisc.schedules.search import Ready
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.distil import Distil
from raydisc.stages.facts import TaskFacts
from raydisc.stages.importance import Importance
from raydisc.stages.objective import Objective
from raydisc.tasks.reviews import word_tokenizer
from raydisc.testing.models import tiny_teacher
from raydisc.testing.runs import ARCHITECTURE, ONE_THREAD, TRAINING

BASE = tiny_experiment()
ROWS = TaskFacts(
    kind="classification", classes=["a", "b"], num_labels=2, metric="accuracy", max_length=64, text=["text"], pad_id=0,
    vocab_size=60, rows={"train": 200, "validation": 60, "test": 60}, tokens={"train": 2000},
).to_json()  # fmt: skip


def keys_of(search, arithmetic=ONE_THREAD, lam=0.2, assistants=1, find=None):
    """The key of every stage of TAKD by way of 0.5 and of the supernet; of outputs, if they are kept."""
    find = find or tokens_known(search.experiment, search.subject)
    found = foresee(along(search, (0.5,)), arithmetic, find)
    outputs = ["teacher_outputs", "assistant_outputs"] if len(found) == 7 else []
    names = ["tokenise", "finetune", "importance", *outputs[:1], "assistant", *outputs[1:], "student"]
    keys = {name: artifact.key for name, (_, artifact) in zip(names, found, strict=True)}
    data, finetuned, importance = (artifact for _, artifact in found[:3])
    ready = Ready(data, finetuned, Model(importance), importance)
    _, supernet = foresee(minidisc_with(lam, assistants).contest(search, ready), arithmetic, find)[-1]
    return keys | {"once_for_all": supernet.key}


def differing(keys, others):
    """The names of stages that have other keys, or are asked for by one of the two alone."""
    return {name for name in keys | others if keys.get(name) != others.get(name)}


@pytest.fixture(scope="module")
def base_search():
    return search_of(BASE)


@pytest.fixture(scope="module")
def base_keys(base_search):
    return keys_of(base_search)


TRAINED = {"assistant", "student"}
AFTER_ASSISTANT = TRAINED | {"assistant_outputs"}
AFTER_OUTPUTS = AFTER_ASSISTANT | {"once_for_all"}
WITH_OUTPUTS = AFTER_OUTPUTS | {"teacher_outputs"}
AFTER_TEACHER = WITH_OUTPUTS | {"importance"}
EVERYTHING = AFTER_TEACHER | {"tokenise", "finetune"}

CHANGES = {
    "name and storage": ({"name": "other", "storage": "elsewhere"}, set()),
    "trials at once": ({"resources": ResourcesConfig(trials=3)}, set()),
    "other schedules": ({"controls": False, "schedules": ["kd"]}, set()),
    "initialisation": ({"distillation": changed(BASE.distillation, initialisation="teacher")}, {"student"}),
    "importance": ({"grid": changed(BASE.grid, importance="random")}, AFTER_OUTPUTS | {"importance"}),
    "importance rows": ({"grid": changed(BASE.grid, importance_rows=65)}, AFTER_OUTPUTS | {"importance"}),
    "allocation": ({"grid": changed(BASE.grid, allocation="uniform")}, AFTER_OUTPUTS | {"importance"}),
    "a wider grid": ({"grid": changed(BASE.grid, scales=[0.95, 0.9, 0.7, 0.5, 0.4])}, {"once_for_all"}),
    "scales below the student": ({"grid": changed(BASE.grid, scales=[0.9, 0.7, 0.5, 0.4, 0.2])}, set()),
    "fine-tuning": (
        {"teacher": changed(BASE.teacher, finetune=changed(BASE.teacher.finetune, lr=1e-3))},
        AFTER_TEACHER | {"finetune"},
    ),
    "the teacher's seed": ({"teacher": changed(BASE.teacher, seed=1)}, AFTER_TEACHER | {"finetune"}),
    "the architecture": (
        {"teacher": changed(BASE.teacher, architecture=ARCHITECTURE | {"hidden_act": "relu"})},
        AFTER_TEACHER | {"finetune"},
    ),
    "the data": (
        {"task": changed(BASE.task, reviews=changed(BASE.task.reviews, seed=1))},
        EVERYTHING,
    ),
    "max_length": ({"task": changed(BASE.task, max_length=63)}, EVERYTHING),
    "the budgets of outputs": ({"teacher_outputs": TeacherOutputsConfig(budget_gib=1, disk_budget_gib=1)}, set()),
    "outputs in memory by name": ({"teacher_outputs": TeacherOutputsConfig(source="memory")}, set()),
    "outputs on disk": ({"teacher_outputs": TeacherOutputsConfig(budget_gib=0.0)}, set()),
    "outputs on disk by name": ({"teacher_outputs": TeacherOutputsConfig(source="disk")}, set()),
    "no room for outputs": (
        {"teacher_outputs": TeacherOutputsConfig(budget_gib=0.0, disk_budget_gib=0.0)},
        WITH_OUTPUTS,
    ),
    "the type of outputs": ({"teacher_outputs": TeacherOutputsConfig(dtype="bfloat16")}, WITH_OUTPUTS),
    "online outputs": ({"teacher_outputs": TeacherOutputsConfig(source="online")}, WITH_OUTPUTS),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_reaches_the_stages_that_depend_on_it(base_keys, change):
    values, reached = CHANGES[change]
    keys = keys_of(search_of(tiny_experiment(**values)))
    if change == "initialisation":  # the student is cut from the teacher, no longer from its assistant
        assert keys["assistant"] == base_keys["assistant"]
    assert differing(keys, base_keys) == reached


def test_no_room_for_outputs_is_the_same_as_asking_for_none():
    one, other = (
        keys_of(search_of(tiny_experiment(teacher_outputs=TeacherOutputsConfig(**values))))
        for values in ({"budget_gib": 0.0, "disk_budget_gib": 0.0}, {"source": "online"})
    )
    assert one == other


def test_the_type_of_outputs_reaches_no_stage_without_hidden_states():
    found = [
        keys_of(search_of(tiny_experiment(
            distillation=changed(BASE.distillation, losses={"kl_forward": 1.0}),
            teacher_outputs=TeacherOutputsConfig(dtype=dtype),
        )))
        for dtype in ("float16", "bfloat16")
    ]  # fmt: skip
    assert found[0] == found[1]


def test_keys_that_depend_on_the_tokens_are_not_foreseen_without_them(base_search):
    found = foresee(along(base_search, (0.5,)), ONE_THREAD, lambda key: None)
    assert [stage.kind for stage, _ in found] == ["tokenise", "finetune"]


UNREAD = {
    "a loss of weight 0": {"distillation": changed(BASE.distillation, losses={
        "hidden_mse": 1.0, "soft_cross_entropy": 1.0, "kl_reverse": 0.0,
    })},
    "more rows of evaluation than there are": {
        "once_for_all": OnceForAllConfig(**TRAINING, **PLAIN | {"evaluation_rows": 60}),
    },
    "rows of an evaluation that never comes": {
        "once_for_all": OnceForAllConfig(**TRAINING, **PLAIN | {"evaluation_rows": 5}),
    },
}  # fmt: skip


@pytest.mark.parametrize("change", UNREAD)
def test_what_changes_nothing_reaches_no_stage(base_keys, change):
    assert keys_of(search_of(tiny_experiment(**UNREAD[change]))) == base_keys


@pytest.mark.parametrize(
    ("losses", "values"),
    [
        ({"kl_forward": 1.0}, {"layer_mapping": "last"}),
        ({"kl_forward": 1.0}, {"losses": {"kl_forward": 1.0, "hidden_mse": 0.0}}),
    ],
)
def test_layers_that_no_loss_compares_reach_no_stage(base_search, losses, values):
    section = changed(BASE.distillation, losses=losses)
    before, after = (
        keys_of(replace(base_search, experiment=BASE.model_copy(update={"distillation": distillation})))
        for distillation in (section, changed(section, **values))
    )
    assert before == after


def importance(find=None, seed=0, **values):
    data = Artifact("d" * 64, "tokenise", facts=ROWS)
    return Importance.of(data, Artifact("t" * 64, "finetune"), changed(BASE.grid, **values), seed).key(ONE_THREAD)


def test_rows_and_a_seed_reach_importance_only_where_they_choose_something():
    for rows in (200, 1000):
        assert importance(importance_rows=rows, seed=3) == importance(importance_rows=200)
    assert importance(importance_rows=199, seed=3) != importance(importance_rows=199)
    for rows in (64, 65):
        assert importance(importance="magnitude", importance_rows=rows, seed=3) == importance(importance="magnitude")
    assert importance(importance="random", importance_rows=65) == importance(importance="random")
    assert importance(importance="random", seed=3) != importance(importance="random")


def test_the_seed_of_a_finished_teacher_reaches_no_stage(tmp_path, base_search):
    finished = {"model": "somewhere", "finetune": None, "architecture": None}
    found = [
        keys_of(replace(base_search, experiment=BASE.model_copy(update={
            "teacher": changed(BASE.teacher, seed=seed, **finished),
            "grid": changed(BASE.grid, importance_rows=10_000),
        })), find=tokens_known(BASE, base_search.subject))
        for seed in (0, 3)
    ]  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 2.0),
        ("lr", 1e-5),
        ("batch_size", 16),
        ("warmup", 0.2),
        ("weight_decay", 0.1),
        ("max_grad_norm", 2.0),
        ("patience", 1),
        ("dropout", None),
    ],
)
def test_training_settings_reach_their_own_stages(base_search, base_keys, field, value):
    for section, reached in (("distillation", AFTER_ASSISTANT), ("once_for_all", {"once_for_all"})):
        experiment = BASE.model_copy(update={section: changed(getattr(BASE, section), **{field: value})})
        keys = keys_of(replace(base_search, experiment=experiment))
        assert {name for name in keys if keys[name] != base_keys[name]} == reached


@pytest.mark.parametrize(
    ("field", "value"),
    [("losses", {"hidden_mse": 0.5}), ("temperature", 2.0), ("layer_mapping", "last")],
)
def test_the_objective_reaches_all_that_is_trained_by_it(base_search, base_keys, field, value):
    experiment = BASE.model_copy(update={"distillation": changed(BASE.distillation, **{field: value})})
    keys = keys_of(replace(base_search, experiment=experiment))
    reached = {name for name in keys if keys[name] != base_keys[name]}
    # other positions are other outputs; another temperature or weight is not
    assert reached == AFTER_OUTPUTS | ({"teacher_outputs"} if field == "layer_mapping" else set())


@pytest.mark.parametrize(("metric", "reached"), [("accuracy", AFTER_OUTPUTS), ("token_likelihood", WITH_OUTPUTS)])
def test_a_temperature_reaches_the_outputs_of_language_tasks(base_search, metric, reached):
    """There the tokens that are not named are made one class at the temperature."""
    search = replace(base_search, subject=replace(base_search.subject, metric=metric))
    experiment = BASE.model_copy(update={"distillation": changed(BASE.distillation, temperature=2.0)})
    before, after = keys_of(search), keys_of(replace(search, experiment=experiment))
    assert {name for name in after if after[name] != before[name]} == reached


@pytest.mark.parametrize(("metric", "reached"), [("accuracy", set()), ("token_likelihood", WITH_OUTPUTS)])
def test_the_number_of_tokens_that_are_named_reaches_stages_of_language_tasks_alone(base_search, metric, reached):
    search = replace(base_search, subject=replace(base_search.subject, metric=metric))
    experiment = BASE.model_copy(update={"distillation": changed(BASE.distillation, top_tokens=8)})
    before, after = keys_of(search), keys_of(replace(search, experiment=experiment))
    assert {name for name in after if after[name] != before[name]} == reached


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sandwich", "all"),
        ("sandwich", SandwichConfig(largest=True)),
        ("sandwich", SandwichConfig(middle=2)),
        ("sandwich", SandwichConfig(draw="cost", slices=False)),
        ("sandwich", SandwichConfig(draw="uniform", slices=True)),
        ("evaluations", 2),
        ("choose_at", 0.5),
        ("candidates", "smaller_half"),
        ("keep", "best"),
        ("step_loss", "half_mean"),
    ],
)
def test_once_for_all_settings(base_search, base_keys, field, value):
    experiment = BASE.model_copy(update={"once_for_all": changed(BASE.once_for_all, **{field: value})})
    keys = keys_of(replace(base_search, experiment=experiment))
    assert {name for name in keys if keys[name] != base_keys[name]} == {"once_for_all"}


@pytest.mark.parametrize("values", [{"choose_at": 0.5}, {"evaluations": 2}, {"keep": "best"}, {"patience": 1}])
def test_rows_of_evaluations_reach_a_supernet_that_is_evaluated_before_its_end(base_search, values):
    keys = [
        keys_of(replace(base_search, experiment=BASE.model_copy(update={
            "once_for_all": changed(BASE.once_for_all, evaluation_rows=rows, **values)
        })))
        for rows in (30, 59, 60, 61, None)
    ]  # fmt: skip
    assert differing(keys[0], keys[1]) == differing(keys[1], keys[2]) == {"once_for_all"}
    assert keys[2] == keys[3] == keys[4]


@pytest.mark.parametrize("values", [{"choose_at": 0.5}, {}])
def test_lambda_is_in_no_key_of_a_contest(base_search, values):
    """For several assistants all are trained to the end: who cannot be the first may be the second."""
    config = changed(BASE.once_for_all, **values)
    search = replace(base_search, experiment=BASE.model_copy(update={"once_for_all": config}))
    keys = {(lam, several): keys_of(search, ONE_THREAD, lam, several) for lam in (0.1, 0.2) for several in (1, 2)}
    assert keys[0.1, 1] == keys[0.2, 1]
    assert keys[0.1, 2] == keys[0.2, 2]
    assert (keys[0.2, 1] != keys[0.2, 2]) == bool(values)


def test_every_setting_of_a_training_section_was_tried():
    """A new setting must be added to the tests above."""
    training = {"epochs", "lr", "batch_size", "warmup", "weight_decay", "max_grad_norm", "patience", "dropout"}
    own = {"sandwich", "candidates", "choose_at", "evaluations", "evaluation_rows", "keep", "step_loss"}
    assert set(OnceForAllConfig.model_fields) == training | own
    assert set(SandwichConfig.model_fields) == {"largest", "middle", "draw", "slices"}
    objective = {"losses", "temperature", "layer_mapping", "top_tokens"}
    assert set(DistillationConfig.model_fields) == training | objective | {"initialisation"}
    assert set(GridConfig.model_fields) == {"scales", "allocation", "importance", "importance_rows"}
    assert set(FineTuneConfig.model_fields) == training - {"patience", "dropout"} | {"beta2", "curriculum"}
    assert {field for field in Objective.__dataclass_fields__} == objective


def test_the_seed_reaches_what_is_trained_by_it(base_search, base_keys):
    keys = keys_of(replace(base_search, seed=1))
    assert differing(keys, base_keys) == AFTER_OUTPUTS


def test_the_students_scale(base_search, base_keys):
    keys = keys_of(replace(base_search, student_scale=0.2))
    assert {name for name in keys if keys[name] != base_keys[name]} == {"student", "once_for_all"}
    assert keys["assistant"] == base_keys["assistant"]


def test_arithmetic_and_version_reach_everything_that_runs_a_model(base_search, base_keys, monkeypatch):
    for other in (Arithmetic(2), Arithmetic(None), Arithmetic(1, "bfloat16")):
        assert differing(keys_of(base_search, other), base_keys) == EVERYTHING - {"tokenise"}
    monkeypatch.setattr(Distil, "version", 99)
    keys = keys_of(base_search)
    assert {name for name in keys if keys[name] != base_keys[name]} == AFTER_ASSISTANT


def test_keys_are_the_same_in_every_process(base_search, base_keys):
    assert keys_of(base_search) == base_keys == keys_of(search_of(tiny_experiment()))
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in base_keys.values())
    assert len(set(base_keys.values())) == len(base_keys)


def test_paths_do_not_matter_but_contents_do(tmp_path):
    """The same rows and the same checkpoint elsewhere are the same inputs."""
    from raydisc.tasks.base import load_task

    splits = load_task(BASE.task).splits
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        for split, table in splits.items():
            table.to_pandas().astype({"label": int}).to_json(
                tmp_path / folder / f"{split}.jsonl", orient="records", lines=True
            )
    config = tiny_config()
    config.vocab_size = 60
    tiny_teacher(config).save_pretrained(tmp_path / "here" / "teacher")
    word_tokenizer().save_pretrained(tmp_path / "here" / "teacher")
    shutil.copytree(tmp_path / "here" / "teacher", tmp_path / "there" / "teacher")

    def keys(data, teacher):
        files = {split: str(tmp_path / data / f"{split}.jsonl") for split in splits}
        task = TaskConfig(**files, text=["text_0"], metric="accuracy", max_length=30)
        model = TeacherConfig(model=str(tmp_path / teacher / "teacher"))
        return keys_of(search_of(tiny_experiment(task=task, teacher=model)))

    first = keys("here", "here")
    assert keys("there", "there") == first
    tiny_teacher(config, seed=1).save_pretrained(tmp_path / "there" / "teacher")
    other = keys("here", "there")
    assert {name for name in other if other[name] != first[name]} == EVERYTHING - {"tokenise"}
    lines = (tmp_path / "there" / "test.jsonl").read_text().splitlines()
    (tmp_path / "there" / "test.jsonl").write_text("\n".join(lines[:-1]))
    assert keys("there", "here")["tokenise"] != first["tokenise"]
