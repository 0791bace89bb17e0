"""Stages that a device has no room for: the same effective batch in smaller parts, or one sentence."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import KINDS, tiny_config
from tiny_runs import NO_DROPOUT, Told, changed, search_of, tiny_experiment
from tiny_schedules import minidisc

from raydisc.config.sections import TeacherOutputsConfig
from raydisc.errors import OutOfMemory
from raydisc.losses import LOSSES
from raydisc.losses.objective import WeightedLoss
from raydisc.models.forward import forward
from raydisc.stages.evaluate import Evaluate
from raydisc.stages.executor import Executor, StageEvent
from raydisc.stages.store import ArtifactStore
from raydisc.stages.worker import Worker
from raydisc.tasks.kinds import task_kind
from raydisc.testing.models import tiny_batch, tiny_teacher
from raydisc.testing.runs import ARCHITECTURE, ONE_THREAD
from raydisc.testing.tolerance import assert_near
from raydisc.training.micro_batches import in_micro_batches, micro_batches_of
from raydisc.training.progress import Alive, StepsDone

POSITIONS = (0, 2, 3)


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("family", [KINDS[0], "mt5", "llama"])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(family: str, count: int) -> None:
    config = tiny_config(family)
    model, teacher, batch = tiny_teacher(config), tiny_teacher(config, seed=1), tiny_batch(config)
    loss = WeightedLoss.of(
        {name: 1.0 for name in LOSSES.names() if name != "logit_mse"}, 2.0, task_kind("classification")
    )

    def learn(part: Any) -> torch.Tensor:
        with torch.no_grad():
            wanted = forward(teacher, part, POSITIONS)
        value = loss(forward(model, part, POSITIONS), wanted, part)
        value.backward()
        return value.detach()

    def gradients(how: Any) -> tuple[float, torch.Tensor]:
        model.zero_grad()
        value = float(how(batch))
        return value, torch.cat([it.grad.flatten() for it in model.parameters() if it.grad is not None])

    whole, parts = gradients(learn), gradients(in_micro_batches(learn, count))
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert_near(parts[1], whole[1])


def test_a_worker_s_share_is_cut_as_a_batch_is() -> None:
    batch = tiny_batch(tiny_config())
    parts = [part for rank in range(2) for part in micro_batches_of(batch.share(rank, 2), 3)]
    assert sorted(row for part in parts for row in part.rows) == sorted(batch.rows)
    assert {part.shape[0] for part in parts} == {len(batch.rows)}
    assert {part.mean_tokens for part in parts} == {batch.mean_tokens}


@pytest.mark.integration
@pytest.mark.parametrize("online", [False, True])
def test_a_search_in_micro_batches_is_that_of_whole_ones(tmp_path: Path, online: bool) -> None:
    teacher = tiny_experiment().teacher
    experiment = tiny_experiment(teacher=changed(teacher, architecture=ARCHITECTURE | NO_DROPOUT))
    if online:
        experiment = changed(experiment, teacher_outputs=TeacherOutputsConfig(source="online"))
    search = search_of(experiment)

    def student(folder: Path, count: int) -> tuple[Any, dict[str, torch.Tensor]]:
        store = ArtifactStore(folder)
        worker = Worker(store, torch.device("cpu"))
        cut = Executor(
            store, lambda request, promise, progress, _: worker(request, promise, progress, count),
            ONE_THREAD, lambda state: None, Told(),
        )  # fmt: skip
        found = cut.run(minidisc(search, 0.2, 1, False)).student
        return found, load_file(store.path(found, "model.safetensors"))

    (one, whole), (several, parts) = student(tmp_path / "one", 1), student(tmp_path / "several", 3)
    assert several["micro_batches"] == 3
    assert one["scale"] == several["scale"]
    assert several.cost.flops == pytest.approx(one.cost.flops, rel=1e-12)
    # but for key biases, whose gradient is zero, so that AdamW makes much of rounding errors
    vectors = [
        torch.cat([it.flatten() for name, it in state.items() if "key.bias" not in name]) for state in (whole, parts)
    ]
    assert_near(vectors[1], vectors[0], 1e-3)


@pytest.mark.integration
def test_stages_that_train_nothing_are_cut_too_and_every_batch_is_told_of(tmp_path: Path) -> None:
    search, told, tried = search_of(tiny_experiment()), Told(), []
    worker = Worker(ArtifactStore(tmp_path), torch.device("cpu"))

    def with_little_room(request: Any, promise: Any, progress: Any, count: int) -> Any:
        tried.append((request.kind, count))
        if count < 4 and not request.by_one:
            raise OutOfMemory("full")
        return worker(request, promise, progress, count)

    heard: list[StageEvent] = []
    cut = Executor(worker.store, with_little_room, ONE_THREAD, heard.append, told)
    ready = cut.run(search.prepare())
    cut.execute(Evaluate(ready.data, ready.finetuned))
    kinds = {kind for kind, _ in tried}
    assert kinds >= {"tokenise", "importance", "evaluate"}
    assert [count for kind, count in tried if kind == "tokenise"] == [1]
    assert {kind: [count for it, count in tried if it == kind] for kind in kinds - {"tokenise"}} == dict.fromkeys(
        kinds - {"tokenise"}, [1, 2, 4]
    )
    for kind, split in (("evaluate", "test"), ("importance", "train")):
        events = [found.event for found in heard if found.stage == kind]
        steps = [event for event in events if isinstance(event, StepsDone) and event.steps]
        assert steps == [StepsDone(step, len(steps)) for step in range(1, len(steps) + 1)]
        assert 0 < len(steps) <= -(-ready.data["rows"][split] // 64)
    # a training stage reports its evaluations without a step
    assert StageEvent("finetune", ready.finetuned.key, Alive()) in heard


LIMITED = """
import json, resource, sys
from pathlib import Path
import torch
from raydisc.testing.runs import ARCHITECTURE
from tiny_runs import NO_DROPOUT, changed, executor, search_of, tiny_experiment
from raydisc.errors import OutOfMemory
from raydisc.training.progress import Notice

folder, mebibytes = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
wide = ARCHITECTURE | NO_DROPOUT | {"intermediate_size": 12000, "num_hidden_layers": 1}
base = tiny_experiment()
teacher = changed(base.teacher, architecture=wide, finetune=changed(base.teacher.finetune, epochs=1, batch_size=200))
search = search_of(tiny_experiment(teacher=teacher))
notices, told = [], {}
run = executor(folder, progress=lambda it: notices.extend([it.event.text] if isinstance(it.event, Notice) else []))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20,) * 2)
schedule = search.prepare()
request = next(schedule)
try:
    while request.kind != "finetune":
        request = schedule.send(run.execute(request))
    told["micro_batches"] = run.execute(request)["micro_batches"]
except OutOfMemory as error:
    told["failure"] = str(error)
print(json.dumps({**told, "notices": notices}))
"""


def limited(folder: Path, mebibytes: int) -> dict[str, Any]:
    """What comes of a stage in a process that is given so much more memory than it has at its start."""
    words = [sys.executable, "-c", LIMITED, str(folder), str(mebibytes)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True, cwd=Path(__file__).parents[1])
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_a_stage_without_room_goes_on_with_smaller_parts_or_says_what_would_help(tmp_path: Path) -> None:
    tight = limited(tmp_path / "tight", 300)
    assert tight["micro_batches"] > 1
    assert tight["notices"][-1] == f"finetune: out of memory; batches are cut in {tight['micro_batches']}"
    hopeless = limited(tmp_path / "hopeless", 20)
    assert hopeless["failure"].startswith("finetune: out of memory")
    assert "resources.workers" in hopeless["failure"]
