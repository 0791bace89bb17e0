"""Searches in an experiment file: what is refused, in one sentence, before anything is computed."""

import pytest
from files import REVIEWS

PLACE = "schedules[0].optuna"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("space: {}", f"{PLACE}.space is {{}}, but should have at least 1 in it"),
        ("trials: 0", f"{PLACE}.trials is 0, but should be greater than or equal to 1"),
        ("sampler: cma", f"{PLACE}.sampler is 'cma', but should be 'tpe', 'gp', 'nsga2' or 'random'"),
        (
            "space: {distillation.lr: {low: 1.0, high: 0.5}}",
            f"{PLACE}.space.distillation.lr: 'low' is 1, but should be below 'high', which is 0.5",
        ),
        (
            "space: {distillation.dropout: {low: 0, high: 0.5, log: true}}",
            f"{PLACE}.space.distillation.dropout: 'low' is 0, but has no logarithm; give a number above 0, or leave "
            "'log' out",
        ),
        (
            "space: {distillation.lr: {lo: 1}}",
            f"unknown key 'lo' in {PLACE}.space.distillation.lr (did you mean 'low'?)",
        ),
        (
            "space: {distillation.lr: {choices: []}}",
            f"{PLACE}.space.distillation.lr.choices is [], but should have at least 1 in it",
        ),
        (
            "space: {distillation.lr: {choices: [0.1, 0.1]}}",
            f"{PLACE}.space.distillation.lr.choices: names a value twice: 0.1, 0.1",
        ),
        (
            "space: {teacher.seed: {choices: [0, 1]}}",
            f"{PLACE}: space: 'teacher.seed' is not for a trial to have; name 'path', 'lam' or a setting of "
            "once_for_all or distillation",
        ),
        (
            "space: {distillation.lr.peak: {choices: [0.1]}}",
            f"{PLACE}: space: 'distillation.lr.peak' is not for a trial to have; name 'path', 'lam' or a setting of "
            "once_for_all or distillation",
        ),
        (
            "space: {distillation.lr: {low: -1, high: 1}}",
            f"{PLACE}: space: 'distillation.lr' cannot be what the space says, because lr is -1.0, but should be "
            "greater than 0",
        ),
        (
            "space: {distillation.batch_size: {low: 1.5, high: 4}}",
            f"{PLACE}: space: 'distillation.batch_size' cannot be what the space says, because batch_size is 1.5, but "
            "should be a whole number",
        ),
        (
            "space: {distillation.losses.hidden_mes: {low: 0, high: 1}}",
            f"{PLACE}: space: 'distillation.losses.hidden_mes' cannot be what the space says, because unknown loss "
            "'hidden_mes' in losses (did you mean 'hidden_mse'?)",
        ),
        (
            "space: {path: {choices: [[0.5, 0.7]]}}",
            f"{PLACE}: space: 'path' may be [0.5, 0.7], but must fall from each assistant to the next",
        ),
        (
            "space: {path: {choices: [0.5]}}",
            f"{PLACE}: space: 'path' may be 0.5, but each choice should be a list of scales between 0 and 1",
        ),
        (
            "space: {path: {low: 0, high: 1}}",
            f"{PLACE}: space: 'path' is a range of numbers, but should be a number of 'assistants', or 'choices' "
            "of paths",
        ),
        (
            "space: {distillation.lr: {assistants: 1}}",
            f"{PLACE}: space: 'assistants' belongs to 'path', but stands in 'distillation.lr'",
        ),
        (
            "space: {lam: {low: -1, high: 1}}",
            f"{PLACE}: space: 'lam' has to be a number of at least 0, but may be -1.0",
        ),
        (
            "space: {path: {choices: [[], [0.9, 0.1]]}}",
            "schedules: the path [0.9, 0.1] in the space of optuna must stay above the student's scale 0.1",
        ),
        (
            "space: {path: {assistants: 12}}",
            "grid.scales has 8 above the student's scale 0.1, but optuna needs at least 12 for its assistants",
        ),
        (
            "sampler: nsga2, stopping: asha",
            f"{PLACE}: 'stopping' compares trials by one number, but nsga2 looks for two; leave 'stopping' out",
        ),
        ("stopping: halving", f"unknown key 'halving' in {PLACE}.stopping (known: asha, median)"),
        ("stopping: {asha: {}, median: {}}", f"{PLACE}.stopping: should name one rule: asha or median"),
    ],
)
def test_what_is_refused(refusal, options: str, sentence: str) -> None:
    assert refusal(REVIEWS, f"schedules=[{{optuna: {{{options}}}}}]") == sentence
