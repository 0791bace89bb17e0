"""What is refused, and what is known, before anything is computed."""

import json

import pytest
import torch
from tiny_models import FAMILIES, size_at, tiny_config
from tiny_runs import changed, executor, search_of, tiny_experiment
from transformers import AutoModel

from raydisc.config.experiment import FineTuneConfig, StudentConfig, TaskConfig, TeacherConfig
from raydisc.errors import InputError
from raydisc.stages.problem import inspect, student_scales
from raydisc.stages.tokenise import Tokenise, tokenizer_fingerprint, tokenizer_of
from raydisc.tasks.reviews import vocabulary, word_tokenizer
from raydisc.testing.models import tiny_teacher
from raydisc.testing.runs import ARCHITECTURE

BASE = tiny_experiment()


@pytest.fixture
def folder(tmp_path):
    """A teacher of the reviews: three labels, the reviews' own vocabulary."""
    write_teacher(tmp_path, tiny_config())
    return tmp_path


def write_teacher(path, config):
    config.vocab_size = len(vocabulary())
    tiny_teacher(config).save_pretrained(path)
    word_tokenizer().save_pretrained(path)


def with_teacher(folder, **values):
    values.setdefault("task", changed(BASE.task, max_length=30))
    finetune = values.pop("finetune", None)
    return tiny_experiment(teacher=TeacherConfig(model=str(folder), finetune=finetune), **values)


def test_what_is_known_of_a_teacher_from_scratch():
    subject = inspect(BASE)
    assert subject.task_name == "reviews"
    assert subject.metric == "accuracy"
    assert subject.num_layers == 3
    assert subject.config["vocab_size"] == len(vocabulary())
    assert subject.notices == ()
    assert len({subject.task_fingerprint, subject.tokenizer_fingerprint, subject.weights_fingerprint}) == 3
    json.dumps(subject.config)


# transformers takes any tokenizer beside a Qwen2 for Qwen2's own
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "qwen2"])
def test_what_is_known_of_a_finished_teacher(tmp_path, family):
    config = tiny_config(family)
    write_teacher(tmp_path, config)
    subject = inspect(with_teacher(tmp_path))
    assert subject.num_layers == 3
    assert subject.teacher_parameters == sum(parameter.numel() for parameter in tiny_teacher(config).parameters())


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_few_key_value_groups_bring_a_notice(tmp_path, allocation):
    """With one group a layer, attention is ranked over the model, and a uniform tenth is larger."""
    config = tiny_config("gemma")
    config.num_key_value_heads = 1
    write_teacher(tmp_path, config)
    grid = changed(BASE.grid, allocation=allocation)
    found = inspect(with_teacher(tmp_path, grid=grid)).notices
    few = "teacher: some layers have only 1 attention heads (or key/value groups), "
    assert [notice.startswith(few) for notice in found] == [True] * (1 if allocation == "global" else 2)
    assert ("measured scale" in found[-1]) == (allocation == "uniform")


def test_parameters_are_counted_with_the_tasks_head(tmp_path):
    config = tiny_config()
    config.vocab_size = len(vocabulary())
    AutoModel.from_config(config).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    subject = inspect(with_teacher(tmp_path, finetune=FineTuneConfig()))
    assert subject.teacher_parameters == sum(parameter.numel() for parameter in tiny_teacher(config).parameters())


def test_a_teacher_without_a_head(tmp_path):
    config = tiny_config()
    config.vocab_size = len(vocabulary())
    AutoModel.from_config(config).save_pretrained(tmp_path)
    word_tokenizer().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text()) | {"id2label": {"0": "a", "1": "b", "2": "c"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="not a fine-tuned classifier.*add teacher.finetune"):
        inspect(with_teacher(tmp_path))


def test_a_teacher_of_other_labels(tmp_path):
    write_teacher(tmp_path, tiny_config(num_labels=2))
    with pytest.raises(InputError, match="has 2 labels but the task has 3"):
        inspect(with_teacher(tmp_path))
    assert inspect(with_teacher(tmp_path, finetune=FineTuneConfig())).num_layers == 3


def test_a_teacher_without_a_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        inspect(with_teacher(folder))


def test_a_teacher_that_is_none(tmp_path):
    with pytest.raises(InputError, match="is not a checkpoint: it has no config.json"):
        inspect(with_teacher(tmp_path))


@pytest.mark.parametrize("finetune", [None, FineTuneConfig()])
def test_weights_that_cannot_be_read(folder, finetune):
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="is not a safetensors file"):
        inspect(with_teacher(folder, finetune=finetune))


def test_an_unknown_family(folder):
    content = json.loads((folder / "config.json").read_text()) | {"model_type": "electra"}
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no adapter for the family 'electra'"):
        inspect(with_teacher(folder))


@pytest.mark.parametrize(
    ("family", "positions"),
    [("bert", 34), ("distilbert", 32), ("roberta", 32), ("modernbert", 34), ("llama", 34), ("gemma3_text", 34)],
)
def test_inputs_longer_than_the_teachers_positions(tmp_path, family, positions):
    write_teacher(tmp_path, tiny_config(family))
    inspect(with_teacher(tmp_path, task=changed(BASE.task, max_length=positions)))
    with pytest.raises(InputError, match=rf"task.max_length: {positions + 1} .* {positions} positions"):
        inspect(with_teacher(tmp_path, task=changed(BASE.task, max_length=positions + 1)))


