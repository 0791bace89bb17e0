"""EncT5 is T5 with one decoder layer that is asked once."""

import pytest
import torch
from tiny_models import tiny_config
from transformers import AutoModel, AutoModelForSeq2SeqLM

from raydisc.errors import InputError
from raydisc.families.registry import layers_of
from raydisc.models.teacher_checkpoint import check_head, check_units, load_config, load_teacher, locate
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import importance_with_empty_layers, sorted_state, tiny_batch, tiny_teacher
from raydisc.testing.tolerance import assert_near

pytestmark = pytest.mark.numerics


@pytest.fixture(params=["t5", "mt5"])
def config(request):
    return tiny_config(request.param)


@pytest.fixture
def pretrained(config):
    """T5 as it comes from pretraining, with as many layers in its decoder as in its encoder."""
    torch.manual_seed(3)
    return AutoModelForSeq2SeqLM.from_config(config).eval()


def test_it_takes_a_checkpoint_of_t5(tmp_path, config, pretrained):
    pretrained.save_pretrained(tmp_path)
    check_units(locate(str(tmp_path)), load_config(tmp_path))
    loaded = load_teacher(tmp_path, task_kind("classification"), 2, 0, finetuned=False).eval()
    config.num_decoder_layers = 1
    one_layer = AutoModel.from_config(config).eval()
    one_layer.load_state_dict(pretrained.state_dict(), strict=False)
    batch = tiny_batch(tiny_config(config.model_type))
    with torch.no_grad():
        asked = torch.zeros(len(batch.rows), 1, dtype=torch.int64)  # the decoder's start token
        expected = one_layer(**batch.inputs(), decoder_input_ids=asked, output_hidden_states=True)
        found = loaded.transformer(**batch.inputs(), output_hidden_states=True)
    assert_near(found.last_hidden_state, expected.last_hidden_state[:, 0])
    real = batch.attention_mask.bool()
    for mine, theirs in zip(found.hidden_states, expected.encoder_hidden_states, strict=True):
        assert_near(mine[real], theirs[real])
    assert torch.equal(loaded.transformer.prompt, pretrained.state_dict()["shared.weight"][0])
    assert loaded.classifier.out_features == 2


def test_a_checkpoint_of_t5_is_no_teacher(tmp_path, config, pretrained):
    pretrained.save_pretrained(tmp_path)
    config.num_labels = 3
    for refuse in (
        lambda: check_head(tmp_path, config),
        lambda: load_teacher(tmp_path, task_kind("classification"), 3, 0, finetuned=True),
    ):
        with pytest.raises(InputError, match=r"lacks classifier.bias, classifier.weight.*add teacher.finetune"):
            refuse()


def test_every_layer_takes_its_own_heads_from_the_position_bias(config):
    importance = importance_with_empty_layers(config, seed=1)
    state, teacher = sorted_state(tiny_teacher(config), config, importance), tiny_teacher(config)
    orders = [state[units.heads.buffers[0]].tolist() for units in layers_of(config)]
    assert len({tuple(order) for order in orders}) == 3
    with torch.no_grad():
        expected = teacher(**tiny_batch(config).inputs()).logits
        teacher.load_state_dict(state)
        assert_near(teacher(**tiny_batch(config).inputs()).logits, expected)
        for units in layers_of(config):
            teacher.get_buffer(units.heads.buffers[0]).copy_(torch.arange(4))
        assert not torch.allclose(teacher(**tiny_batch(config).inputs()).logits, expected, atol=1e-2)
