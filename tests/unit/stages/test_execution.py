"""An execution is made of an experiment file, and reaches the stages of one worker."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_models import tiny_config
from tiny_runs import Told, changed, search_of, tiny_experiment, weights_of
from tiny_schedules import minidisc

from raydisc.config.experiment import load_experiment
from raydisc.errors import InputError
from raydisc.forecast.memory import Allocations
from raydisc.models.build import compute_twice
from raydisc.models.precision import Precision
from raydisc.stages.executor import Executor
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.testing.models import tiny_teacher
from raydisc.testing.runs import ARCHITECTURE, ONE_THREAD
from raydisc.training.execution import Execution

DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


def execution_of(folder: Path, precision: Precision, outputs: Any = None, **resources: Any) -> Execution:
    """The execution that an experiment file asks for."""
    path = folder / "experiment.yaml"
    sections: dict[str, Any] = {
        "name": "tiny",
        "task": {"reviews": {}},
        "teacher": {"architecture": ARCHITECTURE, "finetune": {}},
    }
    sections |= {"student": {"scale": 0.25}, "resources": resources, "teacher_outputs": outputs or {}}
    path.write_text(yaml.safe_dump(sections))
    experiment = load_experiment(path)
    return Execution.of(experiment.resources, experiment.teacher_outputs, precision)


def test_an_execution_has_all_that_an_experiment_file_says_of_it(tmp_path: Path) -> None:
    assert execution_of(tmp_path, "float32") == Execution(outputs_in_memory=4 * 2**30)
    asked = {"checkpointing": True, "offload": True, "gpus": 1, "checkpoint_every_s": 7}
    found = execution_of(tmp_path, "bfloat16", {"budget_gib": 0.5}, **asked)
    assert found == Execution("bfloat16", True, True, checkpoint_every_s=7.0, outputs_in_memory=2**29)


def test_outputs_are_read_from_memory_as_far_as_its_budget_goes(tmp_path: Path) -> None:
    execution = execution_of(tmp_path, "float32", {"budget_gib": 0.5})
    assert [execution.reads_outputs_from(size) for size in (0, 2**29, 2**29 + 1)] == ["memory", "memory", "disk"]
    assert execution_of(tmp_path, "float32", {"source": "disk"}).reads_outputs_from(1) == "disk"


def searched(storage: Path, execution: Execution) -> tuple[dict[str, int], list[str], list[str]]:
    """Bytes at the peak of each kind of stage that trains, keys, and hashes of weights, of a MiniDisc search."""
    base = tiny_experiment()
    experiment = tiny_experiment(
        teacher=changed(
            base.teacher, architecture=ARCHITECTURE | DROPOUT, finetune=changed(base.teacher.finetune, epochs=1.0)
        ),
        once_for_all=changed(base.once_for_all, dropout=None),
        distillation=changed(base.distillation, dropout=None),
    )
    store, told, peaks = ArtifactStore(storage), Told(), {}
    worker = Worker(store, torch.device("cpu"), execution)

    def measured(request: Any, promise: Any, progress: Any, micro_batches: int) -> Any:
        with Allocations() as counted:
            artifact = worker(request, promise, progress, micro_batches)
        peaks[request.kind] = counted.peak
        return artifact

    outcome = Executor(store, measured, ONE_THREAD, lambda state: None, told).run(
        minidisc(search_of(experiment), 0.2, 1, False)
    )
    trained = [weights_of(store, artifact) for artifact in outcome.own if "model.safetensors" in artifact.blobs]
    return {kind: peaks[kind] for kind in ("finetune", "once_for_all", "distil")}, told.keys, trained


@pytest.mark.integration
def test_with_one_worker_checkpointing_takes_less_memory_and_gives_the_same_keys_and_bits(tmp_path: Path) -> None:
    """With dropout, whose random numbers the second computation of the activations has to draw again."""
    kept, keys, weights = searched(tmp_path / "kept", Execution())
    asked = execution_of(tmp_path, "float32", checkpointing=True)
    again, same_keys, same_weights = searched(tmp_path / "again", asked)
    assert {kind: again[kind] < 0.75 * peak for kind, peak in kept.items()} == dict.fromkeys(kept, True), (kept, again)
    assert (same_keys, same_weights) == (keys, weights)


def test_a_model_that_cannot_compute_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_teacher(tiny_config("bert"))
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(InputError, match=r"resources.checkpointing: BertFor\w+ cannot compute its activations again"):
        compute_twice(model)
