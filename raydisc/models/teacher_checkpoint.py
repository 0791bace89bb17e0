"""Teachers: finding, checking and loading checkpoints."""

import hashlib
import importlib.util
from collections.abc import Collection, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from raydisc.errors import InputError, reason_of
from raydisc.families.base import Config
from raydisc.families.registry import family_of, layers_of
from raydisc.models.build import config_from_folder
from raydisc.models.checkpoint_files import BESIDE_WEIGHTS, WEIGHTS
from raydisc.models.task_heads import HEADS, head_of, model_class, suit, weights_of
from raydisc.models.widths import Widths
from raydisc.tasks.kinds.base import TaskKind

_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model")
_PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")


def locate(model: str, weights: bool = True) -> Path:
    """Return the local folder of a checkpoint: a folder, ``package:NAME/FOLDER``, or a hub name, which is downloaded.

    Args:
        model: The name of the checkpoint.
        weights: Whether its weights are needed, besides its configuration and its tokenizer.

    Raises:
        InputError: The name cannot be found, or is not that of a safe checkpoint.
    """
    folder = _find(model, "teacher.model", [WEIGHTS, *BESIDE_WEIGHTS] if weights else BESIDE_WEIGHTS)
    if not (folder / "config.json").is_file():
        raise InputError(f"teacher.model: '{folder}' is not a checkpoint: it has no config.json")
    if weights:
        _check_weights(folder)
    return folder


def locate_tokenizer(tokenizer: str) -> Path:
    """Return the local folder of a tokenizer, which may have no weights beside it; named as in ``locate``.

    Raises:
        InputError: The name cannot be found.
    """
    return _find(tokenizer, "teacher.tokenizer", BESIDE_WEIGHTS)


def _find(model: str, setting: str, wanted: Sequence[str]) -> Path:
    folder = _in_package(model, setting) if model.startswith("package:") else Path(model).expanduser()
    return folder if folder.exists() else _from_hub(model, setting, wanted)


def _in_package(model: str, setting: str) -> Path:
    package, _, inner = model.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"{setting}: the Python package '{package}' of '{model}' is not installed")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    folder = (root / inner).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise InputError(f"{setting}: the package '{package}' holds no folder '{inner}'")
    return folder


def _from_hub(model: str, setting: str, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, allow_patterns=list(wanted)))
    except Exception as error:
        raise InputError(
            f"{setting}: '{model}' is neither a folder here nor a model that the hub gives "
            f"({type(error).__name__}); give the path of a folder"
        ) from error


def _check_weights(folder: Path) -> None:
    if not any(folder.glob(WEIGHTS)):
        if any((folder / name).exists() for name in _PICKLED):
            raise InputError(
                f"teacher.model: '{folder}' holds pickled weights (pytorch_model.bin), which can run code when read; "
                "convert them where you trust them: "
                "AutoModelForSequenceClassification.from_pretrained(...).save_pretrained(..., safe_serialization=True)"
            )
        raise InputError(f"teacher.model: '{folder}' holds no weights: model.safetensors is missing")
    index = folder / "model.safetensors.index.json"
    try:
        shards = _Index.model_validate_json(index.read_bytes()).weight_map.values() if index.is_file() else ()
    except ValidationError as error:
        raise InputError(f"teacher.model: '{index}' does not say which file each weight lies in") from error
    held = {path.name for path in folder.glob(WEIGHTS) if path.is_file()}
    absent = sorted(set(shards) - held)
    if absent:
        raise InputError(f"teacher.model: '{folder}' lacks {absent[0]}, which its index names")


class _Index(BaseModel):
    weight_map: dict[str, str]


