"""A metric for two classes that counts each of them alike."""

import numpy as np

from raydisc.tasks.metrics import Metric


def _statistics(predictions, labels):
    """Return in which class each row is, and whether it was found ``[N, 4]``."""
    finite = np.isfinite(predictions).all()
    right = (predictions.argmax(-1) == labels) & finite
    return np.stack([labels == 0, labels == 1, right & (labels == 0), right & (labels == 1)], -1).astype(np.float64)


def _from_means(means):
    """Return the mean of the shares of both classes that were found."""
    counts, found = means[..., :2], means[..., 2:]
    return np.where(counts > 0, found / np.maximum(counts, 1e-12), 0).mean(-1)


def _value(predictions, labels):
    """Return the mean recall of all rows."""
    return float(_from_means(_statistics(predictions, labels).mean(0)))


MEAN_RECALL = Metric("mean_recall", "classification", _value, _statistics, _from_means, two_classes=True)
