"""The command that labels a file with a finished student."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from raydisc.config.sections import TaskConfig
from raydisc.errors import InputError
from raydisc.models.student_folder import StudentCard, load_student, load_student_tokenizer, read_card, student_folder
from raydisc.tasks.base import load_task
from raydisc.tasks.files import read_texts
from raydisc.tasks.glue import glue_preset, write_submission
from raydisc.tasks.tags import UNTAGGED
from raydisc.tasks.tokenised import Split, tokenise
from raydisc.tasks.words import Words
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
    if card.kind == "language":
        raise InputError(
            f"'{student}' is a language model, which cannot label a file; load it with raydisc.load_student(...) to "
            "generate text"
        )
    if card.kind == "tokens" and glue is not None:
        raise InputError(f"--glue {glue}: GLUE has no tasks of tagged words, but '{student}' labels words")
    texts = _unlabelled(glue) if file is None else read_texts(file, card.text, words=card.kind == "tokens")
    model = load_student(student)
    tokenizer = load_student_tokenizer(student)
    split = Split(tokenise(texts, tokenizer, card.max_length, len(card.text)))
    logits = predict(model, split, tokenizer.pad_token_id or 0, Pass(_BATCH))
    try:
        if split.words is not None:
            pa.csv.write_csv(_tagged(logits, texts, split.words, card), output)
        elif glue is not None:
            write_submission(output, glue, _in_glue_order(logits, card, glue))
        else:
            pa.csv.write_csv(_labelled(logits, card), output)
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


def _tagged(predictions: np.ndarray, texts: pa.Table, words: Words, card: StudentCard) -> pa.Table:
    """Return a row for each word; a word whose tokens were cut off has no label."""
    chosen = pa.array(words.tagged(predictions), from_pandas=True)
    labels = pc.take(pa.array(card.classes), pc.if_else(pc.equal(chosen, UNTAGGED), None, chosen).cast(pa.int64()))
    column = texts.column("text_0")
    return pa.table({"row": pc.list_parent_indices(column), "word": pc.list_flatten(column), "label": labels})


def _labelled(logits: np.ndarray, card: StudentCard) -> pa.Table:
    if card.kind == "regression":
        return pa.table({"label": logits[:, 0]})
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    labels = [card.classes[index] for index in logits.argmax(axis=1)]
    return pa.table({"label": labels, "probability": probabilities.max(axis=1)})