def checkpoint_fingerprint(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's configuration, weights and tokenizer files."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob(WEIGHTS), *folder.glob("*.txt")]):
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def load_config(folder: Path, trust_remote_code: bool = False) -> Config:
    """Return the configuration of a checkpoint whose family has an adapter.

    Raises:
        InputError: The configuration cannot be read, or its family is unknown.
    """
    path = folder / "config.json"
    try:
        config = config_from_folder(folder, trust_remote_code)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"teacher.model: '{path}' is not a configuration ({reason_of(error)})") from error
    family_of(config)
    return config


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a folder.

    Raises:
        InputError: The tokenizer is missing or cannot be read.
    """
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"teacher.model: '{folder}' has no tokenizer (tokenizer.json or a vocabulary file); "
            "save it there with tokenizer.save_pretrained(...)"
        )
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise InputError(f"teacher.model: the tokenizer in '{folder}' cannot be read ({reason_of(error)})") from error
    return tokenizer


def load_teacher(
    folder: Path,
    kind: TaskKind,
    num_labels: int,
    pad_id: int | None,
    finetuned: bool,
    trust_remote_code: bool = False,
) -> nn.Module:
    """Load a checkpoint as a float32 language model, or classifier of rows or tokens.

    Args:
        folder: The checkpoint.
        kind: The kind of task.
        num_labels: The number of outputs that the task needs.
        pad_id: The padding token of its batches; None if the tokenizer does not have one.
        finetuned: Whether the checkpoint is a teacher already, whose head must be there and fit; otherwise a head that
            is missing or for other labels is initialised.
        trust_remote_code: Whether to run code that lies beside the checkpoint.

    Raises:
        InputError: A finished teacher has no head or one for another number of labels, or weights are not those of the
            configuration.
    """
    config = suited_config(folder, kind, num_labels, pad_id, finetuned, trust_remote_code)
    model, info = model_class(config).from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # of the head; for all else they are refused below
        output_loading_info=True,
        trust_remote_code=trust_remote_code,
    )
    refuse_other_weights(model, info["missing_keys"], {name for name, *_ in info["mismatched_keys"]}, folder)
    if finetuned:
        refuse_unfinished(config, info["missing_keys"], folder)
    loaded: nn.Module = model
    return loaded


def suited_config(
    folder: Path,
    kind: TaskKind,
    num_labels: int,
    pad_id: int | None,
    finetuned: bool,
    trust_remote_code: bool = False,
) -> Config:
    """Return the configuration of a checkpoint as a task needs it; for arguments and errors see ``load_teacher``."""
    config = load_config(folder, trust_remote_code)
    if finetuned:
        check_outputs(config, kind, num_labels, folder)
    suit(config, kind, num_labels, pad_id)
    return config


def refuse_unfinished(config: Config, missing: Collection[str], folder: Path) -> None:
    """Refuse a finished teacher that lacks weights.

    Raises:
        InputError: Weights are missing.
    """
    if missing:
        raise InputError(
            f"teacher.model: '{folder}' is not {head_of(config).finished} (it lacks {', '.join(sorted(missing)[:3])}); "
            "add teacher.finetune"
        )


def refuse_other_weights(model: Any, missing: Set[str], mismatched: Set[str], folder: Path) -> None:
    """Refuse weights that do not fit the configuration; only a head may be initialised.

    Args:
        model: The model of the configuration.
        missing: The names of weights that the checkpoint does not have.
        mismatched: The names of weights that it has in another shape.
        folder: The checkpoint.

    Raises:
        InputError: The weights do not fit.
    """
    needed = {f"{linear.path}.weight" for units in layers_of(model.config) for linear in units.linears}
    of_encoder = {name for name in mismatched if name.startswith(f"{model.base_model_prefix}.")}
    if wrong := sorted(of_encoder | (needed & missing)):
        raise InputError(
            f"teacher.model: the weights in '{folder}' are not those of its config.json "
            f"({wrong[0]} is missing or of another shape)"
        )


def check_head(folder: Path, config: Config) -> None:
    """Refuse a finished teacher whose files hold no head of its kind, without loading it.

    Raises:
        InputError: The head is missing, or a file of weights is not a safetensors file.
    """
    with torch.device("meta"):
        model = model_class(config).from_config(config)
    head = {name for name in weights_of(model) if not name.startswith(f"{model.base_model_prefix}.")}
    refuse_unfinished(config, head - set(stored_tensors(folder)), folder)


def check_units(folder: Path, config: Config) -> None:
    """Refuse weights whose heads and neurons are not those of the configuration, without loading them.

    Raises:
        InputError: A layer is missing or has another shape, or a file of weights is not a safetensors file.
    """
    stored, full, family = stored_tensors(folder), Widths.full(config), family_of(config)
    for index, units in enumerate(layers_of(config)):
        for linear, count in full.of(index, units):
            name = f"{linear.path}.weight"
            found = next((stored[it] for it in family.stored_names(name) if it in stored), None)
            shape = None if found is None else found.shape
            size = linear.kept(count)
            wanted = (size, units.hidden_size) if linear.axis == 0 else (units.hidden_size, size)
            if shape != wanted:
                raise InputError(
                    f"teacher.model: the weights in '{folder}' are not those of its config.json: "
                    f"{name} is {'missing' if shape is None else list(shape)}, not {list(wanted)}"
                )


class StoredTensor(NamedTuple):
    """The file of a tensor, and its shape."""

    path: Path
    shape: tuple[int, ...]


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the place of every tensor in a checkpoint's weights, by name, without reading them.

    Raises:
        InputError: A file is not a safetensors file.
    """
    stored: dict[str, StoredTensor] = {}
    for path in sorted(folder.glob(WEIGHTS)):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - no mapping
                    stored[name] = StoredTensor(path, tuple(file.get_slice(name).get_shape()))
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"teacher.model: '{path}' is not a safetensors file ({reason_of(error)}); "
                "it may be cut short, or a Git LFS pointer instead of the weights"
            ) from error
    return stored


def check_outputs(config: Config, kind: TaskKind, num_labels: int, folder: Path) -> None:
    """Refuse a finished teacher whose outputs are not the task's.

    Raises:
        InputError: It labels tokens and the task whole texts, or the other way round, or the numbers differ.
    """
    HEADS[kind.head].check_outputs(config, num_labels, folder)
