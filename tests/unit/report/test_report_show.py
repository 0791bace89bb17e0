from __future__ import annotations

import io
import json
import math

import pytest
from ledger_world import World

from raydisc.errors import InputError
from raydisc.report import formats
from raydisc.report.show import show
from raydisc.report.show_tables import render_show, trial_sheet
from raydisc.tasks.metrics import METRICS

PERPLEXITY = METRICS.get("token_likelihood").shown_as


def shown_text(world: World) -> str:
    stream = io.StringIO()
    render_show(show(world.ledger, "r"), stream)
    return stream.getvalue()


def test_candidates_are_ranked_by_the_tradeoff(filled: World) -> None:
    shown = show(filled.ledger, "r")
    # λ = .2: .5 → .9 + .1, .3 → .85 + .14. The student's own scale .1 is not a candidate.
    found = [(c["place"], c["scale"], c["metric"], c["tradeoff"], c["chosen"]) for c in shown["candidates"]]
    assert found == [(1, 0.5, 0.9, pytest.approx(1.0), False), (2, 0.3, 0.85, pytest.approx(0.99), True)]
    assert {"measured_scale", "parameters", "flops", "win_share", "supernet", "student_scale", "seed", "lam"} <= set(
        shown["candidates"][0]
    )
    assert [(s["scale"], s["metric"]) for s in shown["subnets"]] == [(0.1, 0.5)]
    assert shown["lam"] == 0.2
    # 0.9 + λ 0.5 = 0.85 + λ 0.7 at λ = .25.
    steps = [(step["lam_from"], step["lam_to"], step["scale"]) for step in shown["break_points"]]
    assert steps == [(0.0, pytest.approx(0.25), 0.5), (pytest.approx(0.25), None, 0.3)]


def test_a_choice_within_noise_is_told_once_with_its_shares(filled: World) -> None:
    shown = show(filled.ledger, "r")
    shares = {c["scale"]: c["win_share"] for c in shown["candidates"]}
    # The predictions differ on one of twenty examples: .5 is better by more than .04 unless it is not drawn.
    assert shares[0.3] == pytest.approx((1 - 1 / 20) ** 20, abs=0.05)
    assert sum(shares.values()) == pytest.approx(1)
    [notice] = shown["notices"]
    assert notice.startswith("the choice of TA is within noise: 0.5 and 0.3 cannot be told apart (best in ")


def test_a_sure_choice_is_not_doubted(world: World) -> None:
    supernet = world.stage("supernet", "once_for_all")
    for scale, hits in ((0.5, 50), (0.3, 5), (0.1, 5)):
        world.candidate(supernet, scale, hits / 50, [1] * hits + [0] * (50 - hits))
    world.trial("t", "minidisc", world.stage("m", "distil", [supernet]), 0.5, path=[0.5], lam=0.2, supernet=supernet)
    shown = show(world.ledger, "r")
    assert [c["win_share"] for c in shown["candidates"]] == [1.0, 0.0]
    assert shown["notices"] == []


def test_everything_is_json(filled: World) -> None:
    filled.trial("nan", "kd", filled.stage("nan", "distil", []), math.nan, seed=5)
    shown = show(filled.ledger, "r")
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert any("trial nan (kd, seed 5) has no finite validation metric" in notice for notice in shown["notices"])


def test_a_candidate_whose_metric_is_not_a_number_counts_0(world: World) -> None:
    supernet = world.stage("supernet", "once_for_all")
    for scale, value in ((0.5, math.nan), (0.3, 0.6), (0.1, 0.5)):
        world.candidate(supernet, scale, value)
    world.trial("t", "minidisc", world.stage("m", "distil", [supernet]), 0.5, path=[0.3], lam=0.2, supernet=supernet)
    shown = show(world.ledger, "r")
    assert [(c["scale"], c["metric"], c["tradeoff"]) for c in shown["candidates"]] == [
        (0.3, 0.6, pytest.approx(0.74)),
        (0.5, None, pytest.approx(0.1)),
    ]
    assert [c["win_share"] for c in shown["candidates"]] == [None, None]
    assert "No predictions are stored" in shown_text(world)


