"""The results of every kind of stage on every kind of task, as recorded in ``expected/results_of_KIND.json``.

Where results change, the ``version`` of the first kind of stage that differs must be raised, else a storage mixes what
the old code computed with what the new one does. Then record them again (see ``golden.py``).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import golden
import pytest
from results import described
from shapes import shape_of
from tiny_runs import Told, executor

from raydisc.config.experiment import load_experiment
from raydisc.runs.export import export_student
from raydisc.schedules.base import Trial
from raydisc.schedules.steps import Outcome
from raydisc.schedules.trials import expand, steps_of
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import Stage
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.problem import inspect
from raydisc.stages.store import ArtifactStore
from raydisc.tasks.reviews import word_tokenizer

pytestmark = [pytest.mark.integration, pytest.mark.numerics]

RESULTS = Path(__file__).parent / "experiments" / "results.yaml"

KINDS = {
    "classification": [],
    "regression": [
        *(f"task.{split}=rows.jsonl" for split in ("train", "validation", "test")),
        "task.text=[text]",
        "task.metric=pearson",
        "teacher.tokenizer=tokenizer",
        "teacher.architecture.model_type=roberta",
    ],
    "tokens": [
        "task.metric=span_f1",
        "teacher.architecture.model_type=xlm-roberta",
        "distillation.losses={hidden_cosine: 1, kl_reverse: 1, jsd: 0.5}",
        "teacher_outputs.source=online",
    ],
    "language": [
        "task.metric=token_likelihood",
        "teacher.architecture={model_type: llama, hidden_size: 24, intermediate_size: 20, num_hidden_layers: 2, "
        "num_attention_heads: 4, num_key_value_heads: 2, head_dim: 6, max_position_embeddings: 64, "
        "initializer_range: 0.2, tie_word_embeddings: true}",
        "distillation.top_tokens=8",
        "distillation.losses={hidden_mse: 1, kl_forward: 1}",
        "teacher_outputs.source=disk",
    ],
}
"""Kind of task to what its experiment sets otherwise."""


@dataclass(frozen=True)
class Searched:
    """A search that has been made in the current folder, with each stage that it asked for."""

    store: ArtifactStore
    trial: Trial
    outcome: Outcome
    stages: list[tuple[Stage, Artifact]]


def searched(kind: str) -> Searched:
    word_tokenizer().save_pretrained("tokenizer")
    words = ["good", "bad", "film", "the", "not"]
    rows = [{"text": " ".join(words[: 1 + row % 5]), "label": row % 7 / 2} for row in range(96)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    experiment = load_experiment(RESULTS, KINDS[kind])
    subject, told = inspect(experiment), Told()
    run = executor(Path("storage"), told)
    [trial] = expand(experiment, [0.25])
    outcome = run.run(steps_of(trial, experiment, subject))
    run.execute(Evaluate(told.stages[0][1], outcome.student))
    return Searched(run.store, trial, outcome, [(request, artifact) for request, artifact, _ in told.stages])


@pytest.mark.parametrize("kind", KINDS)
def test_results_change_with_the_version_alone(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = searched(kind)
    found = {
        f"{place} {request.kind}": described(search.store, request, artifact)
        for place, (request, artifact) in enumerate(search.stages)
    }
    meaning = "Results of a stage have changed; raise the version of its kind."
    golden.compare(f"results_of_{kind}", found, meaning)


def test_layout_of_artifacts_and_students(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    search = searched("classification")
    made = {request.kind: artifact for request, artifact in search.stages}
    folder = export_student(search.store, made["tokenise"], search.trial, search.outcome, Path("students"))
    manifests = {
        kind: shape_of(json.loads(Path("storage", "artifacts", artifact.key, "manifest.json").read_text()))
        for kind, artifact in made.items()
    }
    student = {
        "folder": str(folder),
        "files": sorted(path.name for path in folder.iterdir()),
        "card": shape_of(json.loads((folder / "raydisc.json").read_text())),
    }
    meaning = "Storages and students that are there could not be read with those of this version."
    golden.compare("layout", {"manifests": manifests, "student": student}, meaning)
