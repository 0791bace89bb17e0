"""A forward in bfloat16: rounded matrix multiplications, everything around them in float32."""

import pytest
import torch
from tiny_models import KINDS, tiny_config
from torch import nn

from raydisc.models.forward import forward
from raydisc.models.precision import has_bfloat16
from raydisc.signals.source import OnlineSignal
from raydisc.testing.models import tiny_batch, tiny_teacher

pytestmark = pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")), reason="this machine's processor has no bfloat16 arithmetic"
)

POSITIONS = (0, 1, 3)


def multiplied_in(model) -> list[torch.dtype]:
    """Fills itself with the types that the model's linear layers give."""
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    return seen


@pytest.mark.parametrize("lengths", [(9, 3, 6, 1), (5, 5)], ids=["padding", "none"])
@pytest.mark.parametrize("family", KINDS)
def test_outputs_are_float32_and_near(family, lengths):
    config = tiny_config(family)
    model, batch = tiny_teacher(config), tiny_batch(config, lengths)
    exact = forward(model, batch, POSITIONS)
    seen = multiplied_in(model)
    rounded = forward(model, batch, POSITIONS, "bfloat16")
    assert set(seen) == {torch.bfloat16}
    real = batch.attention_mask.bool()
    for mine, theirs in zip((rounded.logits, *rounded.hidden), (exact.logits, *exact.hidden), strict=True):
        mine, theirs = (it[real] if it.ndim == 3 else it for it in (mine, theirs))
        assert mine.dtype == torch.float32
        assert (mine - theirs).norm() < 0.03 * theirs.norm()
    assert not torch.equal(rounded.logits, exact.logits)


def test_gradients_are_float32_and_near():
    config = tiny_config()
    model, batch = tiny_teacher(config), tiny_batch(config)
    gradients = []
    for precision in ("float32", "bfloat16"):
        model.zero_grad()
        forward(model, batch, POSITIONS, precision).logits.square().sum().backward()
        assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert 0 < (gradients[1] - gradients[0]).norm() < 0.05 * gradients[0].norm()


def test_nothing_of_it_stays_behind():
    config = tiny_config()
    model, batch = tiny_teacher(config), tiny_batch(config)
    before = forward(model, batch, ()).logits
    forward(model, batch, (), "bfloat16")
    assert torch.equal(forward(model, batch, ()).logits, before)
    assert not torch.is_autocast_enabled("cpu")


def test_a_teacher_that_is_run_in_every_step():
    config = tiny_config()
    teacher, batch = tiny_teacher(config), tiny_batch(config)
    found = OnlineSignal(teacher, POSITIONS, lambda batch: None, "bfloat16").outputs(batch)
    assert torch.equal(found.logits, forward(teacher, batch, (), "bfloat16").logits)