def test_rotary_positions_that_are_stretched(tmp_path):
    config = tiny_config("llama")
    config.rope_parameters = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    write_teacher(tmp_path, config)
    inspect(with_teacher(tmp_path, task=changed(BASE.task, max_length=68)))
    with pytest.raises(InputError, match=r"task.max_length: 69 .* 68 positions"):
        inspect(with_teacher(tmp_path, task=changed(BASE.task, max_length=69)))


def test_distances_have_no_end(tmp_path):
    write_teacher(tmp_path, tiny_config("t5"))
    inspect(with_teacher(tmp_path, task=changed(BASE.task, max_length=2000)))


def test_a_tokenizer_of_another_model(tmp_path):
    tiny_teacher(tiny_config()).save_pretrained(tmp_path)  # 40 embeddings
    word_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=rf"tokenizer has {len(vocabulary())} tokens but the model embeds 40"):
        inspect(with_teacher(tmp_path))


def test_a_mapping_that_the_teacher_does_not_have():
    mapping = changed(BASE.distillation, layer_mapping=[[0, 0], [2, 4]])
    with pytest.raises(InputError, match=r"layer_mapping: \[2, 4\]"):
        inspect(tiny_experiment(distillation=mapping))
    unused = changed(mapping, losses={"soft_cross_entropy": 1.0})
    inspect(tiny_experiment(distillation=unused))  # no loss looks at hidden states


def test_an_architecture_that_is_none():
    teacher = changed(BASE.teacher, architecture=ARCHITECTURE | {"model_type": "nothing"})
    with pytest.raises(InputError, match="teacher.architecture: model_type 'nothing'"):
        inspect(tiny_experiment(teacher=teacher))


def test_a_tokenizer_without_weights_beside_it(tmp_path):
    word_tokenizer().save_pretrained(tmp_path)
    own = tokenizer_of(changed(BASE.teacher, tokenizer=str(tmp_path)))
    assert own("the food was good")["input_ids"] == word_tokenizer()("the food was good")["input_ids"]
    with pytest.raises(InputError, match="teacher.tokenizer: "):
        tokenizer_of(changed(BASE.teacher, tokenizer=str(tmp_path / "missing")))


def test_a_tokenizers_fingerprint_follows_its_contents(tmp_path):
    tokenizer = word_tokenizer()
    for name in ("here", "there"):
        tokenizer.save_pretrained(tmp_path / name)
    prints = [
        tokenizer_fingerprint(tokenizer_of(changed(BASE.teacher, tokenizer=str(tmp_path / n))))
        for n in ("here", "there")
    ]
    assert prints[0] == prints[1]
    tokenizer.add_tokens(["gruff"])
    assert tokenizer_fingerprint(tokenizer) != tokenizer_fingerprint(word_tokenizer())


def test_students_by_scale_and_by_parameters():
    subject = inspect(BASE)
    assert student_scales(BASE, subject) == (0.25,)
    wanted = subject.teacher_parameters - 3000.0
    [scale] = student_scales(tiny_experiment(student=StudentConfig(parameters=[wanted])), subject)
    config = tiny_config()
    assert size_at(config, subject.teacher_parameters, scale).parameters <= wanted
    with pytest.raises(InputError, match="student.parameters: .* is below"):
        student_scales(tiny_experiment(student=StudentConfig(parameters=[100.0])), subject)
    with pytest.raises(InputError, match="student.parameters: .* is not below the teacher's"):
        student_scales(tiny_experiment(student=StudentConfig(parameters=[1e9])), subject)


def test_data_that_changes_while_the_run_starts(tmp_path):
    rows = [
        json.dumps({"text": f"the food was {word}", "label": index % 2})
        for index, word in enumerate(["good", "bad"] * 4)
    ]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(rows))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "validation", "test")}
    word_tokenizer().save_pretrained(tmp_path / "words")
    task = TaskConfig(**files, text=["text"], metric="accuracy", max_length=16)
    teacher = changed(BASE.teacher, tokenizer=str(tmp_path / "words"))
    search = search_of(tiny_experiment(task=task, teacher=teacher))
    request = next(search.prepare())
    assert isinstance(request, Tokenise)
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:-2]))
    with pytest.raises(InputError, match="the data changed while the run was starting"):
        executor(tmp_path / "storage").execute(request)


@pytest.mark.integration
def test_a_finished_teacher_is_taken_in_unchanged(folder, tmp_path):
    search = search_of(with_teacher(folder))
    run = executor(tmp_path / "storage")
    ready = run.run(search.prepare())
    from raydisc.tensors.views import tensor_views

    kept = tensor_views(run.store.blob(ready.finetuned, "model.safetensors"))
    config = tiny_config()
    config.vocab_size = len(vocabulary())
    for name, tensor in tiny_teacher(config).state_dict().items():
        assert torch.equal(kept[name], tensor)
    assert "steps" not in ready.finetuned.facts
