"""The benchmarks' own arithmetic; never how fast anything is."""

from collections import Counter

import common
import filling
import machine
import makespan
import numpy as np
import peer_loops
import peers
import pieces
import pytest
import roofline
import scaling
import search_cost
import torch
from alone import find_trial
from breakdown import group_of, muted, profiler, seconds_by_group, shares
from ledger_world import World
from tiny_models import tiny_config
from tiny_schedules import kd_trial, maxidisc_trial
from torch import nn

from raydisc.config.sections import DistillationConfig
from raydisc.errors import InputError
from raydisc.losses.objective import WeightedLoss
from raydisc.models.cost import STEP_FORWARDS, ForwardCost
from raydisc.models.forward import Outputs
from raydisc.models.widths import Widths
from raydisc.runs.jobs import Job
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import tiny_batch, tiny_split, tiny_teacher
from raydisc.testing.tolerance import assert_near
from raydisc.training.batches import steps_of


class FakeClock:
    """A clock that is moved by hand."""

    device = torch.device("cpu")

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class FakePeak:
    """A machine that has become half as fast."""

    def __init__(self, rates):
        self.rates = iter(rates)

    def measure(self):
        return next(self.rates)


# --- clocks, memory, spread ---


def test_spread_is_median_and_quartiles():
    assert machine.Spread.of([5.0, 1.0, 2.0, 4.0, 3.0]) == machine.Spread(3.0, 2.0, 4.0)
    assert machine.Spread(3.0, 2.0, 4.0).text(1) == "3.0 [2.0, 4.0]"


def test_private_memory_is_the_sum_of_private_lines():
    rollup = "Rss: 900 kB\nShared_Clean: 700 kB\nPrivate_Clean:  40 kB\nPrivate_Dirty: 160 kB\nSwap: 5 kB\n"
    assert machine.sum_private(rollup) == 200 * 1024


def test_private_memory_grows_with_what_a_process_writes():
    before = machine.private_bytes()
    held = np.ones(2**25, np.uint8)
    assert 0.9 * held.nbytes < machine.private_bytes() - before < 1.5 * held.nbytes


def test_peak_memory_is_that_since_it_was_forgotten():
    machine.forget_peak()
    before = machine.resident_bytes()
    np.ones(2**26, np.uint8)
    assert machine.resident_bytes(peak=True) - before > 0.9 * 2**26
    machine.forget_peak()
    assert machine.resident_bytes(peak=True) - before < 0.5 * 2**26


