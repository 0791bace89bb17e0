"""The command that labels a file with a finished student."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from raydisc.config.sections import TaskConfig
from raydisc.errors import InputError
from raydisc.models.student_folder import StudentCard, load_student, load_student_tokenizer, read_card, student_folder
from raydisc.tasks.base import load_task
from raydisc.tasks.files import read_texts
from raydisc.tasks.glue import glue_preset, write_submission
from raydisc.tasks.kinds import task_kind
from raydisc.tasks.tokenised import Split
from raydisc.tasks.tokeniser import tokenise
from raydisc.training.inference import Pass
from raydisc.training.predictions import predict

_BATCH = 64


def predict_file(student: str | Path, file: str | Path | None, output: str | Path, glue: str | None = None) -> int:
    """Label every row (or every word) of a Parquet, CSV or JSONL file, or every row of GLUE's unlabelled test set.

    Args:
        student: The folder or the address of a student.
        file: Rows with the task's text columns; other columns are ignored. None for the test set of ``glue``, which is
            loaded from the hub.
        output: The CSV file to write. Its columns are ``label`` and, for classification, ``probability``. A student
            that labels words writes ``row``, ``word`` and ``label``; words beyond the longest input have no label.
            With ``glue`` the file is a TSV in GLUE's submission format.
        glue: The GLUE task whose submission format is wanted.

    Returns:
        The number of rows.

    Raises:
        InputError: The folder holds no student, a file or column is missing, or the output cannot be written.
    """
    student = student_folder(student)
    card = read_card(student)
    kind = task_kind(card.kind)
    answers = kind.answering(str(student), glue)
    texts = _unlabelled(glue) if file is None else read_texts(file, card.text, words=kind.words)
    model = load_student(student)
    tokenizer = load_student_tokenizer(student)
    split = Split(tokenise(texts, tokenizer, card.max_length, len(card.text)), kind)
    predictions = predict(model, split, tokenizer.pad_token_id or 0, Pass(_BATCH))
    try:
        if glue is not None:
            write_submission(output, glue, _in_glue_order(predictions, card, glue))
        else:
            pa.csv.write_csv(answers(predictions, texts, split, card.classes), output)
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error.strerror}") from error
    return len(split)


def _unlabelled(glue: str | None) -> pa.Table:
    if glue is None:
        raise InputError("predict needs a FILE, or --glue TASK for the unlabelled test set of that task from the hub")
    return load_task(TaskConfig(glue=glue)).splits["unlabelled"]


def _in_glue_order(logits: np.ndarray, card: StudentCard, glue: str) -> np.ndarray:
    """Return the logits with their columns in the order of GLUE's classes, as numbered classes are already."""
    wanted = glue_preset(glue).classes
    numbers = tuple(str(number) for number in range(len(wanted)))
    if card.classes in (wanted, numbers):
        return logits
    if set(card.classes) != set(wanted):
        glues, students = (", ".join(classes) or "a number" for classes in (wanted, card.classes))
        raise InputError(f"--glue {glue} has the classes {glues}, but the student predicts {students}")
    return logits[:, [card.classes.index(name) for name in wanted]]
