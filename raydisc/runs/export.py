"""The export of finished students to where users find them."""

import json
import shutil
import uuid
from pathlib import Path

from raydisc.models.student_folder import CARD, StudentCard, plain_config, read_card
from raydisc.models.task_heads import head_of
from raydisc.schedules.base import Trial
from raydisc.schedules.steps import Outcome
from raydisc.stages.artifact import Artifact, Model
from raydisc.stages.facts import EvaluatedFacts, TaskFacts
from raydisc.stages.files import read_weights
from raydisc.stages.store import ArtifactStore
from raydisc.stages.tokenise import copy_tokenizer
from raydisc.storage.address import storage_at
from raydisc.storage.folder import Storage
from raydisc.storage.fsync import sync


def export_student(
    store: ArtifactStore, data: Artifact, trial: Trial, outcome: Outcome, students: Storage | Path
) -> Path:
    """Write a student with its tokenizer and its card; all of it or nothing.

    Args:
        store: The artifacts.
        data: The tokenised task, whose tokenizer goes along.
        trial: The trial that made the student.
        outcome: The outcome of the trial.
        students: The part of the storage for the run's students, or their folder.

    Returns:
        The student's folder on this machine.
    """
    students = storage_at(students)
    student, folder = outcome.student, students.folder
    target = folder / trial.name
    students.fetch_again(f"{trial.name}/{CARD}")
    if students.has(f"{trial.name}/{CARD}") and read_card(target).key == student.key:
        return target
    for left in folder.glob(f".{trial.name}-*"):
        shutil.rmtree(left)  # by a process that was killed while it wrote
    temporary = folder / f".{trial.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir(parents=True)
    weights = read_weights(store, Model(student))
    plain = plain_config(weights.config, weights.structure)
    config = store.json(student, "config.json") if plain is None else plain.to_dict()
    facts = TaskFacts.of(data)
    if facts.classes:
        config["id2label"] = dict(enumerate(facts.classes))
        config["label2id"] = {name: index for index, name in enumerate(facts.classes)}
    if head_of(weights.config).generates:
        config["use_cache"] = True
    (temporary / "config.json").write_text(json.dumps(config, indent=1))
    for name in ("model.safetensors", "subnet.json"):
        (temporary / name).write_bytes(store.blob(student, name).data)
    copy_tokenizer(store, data, temporary)
    card = StudentCard(
        key=student.key,
        schedule=trial.schedule.name,
        path=outcome.path,
        scale=trial.student_scale,
        kind=facts.kind,
        classes=tuple(facts.classes),
        text=tuple(facts.text),
        max_length=facts.max_length,
        metric=facts.metric,
        validation_metric=EvaluatedFacts.of(student).last.metric,
        plain=plain is not None,
    )
    card.write(temporary)
    for path in temporary.iterdir():
        sync(path)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    students.publish(trial.name, last=CARD)
    return target
