"""The trials that an experiment stands for."""

from itertools import combinations

import pytest
from tiny_runs import search_of, tiny_experiment, tokens_known
from tiny_schedules import along, minidisc

from raydisc.config.experiment import Experiment, StudentConfig
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


def test_paths_of_three_assistants_may_be_drawn_the_same_for_every_seed():
    found = expand(experiment({"maxidisc": {"assistants": 3, "paths": 2}}, controls=False, seeds=[0, 1]), [0.25])
    first, second = ([trial.path for trial in found if trial.seed == seed] for seed in (0, 1))
    assert first == second == sorted(first, reverse=True)
    assert len(first) == 2
    assert set(first) < set(combinations(ABOVE, 3))
    every = expand(experiment({"maxidisc": {"assistants": 3, "paths": 9}}, controls=False), [0.25])
    assert [trial.path for trial in every] == list(combinations(ABOVE, 3))


def test_seeds_and_students_multiply():
    several = experiment("kd", "minidisc", seeds=[3, 5], student=StudentConfig(scale=[0.25, 0.5]))
    found = expand(several, [0.25, 0.5])
    both = 2 + len(CONTROLS)
    assert len(found) == 2 * (both + both - 1), "the larger student's middle assistant is the smallest"
    assert {(trial.seed, trial.student_scale) for trial in found} == {(3, 0.25), (3, 0.5), (5, 0.25), (5, 0.5)}


CONTROLS = (
    "kd_equal_compute", "kd_equal_seconds", "kd_from_supernet", "kd_from_assistant", "takd_smallest",
    "takd_middle",
)  # fmt: skip
OF_THE_GRID = CONTROLS[-3:]
"""The controls that depend on no option of MiniDisc."""


def test_every_minidisc_has_its_controls_and_each_student_those_of_its_grid():
    two = experiment({"minidisc": {"lam": 0.3, "assistants": 2}}, {"minidisc": {"lam": 0.1}}, "kd", seeds=[0, 1])
    found = expand(two, [0.25])
    controls = [trial for trial in found if trial.schedule.is_control]
    assert found[-len(controls) :] == controls
    expected = {
        (name, seed, *rival)
        for seed in (0, 1)
        for name in CONTROLS
        for rival in ([(0.3, 2)] if name in OF_THE_GRID else [(0.3, 2), (0.1, 1)])
    }
    seen = [(it.schedule.name, it.seed, rival(it).lam, rival(it).assistants) for it in controls]
    assert set(seen) == expected
    assert len(seen) == len(expected)
    assert {it.schedule.label for it in controls if it.schedule.name in OF_THE_GRID} == set(OF_THE_GRID)
    assert not [trial for trial in expand(two.model_copy(update={"controls": False}), [0.25]) if trial in controls]
    assert not [trial for trial in expand(experiment("kd"), [0.25]) if trial.schedule.is_control]


def test_controls_of_first_weights_are_left_out_where_all_students_start_from_the_teacher():
    base = experiment("minidisc")
    start = base.distillation.model_copy(update={"initialisation": "teacher"})
    found = expand(base.model_copy(update={"distillation": start}), [0.25])
    assert {trial.schedule.name for trial in found} == {
        "minidisc", "kd_equal_compute", "kd_equal_seconds", "takd_smallest", "takd_middle",
    }  # fmt: skip


def test_the_middle_assistant_is_left_out_where_it_is_the_smallest():
    names = [trial.schedule.name for trial in expand(experiment("minidisc"), [0.5])]  # the root of .5 is next to .7
    assert "takd_smallest" in names
    assert "takd_middle" not in names


def test_an_experiment_may_ask_for_some_controls():
    some = experiment("minidisc", controls=["takd_smallest", "kd_equal_compute"])
    assert [trial.schedule.name for trial in expand(some, [0.25])] == ["minidisc", "kd_equal_compute", "takd_smallest"]


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


def test_schedules_of_one_name_have_labels_of_their_own_and_share_them_with_their_trials():
    several = experiment(
        "minidisc", {"minidisc": {"lam": 0.4}}, {"minidisc": {"assistants": 2}}, "autodisc", "maxidisc",
        {"maxidisc": {"assistants": 2}}, {"maxidisc": {"paths": 2}}, {"takd": {"path": [0.8, 0.4]}},
        {"takd": {"path": [0.4]}}, controls=["kd_equal_compute", "takd_smallest"],
    )  # fmt: skip
    found = expand(several, [0.25])
    assert list(dict.fromkeys(trial.schedule.label for trial in found)) == [
        "minidisc", "minidisc-lam-0.4", "minidisc-assistants-2", "autodisc", "maxidisc", "maxidisc-assistants-2",
        "maxidisc-paths-2", "takd-path-0.8-0.4", "takd-path-0.4", "kd_equal_compute", "kd_equal_compute-lam-0.4",
        "kd_equal_compute-assistants-2", "kd_equal_compute-of-autodisc", "takd_smallest",
    ]  # fmt: skip
    names = [trial.name for trial in found]
    assert len(set(names)) == len(names)
    assert "kd_equal_compute-lam-0.2-to-0.25-seed-0" in names


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
    find = tokens_known(base, search.subject)
    trial = expand(base, [0.25])[0]
    keys = [
        [artifact.key for _, artifact in foresee(steps, ONE_THREAD, find)]
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
