import pytest
import torch
from tiny_models import KINDS, tiny_config

from raydisc.testing.models import tiny_batch, tiny_teacher
from raydisc.testing.tolerance import assert_near
from raydisc.training.dropout import set_dropout

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", KINDS)
def test_without_dropout_training_computes_what_evaluation_does(family, attention):
    config = tiny_config(family, attention=attention, dropout=0.4)
    model, batch = tiny_teacher(config), tiny_batch(config)
    expected = model(**batch.inputs()).logits
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert not torch.allclose(model.train()(**batch.inputs()).logits, expected, atol=1e-3)
    set_dropout(model, 0.0)
    torch.set_rng_state(before)
    assert_near(model(**batch.inputs()).logits, expected)
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", KINDS)
def test_a_probability_is_everybodys(family, attention):
    """As if the configuration had said so: the same numbers are drawn."""
    config = tiny_config(family, attention=attention, dropout=0.3)
    model, batch = tiny_teacher(tiny_config(family, attention=attention, dropout=0.1)), tiny_batch(config)
    set_dropout(model, 0.3)
    logits = []
    for one in (model, tiny_teacher(config)):
        torch.manual_seed(2)
        logits.append(one.train()(**batch.inputs()).logits)
    assert torch.equal(*logits)


def test_none_leaves_the_configurations():
    model = tiny_teacher(tiny_config(dropout=0.25))
    set_dropout(model, None)
    found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert found == {0.25}
