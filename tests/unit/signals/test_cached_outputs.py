"""Teacher outputs computed once, kept as Arrow and read without a copy."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import KINDS, tiny_config

from raydisc.forecast.memory import Allocations
from raydisc.models.forward import forward
from raydisc.models.task_heads import TokenHead, head_of
from raydisc.signals.base import ROUNDED_TYPES
from raydisc.signals.cache import OutputsShape, OutputsWriter, read_outputs
from raydisc.signals.hidden import HiddenStates
from raydisc.signals.logits import Logits
from raydisc.signals.source import BeyondRange, CachedSignal, OnlineSignal, write_outputs
from raydisc.testing.models import tagging, tiny_split, tiny_teacher
from raydisc.testing.tolerance import assert_near
from raydisc.training.inference import Pass

pytestmark = pytest.mark.numerics

LENGTHS = [5, 9, 1, 12, 3, 7, 7, 2, 10, 4, 6, 8, 11]
POSITIONS = (0, 1, 3)
ROUNDING = {"float16": 2**-11, "bfloat16": 2**-8}  # at most, relative to a number that is not tiny


def nothing(batch):
    pass


def written(folder, teacher, split, positions=POSITIONS, batch_size=4, dtype="float16", on_batch=nothing):
    """The error of writing all outputs into two files of a folder."""
    config, counts = teacher.config, split.label_counts
    sizes = (len(split), int(split.lengths.sum()), len(positions), config.hidden_size, config.num_labels)
    shape = OutputsShape(*sizes, num_labels=int(counts.sum()))
    with OutputsWriter(folder, shape, dtype, split.lengths, label_counts=counts) as writer:
        return write_outputs(teacher, split, positions, config.pad_token_id, Pass(batch_size, on_batch), writer)


def images(folder):
    return {signal.file: np.memmap(folder / signal.file, np.uint8, mode="r") for signal in (Logits, HiddenStates)}


def computed(folder, config, seed=0, **how):
    split = tiny_split(LENGTHS, config.num_labels, tags=isinstance(head_of(config), TokenHead))
    teacher = tiny_teacher(config, seed)
    written(folder, teacher, split, **how)
    return read_outputs(images(folder)), split, teacher


def random_batches(split, config, seed):
    rng = np.random.default_rng(seed)
    for _ in range(6):
        yield split.batch(rng.choice(len(split), 5, replace=False), config.pad_token_id)


@pytest.mark.parametrize(("num_labels", "dtype"), [(3, "float16"), (1, "bfloat16")])
@pytest.mark.parametrize("family", KINDS)
def test_kept_is_online(tmp_path, family, num_labels, dtype):
    """Within what the type rounds away, and logits to float32's rounding."""
    config = tiny_config(family, num_labels)
    kept, split, teacher = computed(tmp_path, config, dtype=dtype)
    cached, forwards = CachedSignal(kept, split.lengths), []
    online = OnlineSignal(teacher, POSITIONS, forwards.append)
    for batch in random_batches(split, config, 1):
        mine, theirs = cached.outputs(batch), online.outputs(batch)
        real = batch.attention_mask.bool()
        assert_near(mine.logits, theirs.logits)
        assert len(mine.hidden) == len(theirs.hidden) == 3
        for some, fresh in zip(mine.hidden, theirs.hidden, strict=True):
            assert some.dtype == fresh.dtype
            assert some.shape == fresh.shape
            assert_near(some[real].float(), fresh[real], ROUNDING[dtype])
            assert torch.isfinite(some).all()  # padding holds anything finite
        assert not theirs.logits.requires_grad
    assert len(forwards) == 6


@pytest.mark.parametrize("family", ["bert", "mt5"])
def test_kept_is_online_for_tags_of_which_rows_have_many_or_few(tmp_path, family):
    config = tagging(tiny_config(family))
    kept, split, teacher = computed(tmp_path, config)
    assert len(kept[Logits]) == split.label_counts.sum() < kept[HiddenStates].shape[0]
    cached, online = CachedSignal(kept, split.lengths, split.label_counts), OnlineSignal(teacher, POSITIONS, nothing)
    for batch in random_batches(split, config, 1):
        for part in (batch, batch.share(1, 3), batch.share(6, 7)):
            mine, theirs = cached.outputs(part), online.outputs(part)
            assert len(mine.logits) == len(part.labels)
            assert_near(mine.logits, theirs.logits)


def test_nothing_of_a_batch_is_left_when_the_next_one_is_computed(tmp_path):
    """Neither exact nor rounded numbers, which together take more than the weights of a small teacher."""
    config, counted, left = tiny_config(), Allocations(), []
    teacher, split = tiny_teacher(config), tiny_split(LENGTHS)
    teacher.register_forward_pre_hook(lambda *_: left.append(counted.now))
    with counted:
        written(tmp_path, teacher, split)
    states_of_a_token = 4 * config.hidden_size * len(POSITIONS)
    assert len(left) == 4
    assert max(left) < states_of_a_token
    assert counted.peak > 12 * states_of_a_token


def test_online_is_the_teacher_itself():
    config = tiny_config()
    split, teacher = tiny_split(LENGTHS), tiny_teacher(config)
    for batch in random_batches(split, config, 2):
        found, expected = OnlineSignal(teacher, POSITIONS, nothing).outputs(batch), forward(teacher, batch, POSITIONS)
        assert torch.equal(found.logits, expected.logits)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found.hidden, expected.hidden, strict=True))


def test_rows_that_differ_have_outputs_that_differ(tmp_path):
    kept, split, _ = computed(tmp_path, tiny_config())
    outputs = CachedSignal(kept, split.lengths).outputs(split.batch(np.arange(len(split)), 0))
    assert len({tuple(row.tolist()) for row in outputs.logits}) == len(split)
    assert outputs.hidden[0][0, 0].float().std() > 0.1
    assert not torch.equal(outputs.hidden[0], outputs.hidden[2])


