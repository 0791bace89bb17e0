"""The contract of families over all that are registered, and their units."""

import pytest
import torch
from tiny_models import FAMILIES, KINDS, tiny_config
from transformers import GPT2Config

from raydisc.errors import InputError
from raydisc.families.encoders import EncoderFamily, bert_like
from raydisc.families.registry import FAMILIES as REGISTRY
from raydisc.families.registry import family_named, family_of
from raydisc.families.units import PrunableLinear
from raydisc.models.architecture import from_architecture
from raydisc.models.widths import Widths
from raydisc.tasks.kinds import task_kind
from raydisc.testing.families import FamilyContract
from raydisc.testing.models import tagging


@pytest.mark.numerics
class TestEveryFamily(FamilyContract):
    @pytest.fixture(
        params=[
            *((family, "sdpa") for family in FAMILIES),
            *((family, "eager") for family in KINDS),
            *((family, "tags") for family in ("modernbert", "mt5")),
        ],
        ids="-".join,
    )
    def config(self, request):
        family, attention = request.param
        if attention == "tags":
            return tagging(tiny_config(family))
        return tiny_config(family, attention=attention)


def test_a_family_without_a_tiny_configuration_fails():
    assert FAMILIES == REGISTRY.names()
    with pytest.raises(LookupError, match="the family 'new' needs a tiny configuration here"):
        tiny_config("new")


@pytest.mark.parametrize("family", FAMILIES)
def test_full_widths_contain_all_others(family):
    full = Widths.full(tiny_config(family))
    assert full == Widths((4, 4, 4), (20, 20, 20))
    assert full.contains(Widths((4, 0, 4), (20, 19, 0)))
    assert not Widths((4, 0, 4), (20, 19, 0)).contains(full)
    assert not full.contains(Widths((5, 0, 0), (0, 0, 0)))
    assert not full.contains(Widths((0, 0, 0), (0, 21, 0)))


def test_unknown_family_is_refused_by_name():
    with pytest.raises(InputError, match="'gpt2'.*bert, distilbert, gemma, .*, qwen3, roberta, t5, xlm-roberta"):
        family_of(GPT2Config())
    with pytest.raises(InputError, match="'albert'"):
        family_named("albert")


def test_a_prefix_is_a_view_unless_the_weight_is_fused():
    weight, bias = torch.arange(48.0).view(12, 4), torch.arange(12.0)
    plain, fused = PrunableLinear("q", 0, 2), PrunableLinear("qkv", 0, 2, blocks=3)
    assert torch.equal(plain.first(weight, 4), weight[:8])
    assert plain.first(weight, 4).data_ptr() == plain.first(weight[:, :2], 4).data_ptr() == weight.data_ptr()
    assert torch.equal(PrunableLinear("o", 1, 2).first(weight, 1), weight[:, :2])
    assert torch.equal(fused.first(weight, 1), weight[[0, 1, 4, 5, 8, 9]])
    assert torch.equal(fused.first(bias, 1), bias[[0, 1, 4, 5, 8, 9]])
    assert fused.first(weight, 0).shape == (0, 4)
    assert fused.first(fused.first(weight, 0), 0).shape == (0, 4)
    assert (plain.kept(3), fused.kept(3)) == (6, 18)


def test_sorting_takes_a_unit_from_every_block():
    weight = torch.arange(12.0)
    plain, fused = PrunableLinear("q", 0, 3), PrunableLinear("qkv", 0, 2, blocks=3)
    assert fused.sorted(weight, (1, 0)).tolist() == [2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9]
    assert plain.sorted(weight, (3, 0, 2, 1)).tolist() == [9, 10, 11, 0, 1, 2, 6, 7, 8, 3, 4, 5]


class Documented(EncoderFamily):
    unnamed_settings = ("window",)


def test_a_setting_that_only_the_family_names_is_read():
    electra = Documented(**{**vars(bert_like("electra", "electra"))})
    sizes = {"hidden_size": 24, "embedding_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    architecture = {"model_type": "electra", **sizes, "intermediate_size": 20, "window": 5}
    with REGISTRY.registering(electra):
        assert from_architecture(architecture, 40, task_kind("classification"), 3, 0).window == 5
        with pytest.raises(InputError, match="unknown key 'windows'"):
            from_architecture({**architecture, "windows": 5}, 40, task_kind("classification"), 3, 0)
