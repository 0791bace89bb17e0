import numpy as np
import pyarrow as pa
import pytest
import torch

from raydisc.tasks.kinds import task_kind
from raydisc.tasks.reviews import word_tokenizer
from raydisc.tasks.tokenised import Split, table_from_buffer, table_to_buffer
from raydisc.tasks.tokeniser import tokenise

KIND = task_kind("classification")
TEXTS = ["the food was good", "the room was not very bad", "good", "the staff was awful and the view was nice"]


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture(scope="module")
def typed_tokenizer():
    """A tokenizer that makes token types, as BERT's does."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = word_tokenizer()
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def table(**extra) -> pa.Table:
    return pa.table({"text_0": TEXTS, **extra})


def test_columns_and_types(tokenizer):
    made = tokenise(table(label=pa.array([0, 1, 2, 1])), tokenizer, 64, 1)
    assert made.schema.field("input_ids").type == pa.list_(pa.int32())
    assert made.column("label").to_pylist() == [0, 1, 2, 1]
    assert made.column("input_ids").to_pylist() == [tokenizer(text)["input_ids"] for text in TEXTS]


def test_truncation_keeps_special_tokens(tokenizer):
    split = Split(tokenise(table(), tokenizer, 6, 1), KIND)
    assert split.lengths.tolist() == [6, 6, 3, 6]
    assert (split.batch(np.array([3]), 0).input_ids[0, [0, -1]] == torch.tensor([2, 3])).all()


def test_pairs_and_token_types(typed_tokenizer):
    made = tokenise(table(text_1=TEXTS[::-1]), typed_tokenizer, 64, 2)
    assert made.schema.field("token_type_ids").type == pa.list_(pa.int8())
    batch = Split(made, KIND).batch(np.arange(4), 0)
    expected = typed_tokenizer(TEXTS, TEXTS[::-1], padding=True, return_tensors="pt")
    assert set(batch.inputs()) == {"input_ids", "attention_mask", "token_type_ids"}
    for name, tensor in batch.inputs().items():
        assert tensor.dtype == torch.int64
        torch.testing.assert_close(tensor, expected[name])


def test_batch_is_what_the_tokenizer_pads(tokenizer):
    rows = np.array([3, 0, 2])
    split = Split(tokenise(table(label=pa.array([0, 1, 2, 1])), tokenizer, 64, 1), KIND)
    batch = split.batch(rows, tokenizer.pad_token_id)
    expected = tokenizer([TEXTS[i] for i in rows], padding=True, return_tensors="pt")
    torch.testing.assert_close(batch.input_ids, expected["input_ids"])
    torch.testing.assert_close(batch.attention_mask, expected["attention_mask"])
    assert set(batch.inputs()) == {"input_ids", "attention_mask"}
    assert batch.labels.tolist() == [1, 0, 2]
    assert batch.rows.tolist() == [3, 0, 2]
    assert batch.tokens == 3 * 11
    assert batch.real_tokens == batch.to("cpu").real_tokens == int(expected["attention_mask"].sum())
    assert batch.to("cpu").inputs().keys() == batch.inputs().keys()
    assert len(split) == 4


def test_label_types(tokenizer):
    regression = Split(
        tokenise(table(label=pa.array([0.5, 1, 2, 3], pa.float32())), tokenizer, 64, 1), task_kind("regression")
    )
    assert regression.batch(np.arange(2), 0).labels.dtype == torch.float32
    unlabelled = Split(tokenise(table(), tokenizer, 64, 1), KIND)
    assert unlabelled.batch(np.arange(2), 0).labels.isnan().all()


def test_buffer_round_trip_is_a_view(tokenizer):
    made = tokenise(table(label=pa.array([0, 1, 2, 1])), tokenizer, 64, 1)
    buffer = table_to_buffer(made)
    back = table_from_buffer(buffer)
    assert back.equals(made)
    split = Split(back, KIND)
    start, end = buffer.address, buffer.address + buffer.size
    for array in (split._ids, split.labels):
        assert start <= array.__array_interface__["data"][0] < end


def test_many_chunks_and_slices_are_read_right(tokenizer, monkeypatch):
    monkeypatch.setattr("raydisc.tasks.tokeniser.CHUNK", 2)
    made = tokenise(table(label=pa.array([0, 1, 2, 1])), tokenizer, 64, 1)
    assert made.num_rows == 4
    for view, first in ((pa.concat_tables([made, made]), 0), (made.slice(1), 1)):
        split = Split(view, KIND)
        for row in range(len(split)):
            expected = tokenizer(TEXTS[(row + first) % 4])["input_ids"]
            assert split.batch(np.array([row]), 0).input_ids[0].tolist() == expected
        texts = [tokenizer(text)["input_ids"] for text in TEXTS[first:]]
        assert split.tokens().tolist() == sorted({token for ids in texts for token in ids})
    assert len(Split(made.slice(4), KIND).tokens()) == 0


def test_batches_do_not_alias_shared_memory(tokenizer):
    made = tokenise(table(label=pa.array([0, 1, 2, 1])), tokenizer, 64, 1)
    split = Split(made, KIND)
    batch = split.batch(np.arange(4), 0)
    batch.input_ids.zero_()
    batch.labels.zero_()
    assert split.batch(np.arange(4), 0).input_ids.any()
    assert split.labels.tolist() == [0, 1, 2, 1]
