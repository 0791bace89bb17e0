"""Everything that a user can get wrong: one clear sentence, exit code 2, before any training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_models import tiny_config

from raydisc.cli.main import main
from raydisc.tasks.reviews import word_tokenizer
from raydisc.testing.models import tiny_teacher

ROWS = [{"text": f"row {number}", "label": number % 2} for number in range(20)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three splits and a finished two-class BERT."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation", "test"):
        write_rows(f"{split}.jsonl", ROWS)
    config = tiny_config(num_labels=2)
    config.vocab_size = len(word_tokenizer())
    teacher = tiny_teacher(config)
    teacher.save_pretrained("teacher")
    word_tokenizer().save_pretrained("teacher")
    return tmp_path


def write_rows(name: str, rows: list[dict[str, Any]]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def said(capsys: pytest.CaptureFixture[str], *overrides: str, **sections: Any) -> str:
    """Validate an experiment; gives the one sentence it is refused with."""
    experiment = {
        "task": {
            "train": "train.jsonl", "validation": "validation.jsonl", "test": "test.jsonl", "text": ["text"],
            "metric": "accuracy", "max_length": 32,
        },
        "teacher": {"model": "teacher"},
        "grid": {"scales": [0.8, 0.5, 0.2]},
        "student": {"scale": 0.2},
    } | sections  # fmt: skip
    Path("mine.yaml").write_text(yaml.safe_dump(experiment))
    words = [word for override in overrides for word in ("--set", override)]
    code = main(["validate", "mine.yaml", *words])
    captured = capsys.readouterr()
    if code == 0:
        return ""
    assert code == 2, captured.err
    assert "Traceback" not in captured.err
    [sentence] = captured.err.splitlines()
    return sentence.removeprefix("raydisc: ")


def test_the_experiment_itself_is_fine(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == ""


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task.train=missing.jsonl", ["missing.jsonl"]),
        ("task.text=[sentence]", ["sentence", "text"]),
        ("task.label=target", ["target"]),
        ("task.text=[label]", ["label"]),
        ("task.metric=acuracy", ["acuracy", "accuracy"]),
        ("student.scale=1.5", ["student.scale", "1.5"]),
        ("student.scale=0", ["student.scale"]),
        ("student.scale=0.9", ["grid.scales", "0.9"]),
        ("student.parameters=10", ["student.parameters"]),
        ("student.parameters=1e12", ["student.parameters"]),
        ("grid.scales=[]", ["grid.scales"]),
        ("distillation.sheduls=1", ["sheduls", "distillation"]),
        ("distillation.epoch=1", ["epoch", "epochs"]),
        ("distillation.lr=fast", ["distillation.lr", "fast"]),
        ("teacher.model=nowhere", ["nowhere"]),
        ("teacher.model=package:no_such_package/model", ["no_such_package"]),
        ("schedules=[minidisk]", ["minidisk", "minidisc"]),
        ("distillation.losses={hiden_mse: 1.0}", ["hiden_mse"]),
        ("distillation.layer_mapping=[[9, 9]]", ["layer_mapping", "9"]),
        ("name=ledger", ["ledger"]),
    ],
)
def test_a_wrong_value_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], override: str, words: list[str]
) -> None:
    sentence = said(capsys, override)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("validation.jsonl", [{"text": "a", "label": 7}], ["7"]),
        ("validation.jsonl", [], ["validation"]),
        ("train.jsonl", [*ROWS, {"text": "a", "label": None}], ["label"]),
        ("train.jsonl", [*ROWS, {"text": None, "label": 1}], ["text"]),
        ("train.jsonl", [{"text": 5, "label": 0}, {"text": 6, "label": 1}], ["text"]),
        ("train.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 1}], ["label"]),
    ],
)
def test_wrong_rows_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, rows: list[dict[str, Any]], words: list[str]
) -> None:
    write_rows(name, rows)
    sentence = said(capsys)
    assert sentence
    assert all(word in sentence for word in words), sentence


def test_targets_that_are_no_numbers_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.csv").write_text("text,label\na,1.5\nb,NaN\n")
    sentence = said(capsys, "task.train=train.csv", "task.metric=pearson")
    assert "label" in sentence


def test_pickled_weights_are_refused_with_the_way_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("teacher/model.safetensors").unlink()
    torch.save({}, "teacher/pytorch_model.bin")
    sentence = said(capsys)
    assert "pickled" in sentence
    assert "save_pretrained" in sentence


def test_a_teacher_without_a_tokenizer_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("teacher/tokenizer.json").unlink()
    assert "tokenizer" in said(capsys)


def test_a_folder_that_is_no_checkpoint_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("teacher/config.json").unlink()
    assert "config.json" in said(capsys)


def test_an_unknown_family_is_refused_by_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads(Path("teacher/config.json").read_text()) | {"model_type": "gpt2"}
    Path("teacher/config.json").write_text(json.dumps(config))
    sentence = said(capsys)
    assert "gpt2" in sentence
    assert "distilbert" in sentence


def test_a_teacher_of_another_task_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config(num_labels=5)
    config.save_pretrained("teacher")
    sentence = said(capsys)
    assert "5 labels" in sentence
    assert "2" in sentence


def test_an_unsorted_grid_is_sorted_with_a_notice(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys) == ""
    code = main(["validate", "mine.yaml", "--set", "grid.scales=[0.5, 0.8, 0.5, 0.2]"])
    assert code == 0
    captured = capsys.readouterr()
    assert "0.8, 0.5, 0.2" in captured.err
    assert yaml.safe_load(captured.out)["grid"]["scales"] == [0.8, 0.5, 0.2]


def test_weights_of_another_shape_than_the_configuration_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("teacher/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 21}))
    sentence = said(capsys)
    assert "intermediate.dense.weight" in sentence
    assert "[20, 24], not [21, 24]" in sentence


def test_a_layer_without_weights_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("teacher/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 4}))
    assert "layer.3" in said(capsys)


def test_an_absent_shard_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = {"weight_map": {"bert.pooler.dense.weight": "model-00002-of-00002.safetensors"}}
    Path("teacher/model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors" in said(capsys)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_attention_heads", 0), ("num_hidden_layers", 0), ("intermediate_size", -1), ("hidden_act", "foo")],
)
def test_an_architecture_that_cannot_be_built_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    architecture = {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 4, key: value}
    reviews = {"reviews": {"train": 40, "validation": 10, "test": 10}, "max_length": 32}
    teacher = {"architecture": architecture, "finetune": {}}
    sentence = said(capsys, task=reviews, teacher=teacher)
    assert str(value) in sentence


def test_an_address_that_nobody_opens_is_no_storage(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "storage: 's4://bucket/runs' cannot be opened by pyarrow.fs" in said(capsys, "storage=s4://bucket/runs")


def test_a_seed_beyond_reason_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "seeds" in said(capsys, "seeds=[99999999999999999999999]")