def test_trials_and_teacher(filled: World) -> None:
    filled.metric("teacher", "finetune", "validation", 0.95)
    filled.stage("test-teacher", "evaluate", ["data", "teacher"], run="another")
    filled.metric("test-teacher", "evaluate", "test", 0.9)
    filled.trial("broken", "kd", None, None, state="failed", message="the loss is not finite at step 3", seed=1)
    shown = show(filled.ledger, "r")
    assert shown["teacher"] == {"validation_metric": 0.95, "test_metric": 0.9, "test_se": 0.01}
    states = {trial["trial"]: (trial["state"], trial["test_metric"]) for trial in shown["trials"]}
    assert states["minidisc-s0"] == ("finished", 5 / 8)
    assert states["broken"] == ("failed", None)
    assert "trial broken (kd, seed 1) failed: the loss is not finite at step 3" in shown["notices"]


def test_stages_say_who_computed_them_and_what_was_really_spent(filled: World) -> None:
    other = World(filled.ledger.root.parent, run="second")
    other.stage("own", "distil", ["supernet-s0"], 2, state="failed")
    other.stage("own", "distil", ["supernet-s0"], 3, settings='{"scale": 0.1}')
    other.trial("t", "kd_from_supernet", "own", 0.5)
    shown = show(filled.ledger, "second")
    assert {stage["key"]: stage["reused"] for stage in shown["stages"]} == {
        "data": True, "teacher": True, "outputs": True, "importance": True, "supernet-s0": True, "own": False,
    }  # fmt: skip
    assert [stage["scale"] for stage in shown["stages"] if stage["key"] == "own"] == [0.1]
    assert shown["spent"]["flops"] == 5


def test_a_stage_that_was_stopped_counts_until_it_is_finished(filled: World) -> None:
    other = World(filled.ledger.root.parent, run="second")
    other.stage("own", "distil", ["supernet-s0"], 2, state="stopped")
    other.stage("left", "distil", ["supernet-s0"], 4, state="stopped")
    other.trial("t", "kd_from_supernet", "own", 0.5)
    assert show(filled.ledger, "second")["spent"]["flops"] == 6
    other.stage("own", "distil", ["supernet-s0"], 3)
    assert show(filled.ledger, "second")["spent"]["flops"] == 7


def test_stages_say_whose_outputs_are_kept_where(world: World) -> None:
    kept = {"kept_bytes": 3 * 2**19, "kept_dtype": "bfloat16", "kept_error": 1.66e-3}
    world.stage("ta", "distil", settings='{"scale": 0.5}')
    world.stage("of-ta", "teacher_outputs", ["ta"], settings='{"teacher": ["ta", null]}', kept="memory", **kept)
    world.stage("of-candidate", "teacher_outputs", settings='{"teacher": ["net", 0.3]}', kept="disk", **kept)
    world.stage(
        "of-teacher", "teacher_outputs", settings='{"teacher": ["t", null]}', kept="online", kept_bytes=9 * 2**20
    )
    stages = {stage["key"]: stage for stage in show(world.ledger, "r")["stages"]}
    found = {key: (stage["scale"], stage["kept"], stage["kept_dtype"]) for key, stage in stages.items()}
    assert found == {
        "ta": (0.5, None, None), "of-ta": (0.5, "memory", "bfloat16"), "of-candidate": (0.3, "disk", "bfloat16"),
        "of-teacher": (None, "online", None),
    }  # fmt: skip
    text = shown_text(world)
    assert "memory, 1.5 MiB, bfloat16 (error 1.7e-03)" in text
    assert "online, 9.0 MiB\n" in text


