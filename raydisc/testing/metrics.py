"""The contract of a metric, as tests.

Derive from ``MetricContract`` in a test module and define the fixture ``metric``::

    class TestMyMetric(MetricContract):
        @pytest.fixture
        def metric(self):
            return METRICS.get("my_metric")
"""

import numpy as np
import pytest
import torch

from raydisc.tasks.kinds import task_kind
from raydisc.tasks.metrics import METRICS, Metric, standard_error
from raydisc.testing.tasks import example_split, num_outputs, scored


class MetricContract:
    """The promises of every metric to evaluations and to the bootstrap."""

    @pytest.fixture
    def metric(self) -> Metric:
        """Return the metric to test."""
        raise pytest.UsageError("define the fixture 'metric' in the class that derives from MetricContract")

    @pytest.fixture
    def perfect(self, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions and labels of a perfect model."""
        split, classes = example_split(task_kind(metric.kind), metric)
        return scored(split, metric, classes)

    @pytest.fixture(params=range(3))
    def imperfect(self, metric: Metric, request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions and labels of a model that guesses."""
        split, classes = example_split(task_kind(metric.kind), metric)
        shape = int(split.label_counts.sum()), num_outputs(split.kind, classes)
        generator = torch.Generator().manual_seed(request.param)
        return scored(split, metric, classes, torch.randn(shape, generator=generator))

    def test_it_is_found_by_its_name(self, metric: Metric) -> None:
        """The name in experiment files leads to the metric, whose kind exists."""
        assert METRICS.get(metric.name) is metric
        assert task_kind(metric.kind).name == metric.kind

    def test_a_perfect_model_has_the_best_value(
        self, metric: Metric, perfect: tuple[np.ndarray, np.ndarray], imperfect: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """The best value is 1, and guessing is worse."""
        assert metric.value(*perfect) == pytest.approx(1)
        assert -1 <= metric.value(*imperfect) < 1

    def test_it_follows_from_means(
        self, metric: Metric, perfect: tuple[np.ndarray, np.ndarray], imperfect: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """The value that the bootstrap computes from means of statistics is the exact one."""
        for predictions, labels in (perfect, imperfect):
            statistics = metric.statistics(predictions, labels)
            assert len(statistics) == len(labels)
            assert float(metric.from_means(statistics.mean(0))) == pytest.approx(
                metric.value(predictions, labels), abs=1e-9
            )
            stacked = np.stack([statistics.mean(0), statistics[: len(labels) // 2].mean(0)])
            assert metric.from_means(stacked).shape == (2,)

    def test_the_order_of_rows_does_not_count(self, metric: Metric, imperfect: tuple[np.ndarray, np.ndarray]) -> None:
        """Rows may come in any order."""
        predictions, labels = imperfect
        order = np.random.default_rng(0).permutation(len(labels))
        assert metric.value(predictions[order], labels[order]) == pytest.approx(metric.value(predictions, labels))

    def test_a_model_without_finite_answers_scores_zero(
        self, metric: Metric, imperfect: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """A prediction that is not a number makes the value 0, never NaN."""
        predictions, labels = imperfect
        broken = predictions.astype(np.float64)
        broken.reshape(len(labels), -1)[0] = np.nan
        assert metric.value(broken, labels) == 0
        assert float(metric.from_means(metric.statistics(broken, labels).mean(0))) == pytest.approx(0, abs=1e-12)

    def test_its_standard_error_is_a_number(self, metric: Metric, imperfect: tuple[np.ndarray, np.ndarray]) -> None:
        """The bootstrap gives a finite standard error."""
        assert np.isfinite(standard_error(metric, *imperfect))
