"""Tiny models and data of every family, made on the spot: large random weights, so that outputs differ visibly."""

import itertools

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import AutoConfig

from raydisc.families.registry import layers_of
from raydisc.models.forward import Outputs, forward
from raydisc.models.structure import Size
from raydisc.models.task_heads import TokenHead, head_of, model_class, suit
from raydisc.models.widths import Widths
from raydisc.supernet.candidates import UnitOrder, candidate, order_units, reordered
from raydisc.supernet.importance import Importance, random_importance
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Batch, Split

DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text")
FAMILIES = ("bert", "roberta", "xlm-roberta", "distilbert", "modernbert", "t5", "mt5", *DECODERS)
KINDS = ("bert", "roberta", "distilbert", "modernbert", "mt5", "qwen3")
"""One family of each way to be built, for what does not depend on where the units are."""
TAGGERS = tuple(family for family in FAMILIES if family != "gemma3_text")
"""Those that have a token classifier."""
VOCABULARY = 40


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
    else:
        shape = {"hidden_size": 24, "intermediate_size": 20, "num_hidden_layers": layers, "num_attention_heads": 4}
        shape |= {"max_position_embeddings": 34, "type_vocab_size": 2}
        dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = AutoConfig.for_model(family, **common, **shape, **dropouts)
    config.num_labels = num_labels
    return config


def tagging(config):
    """The same configuration, of a token classifier."""
    suit(config, task_kind("tokens"), config.num_labels, 0)
    return config


def tiny_teacher(config, seed=0) -> nn.Module:
    """A teacher in evaluation mode; its biases and norms are random too."""
    torch.manual_seed(seed)
    model = model_class(config).from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model.eval()


def layer_path(units) -> str:
    """Where the layer is that has these units."""
    parts = (linear.path.split(".") for linear in units.linears)
    common = itertools.takewhile(lambda at: len(set(at)) == 1, zip(*parts, strict=False))
    return ".".join(names[0] for names in common).removesuffix(".layer")


def state_of(model) -> dict[str, torch.Tensor]:
    """A copy of a model's weights."""
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def gradients_of(model) -> dict[str, torch.Tensor | None]:
    """Return a model's gradients by name."""
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def tiny_split(lengths, num_labels=3, seed=0, types=False, tags=False) -> Split:
    """Random tokens of these lengths; `num_labels` 1 gives real targets, `tags` one for two tokens in three."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, VOCABULARY, length).tolist() for length in lengths]
    columns = {"input_ids": pa.array(ids, pa.list_(pa.int32()))}
    if types:
        columns["token_type_ids"] = pa.array(
            [(np.arange(length) > length // 2).astype(int).tolist() for length in lengths], pa.list_(pa.int8())
        )
    real = rng.standard_normal(len(lengths)).astype(np.float32)
    columns["label"] = pa.array(real if num_labels == 1 else rng.integers(0, num_labels, len(lengths)))
    if tags:
        words = [[token for token in range(length) if token % 3 != 1] for length in lengths]
        columns["first"] = pa.array(words, pa.list_(pa.int32()))
        columns["label"] = pa.array([rng.integers(0, num_labels, len(row)).tolist() for row in words])
    kind = task_kind("tokens" if tags else "regression" if num_labels == 1 else "classification")
    return Split(pa.table(columns), kind)


def tiny_batch(config, lengths=(9, 3, 6, 1), seed=0, num_labels=None) -> Batch:
    """A batch with padding."""
    types, tags = config.model_type == "bert", isinstance(head_of(config), TokenHead)
    split = tiny_split(lengths, num_labels or config.num_labels, seed, types, tags)
    return split.batch(np.arange(len(lengths)), config.pad_token_id)


def everything(model, config, batch) -> Outputs:
    """Logits and all hidden states, padding's left out: nobody reads them."""
    found = forward(model, batch, tuple(range(config.num_hidden_layers + 1)))
    real = batch.attention_mask.bool()
    return Outputs(found.logits, tuple(hidden[real] for hidden in found.hidden))


def importance_with_empty_layers(config, seed=0) -> Importance:
    """Random scores; the second layer's heads and the first layer's neurons are the least important by far."""
    scores = random_importance(layers_of(config), seed)
    heads = tuple(score * (1e-3 if layer == 1 else 1.0) for layer, score in enumerate(scores.heads))
    neurons = tuple(score * (1e-3 if layer == 0 else 1.0) for layer, score in enumerate(scores.neurons))
    return Importance(heads, neurons)


def size_at(config, teacher_parameters, scale) -> Size:
    """The size of the candidate at a scale, whichever units it keeps."""
    return candidate(random_importance(layers_of(config), 0), scale).widths.size(config, teacher_parameters)


def sorted_state(model, config, importance) -> dict[str, torch.Tensor]:
    """A teacher's weights with its units sorted by importance."""
    return reordered(state_of(model), layers_of(config), order_units(importance))


def identity_order(config) -> UnitOrder:
    """The teacher's own order."""
    widths = Widths.full(config)
    return UnitOrder(
        tuple(tuple(range(heads)) for heads in widths.heads),
        tuple(tuple(range(neurons)) for neurons in widths.neurons),
    )
