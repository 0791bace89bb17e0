"""Finished students: folders that hold all that is needed to use them, without a Ray cluster or a run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field, PositiveInt, TypeAdapter, ValidationError
from safetensors.torch import load_file
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from raydisc.errors import InputError, reason_of
from raydisc.families.base import Config
from raydisc.models.build import config_from_folder, load_trainable
from raydisc.models.structure import Structure, structure_from_json
from raydisc.models.task_heads import HEADS, head_of
from raydisc.registry import nearest
from raydisc.storage.address import open_storage
from raydisc.tasks.kinds import TASK_KINDS, task_kind

_SUBNET = TypeAdapter(dict[str, Any])

CARD = "raydisc.json"
"""The file that marks the folder of a student."""

_AGAIN = "`raydisc resume` writes the student again where its folder is missing"


def _known_kind(name: str) -> str:
    if name not in TASK_KINDS:
        raise ValueError(f"unknown kind of task '{name}'{nearest(name, TASK_KINDS.names())}")
    return name


@dataclass(frozen=True)
class StudentCard:
    """The description of a student in its folder.

    Attributes:
        key: The key of the stage that made it.
        schedule: The name of the schedule that made it.
        path: The scales of its assistants.
        scale: Its scale.
        kind: ``classification``, ``regression``, ``tokens`` or ``language``.
        classes: The names of its outputs.
        text: The one or two columns that its inputs come from.
        max_length: The length of the longest input in tokens.
        metric: The metric of the task.
        validation_metric: Its metric on the run's validation rows.
        plain: Whether transformers' auto classes load it too, without raydisc.
    """

    key: str
    schedule: str
    path: tuple[float, ...]
    scale: float
    kind: Annotated[str, AfterValidator(_known_kind)]
    classes: tuple[str, ...]
    text: Annotated[tuple[str, ...], Field(min_length=1, max_length=2)]
    max_length: PositiveInt
    metric: str
    validation_metric: float
    plain: bool = False

    def write(self, folder: Path) -> None:
        """Write the card into a student's folder."""
        (folder / CARD).write_text(json.dumps(asdict(self), indent=1))


def plain_config(config: Config, structure: Structure) -> Config | None:
    """Return the configuration with which a student is a plain Hugging Face model; None where it cannot be one."""
    plain = structure.plain(config)
    if plain is not None:
        head_of(plain).name_architecture(plain)
    return plain


def student_folder(student: str | Path) -> Path:
    """Return the folder of a student on this machine; one behind an address is fetched."""
    if "://" not in str(student):
        return Path(student)
    storage = open_storage(str(student))
    storage.fetch_again()
    return storage.folder


def read_card(folder: str | Path) -> StudentCard:
    """Read the card of the student in a folder.

    Raises:
        InputError: The folder does not hold a student, or its card was altered.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        raise InputError(f"'{folder}' holds no student: it has no {CARD}; students lie under RUNS/NAME/students")
    try:
        return TypeAdapter(StudentCard).validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"'{path}' is not a student's card ({_first_reason(error)}); {_AGAIN}") from error


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    return " ".join([*(str(part)[:40] for part in first["loc"]), first["msg"]])[:200]


def load_student(folder: str | Path, device: str | torch.device = "cpu") -> nn.Module:
    """Load a student as a Hugging Face sequence classifier, token classifier or language model, in evaluation mode.

    Its tokenizer lies beside it: ``AutoTokenizer.from_pretrained(folder)``. The folder may be an address.

    Example:
        >>> student = load_student("runs/quickstart/students/minidisc")  # doctest: +SKIP
        >>> student(**tokenizer("the food was good", return_tensors="pt")).logits  # doctest: +SKIP

    Raises:
        InputError: The folder does not hold a student, or one of its files was altered.
    """
    folder = student_folder(folder)
    card = read_card(folder)
    try:
        config = config_from_folder(folder)
        _refuse_other_outputs(config, card)
        structure = structure_from_json(_SUBNET.validate_json((folder / "subnet.json").read_bytes()))
        if not structure.fits(config):
            raise ValueError("subnet.json keeps more than config.json has")
        student = load_trainable(config, structure, load_file(folder / "model.safetensors"))
    except Exception as error:
        raise InputError(f"the student in '{folder}' cannot be loaded ({reason_of(error)}); {_AGAIN}") from error
    return student.eval().to(device)


def _refuse_other_outputs(config: Config, card: StudentCard) -> None:
    kind, head = task_kind(card.kind), head_of(config)
    stated, found = kind.num_outputs(card.classes), head.num_outputs(config)
    if HEADS[kind.head] is not head or stated != found or kind.named_classes != bool(card.classes):
        raise ValueError(
            f"{CARD} states {kind.name} with {stated} outputs and {len(card.classes)} classes, "
            f"but the model is {head.finished} with {found} outputs"
        )


def load_student_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer that lies beside a student.

    Raises:
        InputError: The tokenizer is missing or cannot be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise InputError(f"the tokenizer in '{folder}' cannot be read ({reason_of(error)}); {_AGAIN}") from error
    return tokenizer
