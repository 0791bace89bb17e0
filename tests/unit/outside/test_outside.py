"""The package outside raydisc keeps every contract that raydisc ships."""

import pytest
from raydisc_outside.family import OUTSIDE_BERT
from raydisc_outside.loss import LogitMAE
from raydisc_outside.metric import MEAN_RECALL
from raydisc_outside.schedule import Midway
from raydisc_outside.stage import TokenCounts
from raydisc_outside.structure import Depth
from raydisc_outside.task import Praise
from transformers import AutoConfig

from raydisc.config.schedules import ScheduleOptions
from raydisc.families.registry import FAMILIES
from raydisc.losses import LOSSES
from raydisc.models.form import Form
from raydisc.models.structure import STRUCTURES
from raydisc.schedules import SCHEDULES
from raydisc.schedules.search import Search
from raydisc.stages.kinds import STAGES
from raydisc.stages.problem import inspect
from raydisc.tasks.metrics import METRICS
from raydisc.tasks.named import TASKS
from raydisc.testing.families import FamilyContract
from raydisc.testing.losses import LossContract
from raydisc.testing.metrics import MetricContract
from raydisc.testing.runs import STUDENT_SCALE, tiny_experiment
from raydisc.testing.schedules import ScheduleContract
from raydisc.testing.stages import Example, StageContract, computed
from raydisc.testing.structures import StructureContract
from raydisc.testing.tasks import TaskContract


class TestFamily(FamilyContract):
    @pytest.fixture
    def config(self):
        with FAMILIES.registering(OUTSIDE_BERT):
            yield AutoConfig.for_model(
                "outside_bert",
                vocab_size=40,
                hidden_size=24,
                intermediate_size=20,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=34,
                initializer_range=0.3,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
                num_labels=3,
            )


class TestStructure(StructureContract):
    @pytest.fixture
    def structure(self):
        with STRUCTURES.registering(Depth):
            yield Depth(2)

    @pytest.fixture
    def form(self):
        return Form.of("depth", layers=2)


class TestLoss(LossContract):
    @pytest.fixture
    def loss(self):
        with LOSSES.registering(LogitMAE):
            yield LogitMAE()


class TestMetric(MetricContract):
    @pytest.fixture
    def metric(self):
        with METRICS.registering(MEAN_RECALL):
            yield MEAN_RECALL


class TestSchedule(ScheduleContract):
    @pytest.fixture
    def schedule(self):
        with SCHEDULES.registering(Midway):
            yield Midway(ScheduleOptions())


class TestStage(StageContract):
    @pytest.fixture
    def example(self, tmp_path):
        experiment = tiny_experiment()
        request = next(Search(experiment, inspect(experiment), STUDENT_SCALE, seed=0).prepare())
        stage = TokenCounts(computed(request, tmp_path / "storage"))
        with STAGES.registering(TokenCounts):
            yield Example(stage, computed(stage, tmp_path / "storage"), tmp_path / "storage")


class TestTask(TaskContract):
    @pytest.fixture
    def task(self):
        with METRICS.registering(MEAN_RECALL), TASKS.registering(Praise):
            yield Praise
