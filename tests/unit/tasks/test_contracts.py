"""The contracts of task kinds, metrics and tasks, over all that are registered."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, PositiveInt

from raydisc.config.experiment import Experiment, StudentConfig, TeacherConfig
from raydisc.config.sections import ReviewsConfig, TaskConfig
from raydisc.errors import InputError
from raydisc.tasks.base import load_task
from raydisc.tasks.kinds import TASK_KINDS
from raydisc.tasks.kinds.base import TaskKind
from raydisc.tasks.metrics import METRICS, Metric
from raydisc.tasks.named import TASKS, Task
from raydisc.tasks.source import TaskSource
from raydisc.testing.metrics import MetricContract
from raydisc.testing.tasks import TaskContract, TaskKindContract


class TestEveryTaskKind(TaskKindContract):
    @pytest.fixture(params=TASK_KINDS.names())
    def kind(self, request: pytest.FixtureRequest) -> TaskKind:
        return TASK_KINDS.get(request.param)


class TestEveryMetric(MetricContract):
    @pytest.fixture(params=METRICS.names())
    def metric(self, request: pytest.FixtureRequest) -> Metric:
        return METRICS.get(request.param)


class Parity(Task):
    """Whether a number is even, in words."""

    name = "parity"

    class Options(BaseModel):
        model_config = ConfigDict(extra="forbid")
        rows: PositiveInt = 40
        metric: str = "accuracy"

    def load(self, options: Options) -> TaskSource:
        numbers = range(options.rows)
        table = pa.table(
            {
                "digits": [f"the number {number}" for number in numbers],
                "parity": [("even", "odd")[number % 2] for number in numbers],
            }
        )
        return TaskSource({"train": table, "validation": table}, ("digits",), options.metric, label="parity")


@pytest.fixture
def parity() -> Iterator[type[Task]]:
    with TASKS.registering(Parity):
        yield Parity


class TestATaskOfAnotherPackage(TaskContract):
    @pytest.fixture
    def task(self, parity: type[Task]) -> type[Task]:
        return parity

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"rows": 60}


@pytest.mark.usefixtures("parity")
def test_an_experiment_file_calls_a_task_by_name() -> None:
    task = load_task(TaskConfig(name="parity", options={"rows": 50}, metric="f1", train_rows=20))
    assert (task.name, task.metric, task.kind.name) == ("parity", "f1", "classification")
    assert (task.classes, task.text) == (("even", "odd"), ("digits",))
    assert (task.splits["train"].num_rows, task.splits["test"].num_rows) == (20, 50)


@pytest.mark.usefixtures("parity")
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (TaskConfig(name="party"), r"unknown task 'party' in task\.name \(did you mean 'parity'\?\)"),
        (TaskConfig(name="parity", options={"row": 3}), "task.options: .*row.*"),
        (TaskConfig(name="parity", options={"rows": 0}), "task.options: rows is 0, but should be .*"),
        (TaskConfig(name="parity", options={"metric": "pearson"}), "the train split of the task 'parity' has labels"),
        (TaskConfig(name="parity", metric="span_f1"), "column 'digits' of the train split of the task 'parity' holds"),
    ],
)
def test_a_named_task_that_cannot_be_loaded(config: TaskConfig, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_task(config)


def test_a_task_without_a_validation_split() -> None:
    class Half(Parity):
        name = "half"

        def load(self, options: Parity.Options) -> TaskSource:
            source = super().load(options)
            return TaskSource({"train": source.splits["train"]}, source.text, source.metric, label="parity")

    with TASKS.registering(Half), pytest.raises(InputError, match="the task 'half' has no validation split"):
        load_task(TaskConfig(name="half"))


def test_words_for_named_tasks_change_no_other_experiment() -> None:
    """The fingerprint of an experiment without them is what it was before there were any."""
    written = TaskConfig(reviews=ReviewsConfig()).model_dump(mode="json")
    assert {"name", "options"}.isdisjoint(written)
    assert TaskConfig(name="parity").model_dump(mode="json")["name"] == "parity"


def test_an_experiment_with_a_named_task_is_written_and_read_again() -> None:
    experiment = Experiment(
        task=TaskConfig(name="parity", options={"rows": 50}),
        teacher=TeacherConfig(model="my-teacher"),
        student=StudentConfig(scale=[0.1]),
    )
    assert "options:" in experiment.to_yaml()
    other = experiment.model_copy(update={"task": TaskConfig(name="parity", options={"rows": 51})})
    assert experiment.fingerprint() != other.fingerprint()


def test_options_belong_to_a_name() -> None:
    with pytest.raises(ValueError, match="'options' belongs to a task with a 'name', but the task is 'reviews'"):
        TaskConfig(reviews=ReviewsConfig(), options={"rows": 1})
