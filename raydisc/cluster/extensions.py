"""Packages that extend raydisc by entry points, and their way to a cluster.

A package that came from an index is named with its version, like raydisc's own requirements. A package that was
installed from a folder, which no cluster can install, travels with the job: its folders and its metadata, by which
entry points are found. What it requires is named with the versions that are installed here. A package that the
experiment does not need stays here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from raydisc.config.experiment import Experiment
from raydisc.errors import InputError

_GROUPS = "raydisc."
"""The beginning of the names of all entry-point groups that extend raydisc."""

_COMPILED = (".so", ".pyd", ".dylib")


@dataclass(frozen=True)
class Extension:
    """An installed package that extends raydisc.

    Attributes:
        name: The name of the package.
        local: Whether it was installed from a folder or file, so that no index has it.
        metadata: Its metadata.
        modules: The names of the importable packages that its entry points lie in.
        members: The groups and the names of its entry points.
    """

    name: str
    local: bool
    metadata: metadata.Distribution
    modules: tuple[str, ...]
    members: frozenset[tuple[str, str]]

    def requirements(self) -> Iterator[Requirement]:
        """Return what the package requires here, without raydisc and Ray, which every cluster has."""
        for line in self.metadata.requires or []:
            requirement = Requirement(line)
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if needed and requirement.name not in ("raydisc", "ray"):
                yield requirement


def extensions() -> list[Extension]:
    """Return all installed packages that extend raydisc, by name."""
    found: dict[str, Extension] = {}
    for package in metadata.distributions():
        points = [point for point in package.entry_points if point.group.startswith(_GROUPS)]
        if points and package.name != "raydisc" and package.name not in found:  # the first one on the path is imported
            modules = sorted({point.module.partition(".")[0] for point in points})
            members = frozenset((point.group, point.name) for point in points)
            found[package.name] = Extension(package.name, _is_local(package), package, tuple(modules), members)
    return [found[name] for name in sorted(found)]


def needed(experiment: Experiment) -> list[Extension]:
    """Return the installed packages that an experiment needs, by name.

    These are the packages of members that it names, those that may have a member that it leaves open, and packages that
    extend raydisc and that these require.
    """
    named, left_open = _named_by(experiment), _left_open(experiment)
    installed = {canonicalize_name(extension.name): extension for extension in extensions()}
    found: dict[str, Extension] = {}
    wanted = [
        key
        for key, extension in installed.items()
        if any(name in named or group in left_open for group, name in extension.members)
    ]
    while wanted:
        key = wanted.pop()
        if key in installed and key not in found:
            found[key] = installed[key]
            wanted += [canonicalize_name(requirement.name) for requirement in installed[key].requirements()]
    return sorted(found.values(), key=lambda extension: extension.name)


def _named_by(experiment: Experiment) -> set[str]:
    """Return all that may name a member: the words of an experiment, and the family of a teacher that lies here."""
    return {*_words(experiment.model_dump(mode="json")), *filter(None, [_family_of_checkpoint(experiment)])}


def _left_open(experiment: Experiment) -> set[str]:
    """Return the groups of which an experiment may need a member without naming it."""
    groups = set()
    if experiment.teacher.architecture is None and _family_of_checkpoint(experiment) is None:
        groups.add(f"{_GROUPS}families")  # the checkpoint says it, where it lies
    if experiment.task.name is not None:
        groups.add(f"{_GROUPS}metrics")  # a task of another package may be judged by that of a third
    return groups


def _family_of_checkpoint(experiment: Experiment) -> str | None:
    """Return the ``model_type`` of the teacher's checkpoint, if its folder lies on this machine."""
    model = experiment.teacher.model
    if model is None:
        return None
    try:
        return str(json.loads((Path(model).expanduser() / "config.json").read_bytes())["model_type"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (key, *_words(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _words(inner)


def _is_local(package: metadata.Distribution) -> bool:
    """Whether a package was installed from something else than an index (PEP 610), or not by an installer at all."""
    return package.read_text("direct_url.json") is not None or package.read_text("RECORD") is None


def pack_extensions(experiment: Experiment, folder: Path, limit_bytes: int) -> list[Path]:
    """Copy the packages that an experiment needs and no cluster can install into a folder.

    Args:
        experiment: The experiment.
        folder: The folder.
        limit_bytes: The largest size of all copies together.

    Returns:
        The folders to put on the import path of the job: importable packages and their metadata.

    Raises:
        InputError: A package cannot travel: it is compiled, a single file, or too large.
    """
    packed: list[Path] = []
    carried = [extension for extension in needed(experiment) if extension.local]
    for extension in carried:
        packed += [_packed_module(extension, name, folder) for name in extension.modules]
        packed.append(_packed_metadata(extension, folder))
    size = sum(path.stat().st_size for place in packed for path in place.rglob("*") if path.is_file())
    if size > limit_bytes:
        names = ", ".join(extension.name for extension in carried)
        raise InputError(
            f"packages that extend raydisc and were installed from a folder ({names}) are {size / 2**20:.0f} MiB, but "
            f"at most {limit_bytes / 2**20:.0f} MiB travel with a job; keep data outside of them"
        )
    return packed


def _packed_module(extension: Extension, name: str, folder: Path) -> Path:
    spec = find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if len(places) != 1:
        raise InputError(
            f"{_named(extension)} has to be sent with the job, but '{name}' is not a folder with an __init__.py; make "
            "it one, or install the package from an index"
        )
    source, target = Path(places[0]), folder / name
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if not path.is_file() or any(part == "__pycache__" or part.startswith(".") for part in inside.parts):
            continue
        if path.suffix in _COMPILED:
            raise InputError(
                f"{_named(extension)} has to be sent with the job, but holds the compiled file '{name}/{inside}', "
                "which may not run there; install the package from an index that the cluster can reach"
            )
        (target / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / inside)
    return target


def _packed_metadata(extension: Extension, folder: Path) -> Path:
    """Write what is needed to find the package and its entry points; nothing says where it lay on this machine."""
    target = folder / f"{extension.name.replace('-', '_')}-{extension.metadata.version}.dist-info"
    target.mkdir(parents=True)
    version = f"Metadata-Version: 2.1\nName: {extension.name}\nVersion: {extension.metadata.version}\n"
    (target / "METADATA").write_text(version)
    (target / "entry_points.txt").write_text(extension.metadata.read_text("entry_points.txt") or "")
    return target


def _named(extension: Extension) -> str:
    return f"the package '{extension.name}' extends raydisc and was installed from a folder, so that it"
