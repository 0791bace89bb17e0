"""The stage that tokenises a task once for every trial."""

import hashlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from raydisc.config.sections import TaskConfig, TeacherConfig
from raydisc.errors import InputError
from raydisc.models.teacher_checkpoint import load_tokenizer, locate, locate_tokenizer
from raydisc.stages.artifact import Artifact
from raydisc.stages.base import NOT_IN_KEY, Stage
from raydisc.stages.context import Context, Result
from raydisc.stages.facts import TaskFacts
from raydisc.stages.files import table_blob
from raydisc.stages.plan import Outlook, Plan
from raydisc.stages.store import ArtifactStore, Blob
from raydisc.tasks.base import TaskData, load_task
from raydisc.tasks.reviews import word_tokenizer
from raydisc.training.progress import Alive

TOKENIZER_PREFIX = "tokenizer/"


def tokenizer_of(teacher: TeacherConfig) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a teacher section; a teacher from scratch without one has the embedded task's.

    Raises:
        InputError: The named tokenizer is not there.
    """
    if teacher.tokenizer is not None:
        return load_tokenizer(locate_tokenizer(teacher.tokenizer), teacher.trust_remote_code)
    if teacher.model is not None:
        return load_tokenizer(locate(teacher.model, weights=False), teacher.trust_remote_code)
    return word_tokenizer()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of the files that the tokenizer saves."""
    digest = hashlib.sha256()
    for name, content in sorted(tokenizer_files(tokenizer).items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, bytes]:
    """Return the tokenizer's files by name."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@dataclass(frozen=True)
class Tokenise(Stage):
    """Tokenise every split of the task once.

    Attributes:
        task_fingerprint: The fingerprint of the rows and of how they are read.
        tokenizer_fingerprint: The fingerprint of the tokenizer's files.
        task: The section that says where the rows are.
        teacher: The section that says where the tokenizer is.
    """

    kind: ClassVar[str] = "tokenise"
    by_one: ClassVar[bool] = True
    prepares: ClassVar[bool] = True
    task_fingerprint: str
    tokenizer_fingerprint: str
    task: TaskConfig = field(metadata=NOT_IN_KEY)
    teacher: TeacherConfig = field(metadata=NOT_IN_KEY)

    def compute(self, context: Context) -> Result:
        """Read the task's rows and write every split as Arrow, with the tokenizer beside them."""
        task = load_task(self.task)
        if task.fingerprint != self.task_fingerprint:
            raise InputError("task: the data changed while the run was starting; run again")
        tokenizer = tokenizer_of(self.teacher)
        labelled = {name: table for name, table in task.splits.items() if name != "unlabelled"}

        def on_chunk() -> None:
            context.progress(Alive())

        splits = {
            name: task.kind.tokenise(table, tokenizer, task.max_length, name, on_chunk)
            for name, table in labelled.items()
        }
        blobs: dict[str, Blob] = {f"{name}.arrow": table_blob(table) for name, table in splits.items()}
        for name, content in tokenizer_files(tokenizer).items():
            blobs[TOKENIZER_PREFIX + name] = _bytes_blob(content)
        facts = _facts(task, tokenizer, splits).to_json() | task.kind.extra_facts(splits)
        return Result(facts=facts, flops=0.0, blobs=blobs)

    def plan(self, outlook: Outlook) -> Plan | None:
        """See ``Stage``; a forecast tokenises the task as a run does."""
        return None

    def label(self, undecided: bool = False) -> str:
        """See ``Stage``."""
        return "tokenise the task"


def _facts(task: TaskData, tokenizer: PreTrainedTokenizerBase, splits: dict[str, pa.Table]) -> TaskFacts:
    return TaskFacts(
        kind=task.kind.name,
        classes=list(task.classes),
        num_labels=task.num_labels,
        metric=task.metric,
        max_length=task.max_length,
        text=list(task.text),
        pad_id=tokenizer.pad_token_id or 0,
        vocab_size=len(tokenizer),
        rows={name: table.num_rows for name, table in splits.items()},
        tokens={name: len(table.column("input_ids").combine_chunks().values) for name, table in splits.items()},
    )


def _bytes_blob(content: bytes) -> Blob:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def copy_tokenizer(store: ArtifactStore, data: Artifact, folder: Path) -> None:
    """Write the task's tokenizer files into a folder."""
    for name in data.blobs:
        if name.startswith(TOKENIZER_PREFIX):
            target = folder / name.removeprefix(TOKENIZER_PREFIX)
            with store.reading(data, name):
                if target.parent != folder or ".." in name:
                    raise ValueError("a tokenizer's file lies elsewhere")
                content = store.blob(data, name).tobytes()
            target.write_bytes(content)
