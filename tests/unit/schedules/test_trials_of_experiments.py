"""The trials that an experiment stands for."""

from itertools import combinations

import pytest
from tiny_runs import search_of, tiny_experiment
from tiny_schedules import along, minidisc

from raydisc.config.experiment import Experiment, OnceForAllConfig, StudentConfig
from raydisc.errors import InputError
from raydisc.schedules.foresight import foresee
from raydisc.schedules.search import Search
from raydisc.schedules.trials import expand, steps_of
from raydisc.testing.runs import ONE_THREAD

ABOVE = (0.9, 0.7, 0.5, 0.4)


def experiment(*schedules, **changes) -> Experiment:
    return tiny_experiment(schedules=list(schedules), **changes)


def described(trials):
    return [(trial.schedule.name, trial.path, trial.schedule.lam, rival(trial).assistants) for trial in trials]


def rival(trial):
    """The schedule that a control stands beside, or the trial's own."""
    return (trial.rival or trial).schedule


def test_one_trial_for_kd_takd_and_minidisc_and_one_for_each_path():
    found = expand(experiment("kd", {"takd": {"path": [0.8, 0.3]}}, "maxidisc", "minidisc", controls=False), [0.25])
    assert described(found) == [
        ("kd", (), None, 0),
        ("takd", (0.8, 0.3), None, 0),
        *[("maxidisc", (scale,), None, 1) for scale in ABOVE],
        ("minidisc", (), 0.2, 1),
    ]


def test_paths_of_two_assistants_fall():
    found = expand(experiment({"maxidisc": {"assistants": 2}}, controls=False), [0.25])
    assert [trial.path for trial in found] == list(combinations(ABOVE, 2))
    assert all(first > second > 0.25 for first, second in (trial.path for trial in found))


def test_seeds_and_students_multiply():
    several = experiment("kd", "minidisc", seeds=[3, 5], student=StudentConfig(scale=[0.25, 0.5]))
    found = expand(several, [0.25, 0.5])
    assert len(found) == 2 * 2 * 2 + 2 * 2 * 2
    assert {(trial.seed, trial.student_scale) for trial in found} == {(3, 0.25), (3, 0.5), (5, 0.25), (5, 0.5)}


def test_every_minidisc_has_its_equal_compute_and_every_supernet_its_equal_start():
    two = experiment({"minidisc": {"lam": 0.3, "assistants": 2}}, {"minidisc": {"lam": 0.1}}, "kd", seeds=[0, 1])
    found = expand(two, [0.25])
    controls = [trial for trial in found if trial.schedule.is_control]
    compute = [("kd_equal_compute", (), 0.3, 2), ("kd_equal_compute", (), 0.1, 1)]
    assert described(controls) == [*compute, *compute, *[("kd_supernet_init", (), 0.3, 2)] * 2]
    assert [trial.seed for trial in controls] == [0, 0, 1, 1, 0, 1]
    assert found[-6:] == controls
    start = two.distillation.model_copy(update={"initialisation": "teacher"})
    from_teacher = two.model_copy(update={"distillation": start})
    assert {trial.schedule.name for trial in expand(from_teacher, [0.25])} == {"kd", "minidisc", "kd_equal_compute"}
    assert not [trial for trial in expand(two.model_copy(update={"controls": False}), [0.25]) if trial in controls]
    assert not [trial for trial in expand(experiment("kd"), [0.25]) if trial.schedule.is_control]


def test_supernets_that_differ_by_lambda_have_an_equal_start_each():
    schedules = [
        {"minidisc": {"lam": lam, "assistants": assistants, "reinvest": reinvest}}
        for lam in (0.3, 0.1)
        for assistants in (1, 2)
        for reinvest in (False, True)
    ]
    base = experiment(*schedules, once_for_all=OnceForAllConfig(choose_at=0.5))
    starts = [trial for trial in expand(base, [0.25]) if trial.schedule.name == "kd_supernet_init"]
    # for two assistants nobody is chosen before the end
    assert {(trial.schedule.lam, rival(trial).assistants) for trial in starts} == {(0.3, 1), (0.1, 1), (0.3, 2)}
    assert len(expand(base, [0.25])) == 8 + 8 + 3


