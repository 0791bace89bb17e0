"""A student that needs no raydisc: a decoder whose layers all keep the same number of units."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import Told, changed, executor, search_of, tiny_experiment
from tiny_schedules import minidisc_trial
from variants import slow_but

from raydisc.models.student_folder import load_student, read_card
from raydisc.runs.export import export_student
from raydisc.schedules.trials import steps_of
from raydisc.testing.runs import STUDENT_SCALE

pytestmark = pytest.mark.integration

DECODER = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6,
    "intermediate_size": 20, "max_position_embeddings": 64, "initializer_range": 0.2,
}  # fmt: skip
LOAD = """
import sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, output = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder)
texts = ["the food was good", "the room was not very bad"]
tokens = dict(AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt"))
tokens.pop("token_type_ids", None)
with torch.no_grad():
    logits = model(**tokens).logits
assert "raydisc" not in sys.modules
save_file({"logits": logits, **tokens}, output)
"""


GENERATE = """
import sys, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, output = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder)
ids = AutoTokenizer.from_pretrained(folder)("the food was", add_special_tokens=False, return_tensors="pt").input_ids
with torch.no_grad():
    found = {"ids": ids, "logits": model(ids).logits}
    for cached in (True, False):
        how = {"max_new_tokens": 6, "do_sample": False, "use_cache": cached, "pad_token_id": 0}
        found[f"said {cached}"] = model.generate(ids, **how)
assert model.config.use_cache
assert "raydisc" not in sys.modules
save_file(found, output)
"""


def run_apart(code, *words, folder):
    """Run code with nothing of this environment but what decides the last bits of a result."""
    bits = ("ATEN_", "DNNL_", "MKL_", "OMP_", "ONEDNN_")
    alike = {name: value for name, value in os.environ.items() if name.startswith(bits)}
    alike["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    subprocess.run([sys.executable, "-c", code, *words], check=True, env=alike, cwd=folder)


def exported(folder, architecture, allocation, **task):
    """The student of a whole MiniDisc run."""
    base = tiny_experiment()
    base = tiny_experiment(task=changed(base.task, **task))
    teacher = changed(base.teacher, architecture=architecture, finetune=changed(base.teacher.finetune, epochs=1.0))
    experiment = tiny_experiment(task=base.task, teacher=teacher, grid=changed(base.grid, allocation=allocation))
    told, trial = Told(), minidisc_trial(STUDENT_SCALE)
    run, search = executor(folder / "storage", told), search_of(experiment)
    outcome = run.run(steps_of(trial, experiment, search.subject))
    [data] = [artifact for request, artifact, _ in told.stages if request.kind == "tokenise"]
    return export_student(run.store, data, trial, outcome, folder / "students")


@pytest.mark.numerics
def test_transformers_alone_computes_the_same_bits(tmp_path):
    folder = exported(tmp_path, {**DECODER, "model_type": "qwen3"}, "uniform")
    config, subnet = (json.loads((folder / name).read_text()) for name in ("config.json", "subnet.json"))
    assert subnet["heads"] == [1, 1]
    assert subnet["neurons"] == [5, 5]
    assert (config["num_attention_heads"], config["num_key_value_heads"], config["intermediate_size"]) == (2, 1, 5)
    assert config["id2label"] == {"0": "negative", "1": "mixed", "2": "positive"}
    assert read_card(folder).plain
    run_apart(LOAD, folder, tmp_path / "found", folder=tmp_path)
    found = load_file(tmp_path / "found")
    with torch.no_grad():
        logits = load_student(folder)(input_ids=found["input_ids"], attention_mask=found["attention_mask"]).logits
    assert torch.equal(found["logits"], logits)


@pytest.mark.parametrize("tied", slow_but([True], [True, False]))
def test_transformers_alone_lets_a_language_model_speak(tmp_path, tied):
    architecture = {**DECODER, "model_type": "qwen3", "tie_word_embeddings": tied}
    folder = exported(tmp_path, architecture, "uniform", metric="token_likelihood", max_length=12)
    assert read_card(folder).plain
    run_apart(GENERATE, folder, tmp_path / "found", folder=tmp_path)
    found = load_file(tmp_path / "found")
    with torch.no_grad():
        assert torch.equal(load_student(folder)(input_ids=found["ids"]).logits, found["logits"])
    assert torch.equal(found["said True"], found["said False"])


@pytest.mark.parametrize(
    ("architecture", "allocation"),
    [
        ({**DECODER, "model_type": "llama"}, "global"),
        ({"model_type": "t5", "d_model": 24, "num_layers": 2, "num_heads": 4, "d_kv": 6, "d_ff": 20}, "uniform"),
    ],
    ids=["llama-global", "t5-uniform"],
)
def test_other_students_say_that_they_need_raydisc(tmp_path, architecture, allocation):
    folder = exported(tmp_path, architecture, allocation)
    assert not read_card(folder).plain
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    with torch.no_grad():
        assert load_student(folder)(input_ids=ids).logits.shape == (1, 3)
