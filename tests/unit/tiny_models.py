"""Tiny configurations of every family."""

from transformers import AutoConfig

from raydisc.families.registry import FAMILIES as REGISTRY
from raydisc.families.registry import layers_of
from raydisc.models.structure import Size
from raydisc.supernet.candidates import candidate
from raydisc.supernet.importance import random_importance
from raydisc.testing.models import VOCABULARY

FAMILIES = REGISTRY.names()
DECODERS = tuple(family.model_type for family in REGISTRY if family.predicts_next)
KINDS = ("bert", "roberta", "distilbert", "modernbert", "mt5", "qwen3")
"""One family of each way to be built, for what does not depend on where the units are."""
TAGGERS = tuple(family for family in FAMILIES if family != "gemma3_text")
"""Those that have a token classifier."""


def tiny_config(family="bert", num_labels=3, layers=3, attention="sdpa", dropout=0.0):
    """A configuration of `layers` layers with 4 heads of 6 and 20 neurons, and a residual stream of 24.

    T5's feed-forward is plain, mT5's gated. A decoder has 4 key/value heads, each shared by 2 query heads; the windows
    of those that have any are short.
    """
    common = {"vocab_size": VOCABULARY, "initializer_range": 0.3, "attn_implementation": attention}
    if family == "distilbert":
        shape = {"dim": 24, "hidden_dim": 20, "n_layers": layers, "n_heads": 4, "max_position_embeddings": 32}
        dropouts = {"dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout}
    elif family == "modernbert":
        shape = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": layers, "num_attention_heads": 4}
        shape |= {"max_position_embeddings": 34, "local_attention": 4, "global_attn_every_n_layers": 2}
        shape |= {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
        names = ("attention_dropout", "mlp_dropout", "embedding_dropout", "classifier_dropout")
        dropouts = dict.fromkeys(names, dropout)
    elif family in ("t5", "mt5"):
        common["initializer_factor"] = 0.7
        shape = {"d_model": 24, "d_ff": 20, "num_layers": layers, "num_heads": 4, "d_kv": 6}
        shape |= {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 12}
        dropouts = {"dropout_rate": dropout, "classifier_dropout": dropout}
    elif family in DECODERS:
        shape = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": layers, "num_attention_heads": 8}
        shape |= {"num_key_value_heads": 4, "head_dim": 6, "max_position_embeddings": 34, "pad_token_id": 0}
        windows = {"mistral": {}, "qwen2": {"use_sliding_window": True, "max_window_layers": 1}, "gemma3_text": {}}
        shape |= {"sliding_window": 4, **windows[family]} if family in windows else {}
        dropouts = {"attention_dropout": dropout}
    elif family in ("bert", "roberta", "xlm-roberta"):
        shape = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": layers, "num_attention_heads": 4}
        shape |= {"max_position_embeddings": 34, "type_vocab_size": 2}
        dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    else:
        raise LookupError(f"the family '{family}' needs a tiny configuration here, by which its contract is tested")
    config = AutoConfig.for_model(family, **common, **shape, **dropouts)
    config.num_labels = num_labels
    return config


def size_at(config, teacher_parameters, scale) -> Size:
    """The size of the candidate at a scale, whichever units it keeps."""
    return candidate(random_importance(layers_of(config), 0), scale).structure.size(config, teacher_parameters)
