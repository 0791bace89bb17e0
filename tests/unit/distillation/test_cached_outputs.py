"""Teacher outputs computed once, kept as Arrow and read without a copy."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import FAMILIES, tiny_config, tiny_split, tiny_teacher

from raydisc.distillation.teacher_outputs import (
    CachedSignal,
    OnlineSignal,
    cache_bytes,
    compute_outputs,
    from_tables,
    to_tables,
)
from raydisc.errors import InputError
from raydisc.stages.context import table_blob
from raydisc.tasks.tokenised import table_from_buffer, table_to_buffer

LENGTHS = [5, 9, 1, 12, 3, 7, 7, 2, 10, 4, 6, 8, 11]
POSITIONS = (0, 1, 3)


def nothing(batch):
    pass


def computed(config, batch_size=4, positions=POSITIONS, seed=0):
    split = tiny_split(LENGTHS, config.num_labels)
    teacher = tiny_teacher(config, seed)
    return compute_outputs(teacher, split, positions, config.pad_token_id, batch_size, nothing), split, teacher


def random_batches(split, config, seed):
    rng = np.random.default_rng(seed)
    for _ in range(6):
        yield split.batch(rng.choice(len(split), 5, replace=False), config.pad_token_id)


@pytest.mark.parametrize("num_labels", [3, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_is_online(family, num_labels):
    config = tiny_config(family, num_labels)
    cached, split, teacher = computed(config)
    forwards = []
    online = OnlineSignal(teacher, POSITIONS, forwards.append)
    for batch in random_batches(split, config, 1):
        mine, theirs = cached.outputs(batch), online.outputs(batch)
        real = batch.attention_mask.bool()
        torch.testing.assert_close(mine.logits, theirs.logits, atol=1e-5, rtol=1e-5)
        assert len(mine.hidden) == len(theirs.hidden) == 3
        for kept, fresh in zip(mine.hidden, theirs.hidden, strict=True):
            assert kept.dtype == torch.float16
            assert kept.shape == fresh.shape
            torch.testing.assert_close(kept[real].float(), fresh[real], atol=2e-3, rtol=2e-3)
            assert torch.isfinite(kept).all()  # padding holds anything finite
        assert not theirs.logits.requires_grad
    assert len(forwards) == 6


def test_rows_that_differ_have_outputs_that_differ():
    cached, split, _ = computed(tiny_config())
    outputs = cached.outputs(split.batch(np.arange(len(split)), 0))
    assert len({tuple(row.tolist()) for row in outputs.logits}) == len(split)
    assert outputs.hidden[0][0, 0].float().std() > 0.1
    assert not torch.equal(outputs.hidden[0], outputs.hidden[2])


def test_the_bits_do_not_depend_on_who_asks():
    config = tiny_config()
    first, split, teacher = computed(config)
    again = compute_outputs(teacher.train(), split, POSITIONS, 0, 4, nothing)
    assert torch.equal(first.logits, again.logits)
    assert torch.equal(first.hidden, again.hidden)
    whole = first.outputs(split.batch(np.arange(len(split)), 0))
    for order in (np.array([3]), np.array([12, 3, 0]), np.array([0, 3, 12])):
        batch = split.batch(order, 0)
        some = first.outputs(batch)
        place = list(order).index(3)
        assert torch.equal(some.logits[place], whole.logits[3])
        assert torch.equal(some.hidden[1][place, : LENGTHS[3]], whole.hidden[1][3, : LENGTHS[3]])


def test_batch_size_changes_rounding_at_most():
    config = tiny_config()
    small, large = (computed(config, batch_size)[0] for batch_size in (1, 13))
    torch.testing.assert_close(small.logits, large.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(small.hidden.float(), large.hidden.float(), atol=4e-3, rtol=4e-3)


def test_every_row_is_computed_once():
    config = tiny_config()
    split, seen = tiny_split(LENGTHS), []
    compute_outputs(tiny_teacher(config), split, POSITIONS, 0, 4, lambda batch: seen.extend(batch.rows))
    assert sorted(seen) == list(range(len(LENGTHS)))


def test_arrow_shares_the_memory_both_ways():
    signal, split, _ = computed(tiny_config())
    logits, hidden = to_tables(signal)
    assert logits.column("logits").chunk(0).values.buffers()[1].address == signal.logits.data_ptr()
    assert hidden.column("hidden").chunk(0).values.buffers()[1].address == signal.hidden.data_ptr()
    back = from_tables(logits, hidden, split.lengths)
    assert back.logits.data_ptr() == signal.logits.data_ptr()
    assert back.hidden.data_ptr() == signal.hidden.data_ptr()
    assert back.hidden.shape == (sum(LENGTHS), 3, 24)
    assert back.logits.shape == (len(LENGTHS), 3)


def test_outputs_are_read_from_the_files_own_memory(tmp_path):
    signal, split, _ = computed(tiny_config())
    tables = []
    for name, table in zip(("logits", "hidden"), to_tables(signal), strict=True):
        table_blob(table)(tmp_path / name)
        image = np.memmap(tmp_path / name, dtype=np.uint8, mode="r")
        tables.append((table_from_buffer(pa.py_buffer(image)), image))
    (logits, logits_image), (hidden, hidden_image) = tables
    back = from_tables(logits, hidden, split.lengths)
    for tensor, image in ((back.logits, logits_image), (back.hidden, hidden_image)):
        start = image.ctypes.data
        assert start <= tensor.data_ptr() < start + image.nbytes
    assert torch.equal(back.logits, signal.logits)
    assert torch.equal(back.hidden, signal.hidden)
    batch = split.batch(np.array([3, 0, 7]), 0)
    assert torch.equal(back.outputs(batch).hidden[2], signal.outputs(batch).hidden[2])


@pytest.mark.parametrize("num_labels", [3, 1])
def test_logits_alone(num_labels):
    """Where no loss compares hidden states none are kept, and the tables still come back."""
    config = tiny_config(num_labels=num_labels)
    signal, split, _ = computed(config, positions=())
    assert signal.hidden.shape == (sum(LENGTHS), 0, 0)
    tables = (table_from_buffer(table_to_buffer(table)) for table in to_tables(signal))
    back = from_tables(*tables, split.lengths)
    outputs = back.outputs(split.batch(np.array([4, 2]), 0))
    assert outputs.hidden == ()
    assert torch.equal(outputs.logits, signal.logits[[4, 2]])
    assert outputs.logits.shape == (2, num_labels)


def test_hidden_states_beyond_half_precision():
    config = tiny_config()
    teacher = tiny_teacher(config)
    with torch.no_grad():
        teacher.bert.embeddings.LayerNorm.weight.mul_(1e6)
    with pytest.raises(InputError, match=r"beyond half precision; set .*source: online"):
        compute_outputs(teacher, tiny_split(LENGTHS), POSITIONS, 0, 4, nothing)


def test_bytes_are_those_of_the_tensors():
    signal, _, _ = computed(tiny_config())
    expected = cache_bytes(len(LENGTHS), sum(LENGTHS), 3, 24, 3)
    assert expected == signal.logits.nbytes + signal.hidden.nbytes


def test_padding_on_the_left_is_padding_too():
    """The token of each place follows the mask, whichever side is padded."""
    hidden = torch.arange(10.0).view(5, 1, 2).half()
    signal = CachedSignal(torch.zeros(2, 1), hidden, np.array([2, 3]))
    batch = tiny_split([2, 3]).batch(np.array([0, 1]), 0)
    batch.attention_mask[0] = torch.tensor([0, 1, 1])
    [found] = signal.outputs(batch).hidden
    assert found[0, 1:].tolist() == [[0, 1], [2, 3]]
    assert found[1].tolist() == [[4, 5], [6, 7], [8, 9]]
