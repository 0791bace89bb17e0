"""Bad teachers are refused with one sentence; good ones load with a head for the task."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, tiny_config
from transformers import AutoModel

from raydisc.errors import InputError
from raydisc.models.architecture import from_architecture
from raydisc.models.teacher_checkpoint import (
    check_head,
    check_outputs,
    check_units,
    checkpoint_fingerprint,
    load_config,
    load_teacher,
    load_tokenizer,
    locate,
    locate_tokenizer,
    stored_tensors,
)
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.reviews import word_tokenizer
from raydisc.testing.models import VOCABULARY, tiny_batch, tiny_teacher

TINY = {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 4, "num_hidden_layers": 2}


@pytest.fixture
def teacher_folder(tmp_path):
    """A fine-tuned teacher of three classes, with its tokenizer."""
    tiny_teacher(tiny_config()).save_pretrained(tmp_path / "teacher")
    word_tokenizer().save_pretrained(tmp_path / "teacher")
    return tmp_path / "teacher"


@pytest.fixture
def encoder_folder(tmp_path):
    """An encoder without a head, as it comes from pretraining."""
    AutoModel.from_config(tiny_config()).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def test_a_folder_without_configuration(tmp_path):
    with pytest.raises(InputError, match="is not a checkpoint: it has no config.json"):
        locate(str(tmp_path))
    (tmp_path / "config.txt").touch()
    with pytest.raises(InputError, match="is not a checkpoint"):
        locate(str(tmp_path / "config.txt"))


def test_neither_a_folder_nor_on_the_hub(tmp_path):
    with pytest.raises(InputError, match="'nobody/nothing' is neither a folder here nor a model that the hub gives"):
        locate("nobody/nothing")
    with pytest.raises(InputError, match="neither a folder here"):
        locate(str(tmp_path / "missing"))


def test_pickled_weights_are_refused_with_the_way_to_convert_them(teacher_folder):
    (teacher_folder / "model.safetensors").rename(teacher_folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickled weights.*save_pretrained\(\.\.\., safe_serialization=True\)"):
        locate(str(teacher_folder))
    (teacher_folder / "pytorch_model.bin").unlink()
    with pytest.raises(InputError, match="holds no weights: model.safetensors is missing"):
        locate(str(teacher_folder))
    (teacher_folder / "adapter_model.safetensors").touch()  # an adapter alone is not a model
    with pytest.raises(InputError, match="holds no weights: model.safetensors is missing"):
        locate(str(teacher_folder))


def test_weights_in_several_files(tmp_path):
    config, batch = tiny_config(), tiny_batch(tiny_config())
    teacher = tiny_teacher(config)
    teacher.save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    check_head(tmp_path, load_config(tmp_path))
    check_units(tmp_path, load_config(tmp_path))
    with torch.no_grad():
        loaded = load_teacher(locate(str(tmp_path)), task_kind("classification"), 3, 0, finetuned=True).eval()
        assert torch.equal(loaded(**batch.inputs()).logits, teacher(**batch.inputs()).logits)
    before = checkpoint_fingerprint(tmp_path)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(InputError, match=f"lacks {shards[1]}, which its index names"):
        locate(str(tmp_path))
    assert checkpoint_fingerprint(tmp_path) != before


@pytest.mark.parametrize("family", FAMILIES)
def test_units_of_another_configuration_are_refused_unloaded(tmp_path, family):
    """A head may be one neuron wide too: nothing is guessed from sizes."""
    config = tiny_config(family)
    tiny_teacher(config).save_pretrained(tmp_path / "teacher")
    tiny_teacher(config).base_model.save_pretrained(tmp_path / "encoder")
    narrow = tiny_config(family)
    if not hasattr(narrow, "head_dim"):
        narrow.num_attention_heads = narrow.hidden_size
    deep = tiny_config(family, layers=4)
    wide = tiny_config(family)
    name = {"distilbert": "hidden_dim", "t5": "d_ff", "mt5": "d_ff"}.get(family, "intermediate_size")
    setattr(wide, name, 21)
    for name in ("teacher", "encoder"):
        check_units(tmp_path / name, config)
        check_units(tmp_path / name, narrow)
        with pytest.raises(InputError, match=r"not those of its config.json: .*\.3\..* is missing, not \[\d+, 24\]"):
            check_units(tmp_path / name, deep)
        with pytest.raises(InputError, match=r"\.0\..* is \[[24]0, 24\], not \[(21|42), 24\]"):
            check_units(tmp_path / name, wide)


@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1\n", b"", None])
def test_weights_that_are_no_safetensors(teacher_folder, content):
    path = teacher_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(InputError, match=r"model.safetensors' is not a safetensors file .*Git LFS"):
        stored_tensors(teacher_folder)


@pytest.mark.parametrize(
    "content", ["not json", "null", "[]", "{}", '{"model_type": 3}', '{"model_type": "bert", "hidden_size": "wide"}']
)
def test_configurations_that_are_none(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="config.json' is not a configuration") as raised:
        load_config(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("model_type", ["gpt2", "electra", "never-heard-of"])
def test_unknown_families_are_refused_by_name(tmp_path, model_type):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError, match=f"family '{model_type}'.*bert, distilbert, gemma, .*roberta"):
        load_config(tmp_path)


def test_labels_of_another_task(teacher_folder):
    with pytest.raises(InputError, match=r"has 3 labels but the task has 2; .*teacher\.finetune"):
        load_teacher(teacher_folder, task_kind("classification"), 2, 0, finetuned=True)
    check_outputs(tiny_config(num_labels=2), task_kind("classification"), 2, teacher_folder)


def test_finetuning_gives_a_head_for_the_task(teacher_folder, encoder_folder):
    """Whether the head is missing or another task's; the rest of the weights is the checkpoint's."""
    for folder, prefix in ((teacher_folder, "bert."), (encoder_folder, "")):
        model = load_teacher(folder, task_kind("classification"), 5, 0, finetuned=False)
        assert model.get_submodule("classifier").out_features == model.config.num_labels == 5
        for name, tensor in load_file(folder / "model.safetensors").items():
            if name.startswith(prefix) and "classifier" not in name:
                assert torch.equal(model.state_dict()["bert." + name.removeprefix("bert.")], tensor)


def test_a_teacher_needs_its_head(encoder_folder):
    config = load_config(encoder_folder)
    config.num_labels = 2
    config.save_pretrained(encoder_folder)
    message = r"not a fine-tuned classifier \(it lacks classifier.bias, classifier.weight\); add teacher.finetune"
    with pytest.raises(InputError, match=message):
        load_teacher(encoder_folder, task_kind("classification"), 2, 0, finetuned=True)
    with pytest.raises(InputError, match=message):
        check_head(encoder_folder, config)


def test_weights_of_another_configuration(teacher_folder):
    """Only a head is ever initialised at random: a layer of random weights would not be a teacher."""
    path = teacher_folder / "model.safetensors"
    whole = load_file(path)
    save_file({name: tensor for name, tensor in whole.items() if "layer.2" not in name}, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"not those of its config.json \(bert.encoder.layer.2"):
        load_teacher(teacher_folder, task_kind("classification"), 3, 0, finetuned=False)
    short = {name: tensor[:-1] if "word_embeddings" in name else tensor.clone() for name, tensor in whole.items()}
    save_file(short, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"not those of its config.json \(bert.embeddings.word_embeddings"):
        load_teacher(teacher_folder, task_kind("classification"), 3, 0, finetuned=False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_checkpoints_are_computed_in_float32(tmp_path, dtype):
    tiny_teacher(tiny_config()).to(dtype).save_pretrained(tmp_path)
    model = load_teacher(tmp_path, task_kind("classification"), 3, 0, finetuned=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert "float32" in json.dumps(model.config.to_dict()["dtype"])  # so are the students that it shapes


def test_tokenizers(teacher_folder, encoder_folder, tmp_path):
    with pytest.raises(InputError, match=r"has no tokenizer .*save it there"):
        load_tokenizer(encoder_folder)
    assert (
        load_tokenizer(teacher_folder)("the food was good")["input_ids"]
        == word_tokenizer()("the food was good").input_ids
    )
    (teacher_folder / "tokenizer.json").write_text("nonsense")
    with pytest.raises(InputError, match="the tokenizer in .* cannot be read"):
        load_tokenizer(teacher_folder)
    word_tokenizer().save_pretrained(tmp_path / "words")  # a tokenizer of its own has no weights beside it
    assert locate_tokenizer(str(tmp_path / "words")) == tmp_path / "words"
    with pytest.raises(InputError, match="^teacher.tokenizer: "):
        locate_tokenizer(str(tmp_path / "missing"))


def test_folders_in_packages(tmp_path, monkeypatch):
    tiny_teacher(tiny_config()).save_pretrained(tmp_path / "tinypackage" / "model")
    (tmp_path / "tinypackage" / "__init__.py").write_text("raise RuntimeError('finding a model runs nothing')")
    (tmp_path / "outside").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    found = locate("package:tinypackage/model")
    assert found == (tmp_path / "tinypackage" / "model").resolve()
    assert load_config(found).model_type == "bert"
    for escape in ("package:tinypackage/..", "package:tinypackage/../outside", "package:torch/../.."):
        with pytest.raises(InputError, match="holds no folder"):
            locate(escape)
    with pytest.raises(InputError, match="holds no folder 'missing'"):
        locate("package:tinypackage/missing")
    with pytest.raises(InputError, match="has no config.json"):
        locate("package:tinypackage/")
    for absent in ("package:not_installed_at_all/model", "package:../outside", "package:", "package:json.tool/x"):
        with pytest.raises(InputError, match="is not installed"):
            locate(absent)


def test_an_absolute_path_does_not_leave_the_package(tmp_path):
    with pytest.raises(InputError, match="holds no folder"):
        locate(f"package:torch/{tmp_path}")


def test_a_link_out_of_the_package_is_refused(tmp_path, monkeypatch):
    (tmp_path / "linkedpackage").mkdir()
    (tmp_path / "linkedpackage" / "__init__.py").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "linkedpackage" / "model").symlink_to(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="holds no folder 'model'"):
        locate("package:linkedpackage/model")


def test_fingerprints_follow_the_contents(teacher_folder, tmp_path):
    import shutil

    before = checkpoint_fingerprint(teacher_folder)
    shutil.copytree(teacher_folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("says nothing")
    assert checkpoint_fingerprint(tmp_path / "elsewhere") == before
    path = teacher_folder / "model.safetensors"
    state = load_file(path)
    state["classifier.bias"] = state["classifier.bias"] + 1e-3
    save_file(state, path, {"format": "pt"})
    assert checkpoint_fingerprint(teacher_folder) != before


def test_architectures():
    config = from_architecture(TINY, VOCABULARY, task_kind("classification"), 5, 0)
    assert (config.vocab_size, config.num_labels, config.hidden_size) == (VOCABULARY, 5, 24)


LLAMA = {**TINY, "model_type": "llama", "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 6}


def test_a_decoder_knows_the_padding_of_its_batches():
    config = from_architecture(LLAMA, VOCABULARY, task_kind("classification"), 2, 7)
    assert (config.pad_token_id, config.use_cache) == (7, False)
    with pytest.raises(InputError, match="its tokenizer has no padding token, by which a 'llama' classifier"):
        from_architecture(LLAMA, VOCABULARY, task_kind("classification"), 2, None)
    assert from_architecture(TINY, VOCABULARY, task_kind("classification"), 2, None).pad_token_id == 0


def test_a_finished_decoder_is_padded_as_its_tokenizer_says(tmp_path):
    config = tiny_config("llama")
    config.pad_token_id = None
    tiny_teacher(config).save_pretrained(tmp_path)
    batch = tiny_batch(tiny_config("llama"))
    loaded = load_teacher(tmp_path, task_kind("classification"), 3, 0, finetuned=True).eval()
    with torch.no_grad():
        assert torch.equal(loaded(**batch.inputs()).logits, tiny_teacher(tiny_config("llama"))(**batch.inputs()).logits)
    with pytest.raises(InputError, match="no padding token"):
        load_teacher(tmp_path, task_kind("classification"), 3, None, finetuned=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "nothing-known"}, "model_type 'nothing-known' is unknown"),
        ({"model_type": "gpt2"}, "no adapter for the family 'gpt2'"),
        ({"hiden_size": 24}, r"unknown key 'hiden_size' \(did you mean 'hidden_size'\?\)"),
        ({"vocab_size": 7}, "vocab_size is the tokenizer's"),
        ({"num_hidden_layers": "two"}, "num_hidden_layers"),
        ({"hidden_size": 25}, "25 hidden units cannot be shared by 4 heads"),
        (
            LLAMA | {"num_key_value_heads": 4},
            r"must be a multiple of num_key_value_heads \(4\), but is 6",
        ),
        (LLAMA | {"head_dim": 0}, "head_dim is 0, but must be at least 1"),
    ],
)
def test_architectures_that_are_none(change, message):
    with pytest.raises(InputError, match=message):
        from_architecture(TINY | change, VOCABULARY, task_kind("classification"), 2, 0)
