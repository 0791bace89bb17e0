"""A word embedding that holds only the rows of tokens that occur trains as the whole one does."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny_models import KINDS, tiny_config
from torch import nn

from raydisc.losses.labels import task_loss
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Split
from raydisc.testing.models import state_of, tiny_teacher
from raydisc.testing.tolerance import assert_all_near, seen
from raydisc.training.compact_embedding import CompactVocabulary
from raydisc.training.loop import LoopSettings, no_evaluation, train
from raydisc.training.optimiser import OptimiserSettings, decayed, lr_at
from raydisc.training.progress import Evaluation

pytestmark = pytest.mark.numerics

LENGTHS = [4, 7, 3, 9, 5, 6, 2, 8, 4, 4, 7, 3]


def split_of(tokens, seed):
    rng = np.random.default_rng(seed)
    ids = [rng.choice(tokens, length).tolist() for length in LENGTHS]
    return Split(
        pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32())), "label": rng.integers(0, 3, len(ids))}),
        task_kind("classification"),
    )


TRAIN, VALIDATION = split_of([5, 7, 8, 11, 30, 38], 0), split_of([5, 6, 8, 31], 1)
SEEN = {5, 7, 8, 11, 30, 38}
SETTINGS = LoopSettings(
    stage="test", total_steps=9, seed=5, evaluate_at=frozenset(), patience=None, checkpoint_folder=None,
    checkpoint_every_s=0.0, optimiser=OptimiserSettings(lr=1e-2, warmup=0.25, weight_decay=0.5, max_grad_norm=1e9),
)  # fmt: skip


def trained(family, settings, evaluate=lambda model, pad, step: no_evaluation(step)):
    """The weights after training on the labels, and the state that it ended in."""
    config = tiny_config(family, dropout=0.2)
    model = tiny_teacher(config)
    pad = config.pad_token_id

    def step(index):
        batch = TRAIN.batch(np.arange(index % 3, len(TRAIN), 3), pad)
        total, count = task_loss(model(**batch.inputs()).logits, batch)
        (total / count).backward()
        return (total / count).detach(), 1.0

    state = train(model, settings, step, lambda step: evaluate(model, pad, step), lambda state: None)
    return model, state


def of_validation(model, pad, step):
    with torch.no_grad():
        logits = model(**VALIDATION.batch(np.arange(6), pad).inputs()).logits
    return Evaluation(step, -abs(step - 5.0), se=float(logits.mean())), 0.0


@pytest.mark.parametrize("patience", [None, 9])
@pytest.mark.parametrize("family", KINDS)
def test_the_rows_that_occur_are_trained_and_the_others_decay(family, patience):
    config = tiny_config(family)
    before = tiny_teacher(config).get_input_embeddings().weight.detach()
    settings = replace(SETTINGS, patience=patience, evaluate_at=frozenset({2, 5, 9}))
    whole, state = trained(family, settings, of_validation)
    settings = replace(settings, tokens=TRAIN.tokens())
    compact, compact_state = trained(family, settings, of_validation)
    assert [found.se for found in compact_state.evaluations] == pytest.approx(
        [found.se for found in state.evaluations], abs=1e-5
    )
    rows = compact.get_input_embeddings().weight.detach()
    assert_all_near(state_of(compact), state_of(whole))
    others = sorted(set(range(40)) - SEEN - {config.pad_token_id})
    factor = decayed(5 if patience else 9, 9, settings.optimiser)
    assert 0.95 < factor < 0.99  # far from 1, so that a wrong number of steps would show
    torch.testing.assert_close(rows[others], before[others] * factor)
    assert (rows[5] - before[5]).abs().max() > 0.02


@pytest.mark.parametrize("family", KINDS)
def test_the_norm_that_gradients_are_clipped_to_is_the_same(family):
    """After few steps: Adam scales up what rounding leaves of a gradient that is zero."""
    settings = replace(SETTINGS, total_steps=3, optimiser=replace(SETTINGS.optimiser, max_grad_norm=0.05))
    whole, _ = trained(family, settings)
    compact, _ = trained(family, replace(settings, tokens=TRAIN.tokens()))
    assert_all_near(seen(state_of(compact)), seen(state_of(whole)))


@pytest.mark.parametrize("family", KINDS)
def test_the_model_is_as_it_was_but_for_its_rows(family):
    config = tiny_config(family)
    model, plain = tiny_teacher(config), tiny_teacher(config)
    embedding = model.get_input_embeddings()
    parameter = embedding.weight
    inputs = {"input_ids": TRAIN.batch(np.arange(4), config.pad_token_id).input_ids}
    inputs["input_ids"][:, 1] = config.pad_token_id  # as a real token
    expected = plain(**inputs).logits
    vocabulary = CompactVocabulary(model, np.union1d(TRAIN.tokens(), [config.pad_token_id]))
    assert model.get_input_embeddings().weight.shape == (7, 24)
    assert embedding.num_embeddings == 7
    assert list(model.state_dict()) == list(plain.state_dict())
    assert torch.equal(model(**inputs).logits, expected)
    model(**inputs).logits.sum().backward()
    plain(**inputs).logits.sum().backward()
    full = plain.get_input_embeddings().weight.grad
    tokens = sorted({5, 7, 8, 11, 30, 38, config.pad_token_id})
    assert torch.equal(embedding.weight.grad, full[tokens])
    without_gradient = not embedding.weight.grad[tokens.index(config.pad_token_id)].any()
    assert without_gradient == (plain.get_input_embeddings().padding_idx is not None)
    with pytest.raises(IndexError):
        model(torch.tensor([[12]]))
    with torch.no_grad():
        embedding.weight.add_(1.0)
    wanted = plain.get_input_embeddings().weight.detach() * 0.5
    wanted[tokens] = wanted[tokens] * 2 + 1
    compact = embedding.weight
    with vocabulary.whole(0.5):
        assert torch.equal(embedding.weight, wanted)
        assert not embedding._forward_pre_hooks
    assert embedding.weight is compact
    assert torch.equal(parameter, plain.get_input_embeddings().weight)
    vocabulary.restore(0.5)
    assert not embedding._forward_pre_hooks
    assert embedding.weight is parameter
    assert (embedding.num_embeddings, embedding.padding_idx) == (40, plain.get_input_embeddings().padding_idx)
    assert torch.equal(parameter, wanted)
    assert vars(embedding).keys() == vars(plain.get_input_embeddings()).keys()


def test_what_decay_leaves():
    optimiser = SETTINGS.optimiser
    assert decayed(0, 9, optimiser) == 1.0
    expected = 1.0
    for step in range(4):
        expected *= 1 - lr_at(step, 9, optimiser) * 0.5
    assert decayed(4, 9, optimiser) == pytest.approx(expected, rel=1e-12)


def test_an_embedding_that_is_none_of_torchs():
    model = tiny_teacher(tiny_config())
    model.set_input_embeddings(nn.EmbeddingBag(40, 24))
    with pytest.raises(TypeError, match="the word embedding is a EmbeddingBag"):
        CompactVocabulary(model, np.array([5]))