def test_the_bits_do_not_depend_on_who_asks(tmp_path):
    first, split, teacher = computed(tmp_path / "one", tiny_config())
    written(tmp_path / "two", teacher.train(), split)
    for name in (Logits.file, HiddenStates.file):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    signal = CachedSignal(first, split.lengths)
    whole = signal.outputs(split.batch(np.arange(len(split)), 0))
    for order in (np.array([3]), np.array([12, 3, 0]), np.array([0, 3, 12])):
        some = signal.outputs(split.batch(order, 0))
        place = list(order).index(3)
        assert torch.equal(some.logits[place], whole.logits[3])
        assert torch.equal(some.hidden[1][place, : LENGTHS[3]], whole.hidden[1][3, : LENGTHS[3]])


def test_batch_size_changes_rounding_at_most(tmp_path):
    config = tiny_config()
    small, large = (computed(tmp_path / str(size), config, batch_size=size)[0] for size in (1, 13))
    assert_near(small[Logits], large[Logits])
    assert_near(small[HiddenStates].float(), large[HiddenStates].float(), ROUNDING["float16"])


def test_every_row_is_computed_once(tmp_path):
    seen = []
    computed(tmp_path, tiny_config(), on_batch=lambda batch: seen.extend(batch.rows))
    assert sorted(seen) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("dtype", ROUNDED_TYPES)
def test_the_error_is_that_of_what_is_kept(tmp_path, dtype):
    split, teacher = tiny_split(LENGTHS), tiny_teacher(tiny_config())
    error = written(tmp_path, teacher, split, dtype=dtype)
    kept, exact = read_outputs(images(tmp_path))[HiddenStates].double(), []
    for row in range(len(split)):
        hidden = forward(teacher, split.batch(np.array([row]), 0), POSITIONS).hidden
        exact.append(torch.stack([states[0].detach() for states in hidden], dim=1))
    expected = (kept - torch.cat(exact)).norm() / torch.cat(exact).norm()
    assert error == pytest.approx(float(expected), rel=0.02)
    assert ROUNDING[dtype] / 8 < error < ROUNDING[dtype]


@pytest.mark.parametrize("dtype", ROUNDED_TYPES)
def test_outputs_are_read_from_the_files_own_memory(tmp_path, dtype):
    computed(tmp_path, tiny_config(), dtype=dtype)
    mapped = images(tmp_path)
    back = read_outputs(mapped)
    assert back[Logits].shape == (len(LENGTHS), 3)
    assert back[HiddenStates].shape == (sum(LENGTHS), 3, 24)
    for signal, tensor in back.items():
        image = mapped[signal.file]
        start = image.ctypes.data
        assert start <= tensor.data_ptr() < start + image.nbytes


@pytest.mark.parametrize("num_labels", [3, 1])
def test_logits_alone(tmp_path, num_labels):
    """Where no loss compares hidden states none are kept, and the files still come back."""
    config = tiny_config(num_labels=num_labels)
    kept, split, teacher = computed(tmp_path, config, positions=())
    batch = split.batch(np.array([4, 2]), 0)
    outputs = CachedSignal(kept, split.lengths).outputs(batch)
    assert outputs.hidden == ()
    assert outputs.logits.shape == (2, num_labels)
    assert_near(outputs.logits, forward(teacher, batch, ()).logits)


def loud_teacher(factor):
    """A teacher with large hidden states."""
    teacher = tiny_teacher(tiny_config())
    with torch.no_grad():
        teacher.bert.encoder.layer[0].output.LayerNorm.weight.mul_(factor)
    return teacher


def test_hidden_states_beyond_a_type_are_refused(tmp_path):
    split = tiny_split(LENGTHS)
    with pytest.raises(BeyondRange):
        written(tmp_path, loud_teacher(1e6), split)
    assert 0 < written(tmp_path, loud_teacher(1e6), split, dtype="bfloat16") < ROUNDING["bfloat16"]
    with pytest.raises(BeyondRange):
        written(tmp_path, loud_teacher(float("nan")), split, dtype="bfloat16")


def test_bytes_are_those_of_the_tensors(tmp_path):
    kept, _, _ = computed(tmp_path, tiny_config())
    assert OutputsShape(len(LENGTHS), sum(LENGTHS), 3, 24, 3).bytes == kept[Logits].nbytes + kept[HiddenStates].nbytes


def anonymous_bytes():
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_writing_and_reading_hold_no_more_than_batches(tmp_path):
    """60 MB of outputs pass through a process that never has half of them in memory of its own."""
    split, config = tiny_split([40] * 500), tiny_config()
    config.max_position_embeddings = 64
    teacher, positions, peak = tiny_teacher(config), (0, 1, 2, 3) * 16, []

    def look(batch):
        if batch.rows[0] % 50 == 0:
            peak.append(anonymous_bytes())

    written(tmp_path / "before", teacher, split, positions=())  # what torch sets up once
    gc.collect()  # what tests before left would otherwise be freed, or not, in between
    before = anonymous_bytes()
    written(tmp_path, teacher, split, positions, batch_size=5, on_batch=look)
    kept = read_outputs(images(tmp_path))
    signal = CachedSignal(kept, split.lengths)
    for start in range(0, 500, 5):
        batch = split.batch(np.arange(start, start + 5), 0)
        signal.outputs(batch)
        look(batch)
    assert len(peak) == 20
    assert kept[HiddenStates].nbytes > 60e6
    assert max(peak) - before < 30e6
