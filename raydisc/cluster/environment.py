"""The packages that a job needs: their versions here, and a check that a cluster has the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from raydisc.cluster.extensions import needed
from raydisc.config.experiment import Experiment
from raydisc.errors import InputError


def pinned(experiment: Experiment) -> list[str]:
    """Return the installed versions of all that a job needs, as requirements.

    These are raydisc's own requirements, packages that hold a teacher, and packages that extend raydisc and that the
    experiment needs, or what those require that travel with the job. Builds of one version count as one, so that torch
    for a CPU here and for a GPU there agree.
    """
    names = {requirement.name for requirement in _requirements() if requirement.name != "ray"}
    return sorted(
        f"{name}=={Version(metadata.version(name)).public}"
        for name in {*names, *_holding(experiment), *_extending(experiment)}
    )


def ray_wanted() -> str:
    """Return the requirement for the cluster's own Ray, which a job cannot change."""
    return str(next(it for it in _requirements() if it.name == "ray"))


def refuse_other_versions(requirements: Iterable[str]) -> None:
    """Refuse to run with other packages than those with which the job was created.

    Raises:
        InputError: A package is missing here or has another version.
    """
    wrong = [unmet for line in requirements if (unmet := _unmet(Requirement(line)))]
    if wrong:
        raise InputError(
            f"the cluster's packages are not those of the job: {', '.join(wrong)}; install them there, "
            "submit with --pip auto, or submit from an environment like the cluster's"
        )


def _unmet(wanted: Requirement) -> str | None:
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is missing (should be {wanted.specifier})"
    if wanted.specifier.contains(version, prereleases=True):
        return None
    return f"{wanted.name} is {version} (should be {wanted.specifier})"


def _requirements() -> Iterator[Requirement]:
    for line in metadata.requires("raydisc") or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _extending(experiment: Experiment) -> Iterator[str]:
    extending = needed(experiment)
    carried = {canonicalize_name(extension.name) for extension in extending if extension.local}
    for extension in extending:
        if not extension.local:
            yield extension.name
            continue
        for requirement in extension.requirements():
            if canonicalize_name(requirement.name) in carried:
                continue
            try:
                metadata.version(requirement.name)
            except metadata.PackageNotFoundError as error:
                raise InputError(
                    f"the package '{extension.name}', which extends raydisc, requires '{requirement.name}', which is "
                    "not installed here; install it, or uninstall the package"
                ) from error
            yield requirement.name


def _holding(experiment: Experiment) -> Iterator[str]:
    named = [name for name in (experiment.teacher.model, experiment.teacher.tokenizer) if name is not None]
    for name in named:
        if name.startswith("package:"):
            package = name.removeprefix("package:").partition("/")[0]
            yield from metadata.packages_distributions().get(package, [])