@pytest.mark.parametrize("threads", [0, 10**6])
def test_threads_beyond_the_cores_are_refused(threads):
    with pytest.raises(InputError, match=f"{threads} is not between 1 and the"):
        machine.check_threads(threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    assert machine.choose_device("auto").type == "cpu"
    with pytest.raises(InputError, match="torch sees no GPU"):
        machine.choose_device("cuda")


# --- experiments ---


def test_joined_texts_are_as_long_as_asked_for_and_begin_with_their_own():
    assert common.joined(["a b", "c", "d e f"], 4) == ["a b c d e f", "c d e f", "d e f a b"]


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 6920])
@pytest.mark.parametrize("steps", [1, 7, 300])
def test_a_section_of_so_many_steps_has_so_many(rows, steps):
    section = common.with_steps(DistillationConfig(patience=2), rows, steps)
    assert steps_of(section, -(-rows // section.batch_size)) == steps
    assert section.patience is None


# --- roofline ---


def test_blocks_compare_each_block_with_the_peaks_around_it():
    clock = FakeClock()
    blocks = roofline.Blocks(clock, FakePeak([100.0, 100.0, 50.0]), block=2, count=2, profiled=0)
    for step in range(blocks.steps + 1):
        blocks(step)
        clock.now += 1.0 if step < roofline.WARM_UP + 2 else 2.0  # the machine slows down with its peak
    assert blocks.seconds == [2.0, 4.0]
    assert blocks.fractions([10.0, 10.0, 15.0, 15.0]) == [20 / 2 / 100, 30 / 4 / 75]


def test_blocks_do_not_count_what_measuring_the_peak_takes():
    clock = FakeClock()

    class Slow(FakePeak):
        def measure(self):
            clock.now += 1000.0
            return 1.0

    blocks = roofline.Blocks(clock, Slow([]), block=1, count=2, profiled=0)
    for step in range(blocks.steps + 1):
        blocks(step)
        clock.now += 1.0
    assert blocks.seconds == [1.0, 1.0]


def test_the_roofline_is_the_slower_of_computing_and_moving():
    assert roofline.roofline_seconds(flops=100, moved=10, peak=50, bandwidth=10) == 2.0
    assert roofline.roofline_seconds(flops=100, moved=100, peak=50, bandwidth=10) == 10.0


def test_time_per_flop_is_relative_to_the_largest_scale_of_the_same_piece():
    def row(piece, scale, fraction):
        return {"piece": piece, "precision": "float32", "scale": scale, "fraction_of_peak": fraction}

    rows = [row("student", 0.1, 0.2), row("student", 1.0, 0.8), row("outputs", 1.0, 0.5)]
    assert [found["time_per_flop"] for found in roofline.against_whole(rows)] == [4.0, 1.0, 1.0]


def test_bytes_of_a_forward_are_counted_as_described():
    config = tiny_config(layers=1)
    model = tiny_teacher(config)
    work = pieces.Work(ForwardCost.of(model, config), Widths((4,), (20,)), hidden=24, matched=2, trained=10, itemsize=4)
    rows, length = 3, 5
    weights = 4 * 24 * 24 + 2 * 24 * 20
    linears = 3 * (24 + 24) + (24 + 24) + (24 + 20) + (20 + 24)
    others = (3 + 1) * 24 + 2 * 20 + 2 * 5 * 24 + 6 * 24  # attention, activation, residuals and norms, embeddings
    forward = 4 * (weights + rows * length * (linears + others))
    states = rows * length * 2 * 24
    assert work.forward_bytes((rows, length)) == forward
    assert work.outputs_bytes((rows, length)) == forward + states * (4 + 2)
    assert work.step_bytes((rows, length)) == STEP_FORWARDS * forward + states * (2 * 4 + 2) + 10 * 4 * 10
    assert work.step_flops((rows, length)) == STEP_FORWARDS * work.cost.flops(work.widths, rows, length)


# --- breakdown ---


@pytest.mark.parametrize(
    ("path", "group"),
    [
        (["aten::addmm", "aten::linear", "nn.Module: Linear_0"], "matrix multiplies"),
        (["aten::copy_", "aten::addmm"], "matrix multiplies"),
        (["aten::bmm", "aten::scaled_dot_product_attention", "nn.Module: BertSelfAttention_0"], "attention"),
        (["aten::add", "nn.Module: BertSelfAttention_0"], "element-wise"),
        (["aten::index_select", "aten::embedding"], "embeddings"),
        (["aten::embedding_dense_backward", "autograd::engine::evaluate_function: EmbeddingBackward0"], "embeddings"),
        (["aten::_fused_adamw_", "Optimizer.step#AdamW.step"], "optimiser and clipping"),
        (["aten::_foreach_norm", "torch/nn/utils/clip_grad.py(60): _get_total_norm"], "optimiser and clipping"),
        (["aten::sub", "raydisc/losses/hidden.py(30): __call__"], "losses"),
        (["aten::mul", "autograd::engine::evaluate_function: MulBackward0", "aten::mul", "raydisc/losses/losses.py(3)"],
         "losses"),
        (["aten::index_select", "raydisc/signals/source.py(60): outputs"], "other"),
        (["aten::gelu", "nn.Module: Gelu_0", "raydisc/signals/source.py(60): outputs"], "element-wise"),
        (["cudaLaunchKernel"], "other"),
    ],
)  # fmt: skip
def test_operators_are_sorted_into_groups(path, group):
    assert group_of(path) == group


def test_the_backward_of_an_operator_goes_where_its_forward_went():
    embedding, linear = nn.Embedding(50, 32), nn.Linear(32, 32)
    optimiser = torch.optim.AdamW([*embedding.parameters(), *linear.parameters()])
    with muted(), profiler(torch.device("cpu")) as profile:
        hidden = linear(embedding(torch.arange(50)))
        batch = tiny_batch(tiny_config())
        outputs = Outputs(hidden[:, :3], (hidden[: batch.input_ids.numel()].view(*batch.input_ids.shape, 32),))
        theirs = Outputs(torch.zeros(50, 3), (torch.zeros(*batch.input_ids.shape, 32),))
        WeightedLoss.of({"hidden_mse": 1.0}, 1.0, task_kind("classification"))(outputs, theirs, batch).backward()
        nn.utils.clip_grad_norm_(linear.parameters(), 1.0)
        optimiser.step()
    found = seconds_by_group(profile.events(), on_gpu=False)
    assert set(found) >= {"matrix multiplies", "embeddings", "losses", "optimiser and clipping"}
    assert found["attention"] == 0
    backward = [event for event in profile.events() if event.name == "aten::embedding_dense_backward"]
    assert len(backward) == 1
    assert found["embeddings"] * 1e6 >= backward[0].self_cpu_time_total


def test_shares_of_a_step_are_whole_and_what_no_operator_took_is_other():
    seconds = Counter({"losses": 2.0, "attention": 4.0})
    found = shares(seconds, seconds=20.0)
    assert (found["losses"], found["attention"]) == (0.1, 0.2)
    assert found["other"] == pytest.approx(0.7)
    assert sum(shares(seconds, seconds=0.1).values()) == pytest.approx(1.0)


# --- peers ---


def test_the_peers_minimise_what_raydisc_minimises():
    config = tiny_config()
    batch = tiny_batch(config, lengths=(9, 9, 9))  # without padding, which only raydisc's batches mask out of a mean
    student, teacher = tiny_teacher(config, 0), tiny_teacher(config, 1)
    with torch.no_grad():
        mine, theirs = (model(**batch.inputs(), output_hidden_states=True) for model in (student, teacher))
    matched = (0, 1, 3)
    found = peer_loops.kd_loss(mine, theirs, batch.attention_mask, matched, regression=False)
    sides = [Outputs(side.logits, tuple(side.hidden_states[at] for at in matched)) for side in (mine, theirs)]
    loss = WeightedLoss.of({"hidden_mse": 1.0, "soft_cross_entropy": 1.0}, 1.0, task_kind("classification"))
    assert_near(found, loss(*sides, batch))


def test_a_candidate_of_the_plain_loop_is_the_candidate():
    config = tiny_config()
    state, widths = tiny_teacher(config).state_dict(), Widths((4, 2, 0), (20, 3, 7))
    found, expected = peer_loops.sliced(state, config, widths), widths.cut(state, config)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("way", ["plain", "paper"])
def test_the_plain_loop_trains_the_student(way):
    config = tiny_config()
    teacher = tiny_teacher(config).requires_grad_(False)
    widths = {0.5: Widths((4, 2, 0), (20, 3, 7)), 0.25: Widths((2, 1, 0), (10, 3, 2))}
    split = tiny_split([5, 3, 4, 2] * 3)
    assignment = peer_loops.Assignment(
        teacher=teacher, config=config, state=teacher.state_dict(), widths=widths, scale=0.25, matched=(0, 3),
        train=split, validation=split, pad_id=0, max_length=8, section=DistillationConfig(batch_size=4, lr=1e-2),
        steps=20, seed=0, device=torch.device("cpu"),
    )  # fmt: skip

    def distance(model):
        batch = split.batch(np.arange(12), 0)
        with torch.no_grad():
            mine, theirs = (side.eval()(**batch.inputs(), output_hidden_states=True) for side in (model, teacher))
            return float(peer_loops.kd_loss(mine, theirs, batch.attention_mask, (0, 3), regression=False))

    before = distance(peer_loops.load_trainable(config, widths[0.25], widths[0.25].cut(teacher.state_dict(), config)))
    student = peer_loops.by_plain_loop(assignment, [0.25] if way == "plain" else [0.5, 0.25])
    assert distance(student) < 0.9 * before


def test_ratios_are_within_a_repetition():
    rows = [
        {"way": way, "repetition": repetition, "seconds": seconds}
        for way, repetition, seconds in (("raydisc", 0, 2.0), ("plain", 0, 6.0), ("plain", 1, 6.0), ("raydisc", 1, 3.0))
    ]
    assert [row["ratio"] for row in peers.with_ratios(rows)] == [1.0, 3.0, 2.0, 1.0]


# --- scaling ---

PLAN = [
    Job("prepare", ""),
    Job("long", "", needs=("prepare",)),
    Job("a", "", needs=("prepare",)),
    Job("b", "", needs=("prepare",)),
    Job("after", "", needs=("long",)),
]
SECONDS = {"prepare": 1.0, "long": 4.0, "a": 2.0, "b": 2.0, "after": 3.0}


def test_one_worker_takes_as_long_as_all_jobs_together():
    found = makespan.simulate(PLAN, SECONDS, 1)
    assert (found.seconds, found.work, found.critical) == (12.0, 12.0, 8.0)
    assert found.limit == "workers: all are busy"


def test_many_workers_take_as_long_as_the_longest_chain():
    for workers in (2, 50):
        found = makespan.simulate(PLAN, SECONDS, workers)
        assert found.seconds == 8.0
        assert found.limit == "chain: prepare → long → after"


def test_jobs_that_do_not_fill_the_workers_are_called_so():
    jobs = [Job(name, "") for name in "abc"]
    found = makespan.simulate(jobs, dict.fromkeys("abc", 2.0) | {"c": 1.5}, 2)
    assert found.seconds == 3.5
    assert found.limit.startswith("jobs too few")


def test_throughput_counts_only_while_all_workers_are_at_work():
    # the second worker begins at 2; from then to the first end without a successor, at 6, both are busy
    done = [scaling.Done(4.0, 4.0), scaling.Done(6.0, 4.0), scaling.Done(8.0, 4.0)]
    assert scaling.trials_per_second(done, 2) == pytest.approx(2 / 4)
    assert scaling.trials_per_second(done[:1], 1) == pytest.approx(1 / 4)
    with pytest.raises(InputError, match="before all workers had begun"):
        scaling.trials_per_second([scaling.Done(2.0, 2.0), scaling.Done(5.0, 2.0)], 2)


def test_efficiency_is_per_worker():
    rows = [
        {"way": "bare", "repetition": 0, "workers": workers, "throughput": rate}
        for workers, rate in ((1, 10.0), (2, 18.0))
    ]  # noqa: E501
    assert [(row["ratio"], row["efficiency"]) for row in scaling.with_efficiency(rows)] == [(1.0, 1.0), (1.8, 0.9)]


# --- filling ---


def test_slots_count_as_used_until_the_last_job_begins():
    # two slots: the second job begins a second late, the third when the first has ended
    found = filling.used([(10.0, 14.0), (11.0, 15.0), (14.0, 18.0)], slots=2, begun=8.0)
    assert (found["most"], found["share"]) == (2, (4 + 3) / 8)
    assert (found["first_seconds"], found["full_seconds"], found["whole_seconds"]) == (2.0, 1.0, 10.0)
    assert filling.used([(10.0, 14.0), (11.0, 15.0)], slots=3, begun=8.0)["full_seconds"] is None


def test_a_plan_is_handed_out_whole():
    found = filling.handed_out(trials=20, at_once=4)
    assert (found["jobs"], found["slots"]) == (41, 4)
    assert found["whole_seconds"] >= 0


# --- search cost ---


def test_the_trial_of_a_path_is_found():
    trials = [kd_trial(0.1), maxidisc_trial(0.1, (0.5,)), maxidisc_trial(0.1, (0.3,))]
    assert find_trial(trials, "maxidisc", (0.3,)) is trials[2]
    assert find_trial(trials, "kd", ()) is trials[0]
    with pytest.raises(InputError, match="no trial of minidisc"):
        find_trial(trials, "minidisc", ())


def test_minidisc_with_other_options_and_in_other_settings_has_lines_of_its_own(tmp_path):
    world = World(tmp_path)
    world.base()
    world.fill()
    world.trial("more", "minidisc", "minidisc-s0", 0.6, label="minidisc-lam-0.4", lam=0.4, path=[0.3])
    late = World(tmp_path, run="r-late")
    for label in ("minidisc", "minidisc-lam-0.4"):
        late.trial(label, "minidisc", "minidisc-s0", 0.6, label=label, lam=0.2, path=[0.3])
    summaries, regrets = search_cost.compared(world.ledger, ["r", "r-late"])
    lines = search_cost.lines_of(summaries, regrets, {})
    of_minidisc = [line["schedule"] for line in lines if line["schedule"].startswith("minidisc")]
    assert of_minidisc == ["minidisc", "minidisc-lam-0.4", "minidisc late", "minidisc-lam-0.4 late"]
    assert all(line["flops_relative"] == pytest.approx(59 / 33) for line in lines if "minidisc" in line["schedule"])


def test_padding_share_by_hand():
    assert pieces.padding_share(np.array([2, 4]), [np.array([0, 1])]) == 0.25
    assert pieces.padding_share(np.array([], int), []) == 0.0
