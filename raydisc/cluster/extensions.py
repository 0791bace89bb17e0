"""Packages that extend raydisc by entry points, and their way to a cluster.

A package that came from an index is named with its version, like raydisc's own requirements. A package that was
installed from a folder, which no cluster can install, travels with the job: its folders and its metadata, by which
entry points are found. What it requires is named with the versions that are installed here.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

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
    """

    name: str
    local: bool
    metadata: metadata.Distribution
    modules: tuple[str, ...]

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
            found[package.name] = Extension(package.name, _is_local(package), package, tuple(modules))
    return [found[name] for name in sorted(found)]


def _is_local(package: metadata.Distribution) -> bool:
    """Whether a package was installed from something else than an index (PEP 610), or not by an installer at all."""
    return package.read_text("direct_url.json") is not None or package.read_text("RECORD") is None


def pack_extensions(folder: Path, limit_bytes: int) -> list[Path]:
    """Copy the packages that no cluster can install into a folder.

    Args:
        folder: The folder.
        limit_bytes: The largest size of all copies together.

    Returns:
        The folders to put on the import path of the job: importable packages and their metadata.

    Raises:
        InputError: A package cannot travel: it is compiled, a single file, or too large.
    """
    packed: list[Path] = []
    for extension in extensions():
        if extension.local:
            packed += [_packed_module(extension, name, folder) for name in extension.modules]
            packed.append(_packed_metadata(extension, folder))
    size = sum(path.stat().st_size for place in packed for path in place.rglob("*") if path.is_file())
    if size > limit_bytes:
        names = ", ".join(extension.name for extension in extensions() if extension.local)
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