def test_a_supernet_that_no_trial_has_used_yet_is_ranked_for_its_smallest_scale(world: World) -> None:
    supernet = world.stage("supernet", "once_for_all", seed=3)
    for scale in (0.5, 0.3, 0.1):
        world.candidate(supernet, scale, 0.8)
    world.ledger.write("metrics", [{"key": supernet, "split": "validation", "metric": "loss", "value": 1.0}], "loss")
    shown = show(world.ledger, "r")
    assert [(c["scale"], c["student_scale"], c["seed"], c["lam"]) for c in shown["candidates"]] == [
        (0.3, 0.1, 3, 0.2),
        (0.5, 0.1, 3, 0.2),
    ]
    assert (shown["task"], shown["trials"]) == (None, [])


def test_it_is_said_who_was_trained_on_alone(world: World) -> None:
    supernet = world.stage("supernet", "once_for_all")
    for scale, metric in ((0.5, 0.75), (0.3, 0.8125), (0.1, 0.5)):
        world.candidate(supernet, scale, metric)
    world.trial("t", "minidisc", None, 0.8, supernet=supernet, lam=0.2, path=[0.3])
    assert [c["final_metric"] for c in show(world.ledger, "r")["candidates"]] == [0.8125, 0.75]
    assert "trained on" not in shown_text(world)
    alone = world.stage("alone", "finalist", [supernet])
    world.metric(alone, "finalist", "validation", 0.875, scale=0.3)
    shown, text = show(world.ledger, "r"), shown_text(world)
    assert [c["final_metric"] for c in shown["candidates"]] == [0.875, None]
    assert [c["supernet"] for c in shown["candidates"]] == [supernet, supernet]
    assert text.count("trained on, to 0.875") == 1
    assert not any(step["early"] for step in shown["break_points"])
    assert "trains another supernet" not in text


def test_a_supernet_in_whose_training_lambda_had_a_part_is_ranked_by_it(world: World) -> None:
    """Also one of an earlier version, which went on with the one that λ had chosen."""
    supernet = world.stage("supernet", "once_for_all", settings='{"lam": 0.35}')
    for scale in (0.5, 0.1):
        world.candidate(supernet, scale, 0.8)
    shown = show(world.ledger, "r")
    assert [(c["scale"], c["lam"]) for c in shown["candidates"]] == [(0.5, 0.35)]
    assert all(step["early"] for step in shown["break_points"])
    assert "another one trains another supernet" in shown_text(world)


def test_an_unknown_run_is_refused(world: World) -> None:
    with pytest.raises(InputError, match="no run 'r'"):
        show(world.ledger, "r")


def test_people_can_read_it(filled: World) -> None:
    text = shown_text(filled)
    for line in (
        "r: candidates for the student at 0.1, seed 0, by m + 0.2(1 - s), supernet supernet-s0",
        "    1    0.5     0.500  1.00 k  0.900 ±0.010     1.000",
        "Chosen as a function of λ: 0.5 for 0 ≤ λ < 0.25; 0.3 for λ ≥ 0.25.",
        "Notice: the choice of TA is within noise: 0.5 and 0.3 cannot be told apart",
        "r: trials (accuracy on toy)",
    ):
        assert line in text


def test_of_a_language_model_the_perplexity_stands_beside_the_likelihood(filled: World) -> None:
    shown = show(filled.ledger, "r")
    sheet = trial_sheet({**shown, "metric": "token_likelihood"})
    assert sheet.columns[7:9] == ["test", "perplexity"]
    assert [line[8] for line in sheet.lines] == [
        formats.derived(PERPLEXITY, trial["test_metric"]) for trial in shown["trials"]
    ]
    assert any(trial["test_metric"] is not None for trial in shown["trials"])
    [note] = sheet.notes
    assert f", perplexity {formats.derived(PERPLEXITY, shown['teacher']['test_metric'])}. " in note
    assert "perplexity" not in shown_text(filled)


def test_what_is_unknown_is_a_dash(world: World) -> None:
    world.trial("t", "kd", None, None, state="failed", student_scale=None, student_parameters=None)
    assert "failed" in shown_text(world)