@pytest.mark.parametrize(("candidates", "starts"), [("smaller_half", 2), ("all", 1)])
def test_supernets_of_other_candidates_have_an_equal_start_each(candidates, starts):
    """One assistant trains the smaller half, two train all."""
    schedules = [{"minidisc": {"assistants": assistants}} for assistants in (1, 2)]
    base = experiment(*schedules, once_for_all=OnceForAllConfig(choose_at=1.0, candidates=candidates))
    controls = [rival(trial).assistants for trial in expand(base, [0.25]) if trial.schedule.name == "kd_supernet_init"]
    assert controls == [1, 2][:starts]


def test_names_are_one_word_and_differ():
    everything = experiment(
        "kd", {"takd": {"path": [0.8, 0.4]}}, "maxidisc", {"maxidisc": {"assistants": 2}}, "minidisc",
        {"minidisc": {"lam": 0.0}}, {"minidisc": {"assistants": 2}}, {"minidisc": {"reinvest": False}}, seeds=[0, 1],
        student=StudentConfig(scale=[0.25, 0.3]),
    )  # fmt: skip
    found = expand(everything, [0.25, 0.3])
    names = [trial.name for trial in found]
    assert len(set(names)) == len(names)
    assert all("/" not in name and " " not in name for name in names)
    assert found[0].name == "kd-to-0.25-seed-0"
    assert "maxidisc-via-0.9-via-0.4-to-0.25-seed-1" in names
    assert "minidisc-lam-0.2-assistants-2-to-0.25-seed-0" in names
    assert "minidisc-lam-0.2-not-reinvested-to-0.25-seed-0" in names


@pytest.mark.parametrize(
    ("schedule", "student", "message"),
    [
        (
            {"takd": {"path": [0.9, 0.5]}},
            0.5,
            r"^schedules: the takd path \[0.9, 0.5\] must stay above the student's scale 0.5$",
        ),
        ("maxidisc", 0.9, "^grid.scales has 0 above the student's scale 0.9, but maxidisc needs at least 1"),
        ("minidisc", 0.95, "grid.scales has 0 above the student's scale 0.95, but minidisc needs at least 1"),
        ({"maxidisc": {"assistants": 2}}, 0.7, "has 1 above .* but maxidisc needs at least 2"),
        ({"minidisc": {"assistants": 3}}, 0.5, "has 2 above .* but minidisc needs at least 3"),
    ],
)
def test_a_schedule_without_room_for_its_assistants(schedule, student, message):
    """Sizes given as parameters are scales only now, so this is the place that refuses them."""
    by_parameters = experiment(schedule, student=StudentConfig(parameters=[5000.0]))
    with pytest.raises(InputError, match=message):
        expand(by_parameters, [student])


@pytest.mark.parametrize(
    ("schedule", "same"),
    [
        ("kd", lambda search: along(search, ())),
        ({"takd": {"path": [0.9, 0.4]}}, lambda search: along(search, (0.9, 0.4))),
        ("maxidisc", lambda search: along(search, (0.9,))),
        ({"minidisc": {"lam": 0.3}}, lambda search: minidisc(search, 0.3, 1, True)),
        ({"minidisc": {"lam": 0.3, "assistants": 2}}, lambda search: minidisc(search, 0.3, 2, True)),
    ],
    ids=["kd", "takd", "maxidisc", "minidisc", "two assistants"],
)
def test_a_trial_asks_for_the_stages_of_its_own_schedule(schedule, same):
    base = experiment(schedule)
    search = search_of(base)
    trial = expand(base, [0.25])[0]
    keys = [
        [artifact.key for _, artifact in foresee(steps, ONE_THREAD, lambda key: None)]
        for steps in (steps_of(trial, base, search.subject), same(search))
    ]
    assert keys[0] == keys[1]
    assert len(keys[0]) >= 5


def test_a_search_knows_its_grid():
    base = tiny_experiment()
    search = search_of(base)
    assert search.assistant_scales == ABOVE
    assert not search.from_teacher
    assert Search(base, search.subject, 0.5, 0).assistant_scales == (0.9, 0.7)
