import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from raydisc.errors import InputError
from raydisc.tasks.metrics import METRICS, Metric, bootstrap_weights, metric, standard_error

CLASSIFICATION = [m for m in METRICS if m.kind == "classification"]
REGRESSION = [m for m in METRICS if m.kind == "regression"]


def by_means(judge: Metric, predictions: np.ndarray, labels: np.ndarray) -> float:
    return float(judge.from_means(judge.statistics(predictions, labels).mean(0)))


def classified(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, classes)) + np.eye(classes)[labels], labels


def regressed(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 20, n) / 4
    return (labels + rng.normal(size=n)).astype(np.float32), labels.astype(np.float32)


def tagged(n: int, counts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What was counted in each row, first what is right."""
    rng = np.random.default_rng(seed)
    totals = rng.integers(2, 9, (n, counts - 1))
    return np.column_stack([rng.integers(0, totals.min(1)), totals]).astype(np.float32), np.full(n, np.nan)


def example(judge: Metric, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels that a metric can judge."""
    if judge.kind == "tokens":
        return tagged(n, 3 if judge.name == "span_f1" else 2, seed)
    return classified(n, 2, seed) if judge.kind == "classification" else regressed(n, seed)


def test_names_are_the_documented_ones():
    assert sorted(METRICS.names()) == [
        "accuracy",
        "accuracy_f1",
        "f1",
        "matthews",
        "pearson",
        "pearson_spearman",
        "span_f1",
        "spearman",
        "token_accuracy",
        "token_likelihood",
    ]
    with pytest.raises(InputError, match=r"unknown metric 'accuracy1' in task.metric \(did you mean 'accuracy'\?\)"):
        metric("accuracy1")


@pytest.mark.parametrize("seed", range(5))
def test_values_are_scikit_learns(seed):
    logits, labels = classified(200, 2, seed)
    predicted = logits.argmax(-1)
    accuracy, f1 = accuracy_score(labels, predicted), f1_score(labels, predicted)
    expected = {
        "accuracy": accuracy,
        "f1": f1,
        "matthews": matthews_corrcoef(labels, predicted),
        "accuracy_f1": (accuracy + f1) / 2,
    }
    for name, value in expected.items():
        assert metric(name).value(logits, labels) == pytest.approx(value, abs=1e-12)
        assert by_means(metric(name), logits, labels) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 5])
def test_many_classes(classes):
    logits, labels = classified(300, classes, 7)
    predicted = logits.argmax(-1)
    assert by_means(metric("accuracy"), logits, labels) == pytest.approx(accuracy_score(labels, predicted))
    expected = matthews_corrcoef(labels, predicted)
    assert by_means(metric("matthews"), logits, labels) == pytest.approx(expected, abs=1e-12)
    assert metric("f1").two_classes
    assert metric("accuracy_f1").two_classes


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("column", [False, True])
def test_values_are_scipys(seed, column):
    predictions, labels = regressed(150, seed)
    pearson = stats.pearsonr(predictions.astype(float), labels.astype(float)).statistic
    spearman = stats.spearmanr(predictions, labels).statistic
    expected = {"pearson": pearson, "spearman": spearman, "pearson_spearman": (pearson + spearman) / 2}
    given = predictions[:, None] if column else predictions
    for name, value in expected.items():
        assert metric(name).value(given, labels) == pytest.approx(value, abs=1e-12)
        assert by_means(metric(name), given, labels) == pytest.approx(value, abs=1e-10)


def test_correlation_far_from_zero_does_not_cancel():
    predictions, labels = regressed(100, 3)
    assert by_means(metric("pearson"), predictions.astype(float) * 1e-3 + 1e6, labels) == pytest.approx(
        by_means(metric("pearson"), predictions, labels), abs=1e-6
    )


@pytest.mark.parametrize("judge", CLASSIFICATION, ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("predicted", "labels"),
    [([0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 1, 1]), ([1, 1, 1], [0, 0, 0]), ([1, 0], [1, 1]), ([1], [1])],
)
def test_degenerate_classification(judge, predicted, labels):
    logits, labels = np.eye(2)[predicted], np.array(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = judge.value(logits, labels)
        assert np.isfinite(value)
        assert by_means(judge, logits, labels) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("judge", REGRESSION, ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("predictions", "labels"),
    [([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]), ([1.0], [1.0])],
)
def test_degenerate_regression_is_zero(judge, predictions, labels):
    predictions, labels = np.array(predictions, np.float32), np.array(labels, np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert judge.value(predictions, labels) == 0.0
        assert by_means(judge, predictions, labels) == 0.0


@pytest.mark.parametrize("judge", list(METRICS), ids=lambda m: m.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_model_that_answers_not_a_number_scores_zero(judge, bad):
    predictions, labels = example(judge, 40, 0)
    predictions[3] = bad
    assert judge.value(predictions, labels) == 0.0
    assert by_means(judge, predictions, labels) == 0.0


def test_bootstrap_weights_count_draws():
    weights = bootstrap_weights(30, 50, seed=1)
    assert weights.shape == (50, 30)
    assert weights.dtype == np.float32
    assert (weights.sum(1) == 30).all()
    np.testing.assert_array_equal(weights, bootstrap_weights(30, 50, seed=1))
    assert (weights != bootstrap_weights(30, 50, seed=2)).any()


@pytest.mark.parametrize("judge", [m for m in METRICS if "spearman" not in m.name], ids=lambda m: m.name)
def test_from_means_of_weights_is_the_metric_of_the_resample(judge):
    predictions, labels = example(judge, 60, 1)
    weights = bootstrap_weights(60, 20, seed=0)
    values = judge.from_means(weights @ judge.statistics(predictions, labels) / 60)
    for row, value in zip(weights, values, strict=True):
        drawn = np.repeat(np.arange(60), row.astype(int))
        assert value == pytest.approx(judge.value(predictions[drawn], labels[drawn]), abs=1e-10)


def test_standard_error_of_accuracy_is_the_binomial_one():
    logits, labels = classified(400, 2, 2)
    accuracy = metric("accuracy").value(logits, labels)
    expected = np.sqrt(accuracy * (1 - accuracy) / 400)
    assert standard_error(metric("accuracy"), logits, labels) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("judge", list(METRICS), ids=lambda m: m.name)
def test_standard_error_is_a_number(judge):
    predictions, labels = example(judge, 40, 4)
    assert 0 < standard_error(judge, predictions, labels, resamples=200) < 0.5
    assert standard_error(judge, np.zeros_like(predictions), np.zeros_like(labels), resamples=20) == 0.0
