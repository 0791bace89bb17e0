"""The shipped templates: their paths, headers, documents and pods."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "clusters"
MANIFESTS = sorted((FOLDER / "kuberay").glob("*.yaml"))
RAY_UP = sorted((FOLDER / "ray-up").glob("*.yaml"))
SHELL = sorted(FOLDER.glob("*.sh"))
ALL = [*MANIFESTS, *RAY_UP, *SHELL, FOLDER / "Dockerfile", FOLDER / "local.py"]

PLATFORM = FOLDER / "kuberay" / "platform.yaml"
RAY_MANIFESTS = [path for path in MANIFESTS if path != PLATFORM]


def name_of(path: Path) -> str:
    """A test's name for a template."""
    return str(path.relative_to(FOLDER))


def ray_version() -> str:
    """The pinned one."""
    found = re.search(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def documents(path: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def cluster_spec(path: Path) -> dict[str, Any]:
    """The cluster of a RayCluster, or the one that a RayJob brings."""
    (document,) = documents(path)
    spec: dict[str, Any] = document["spec"]
    return spec if document["kind"] == "RayCluster" else spec["rayClusterSpec"]


def pod_templates(path: Path) -> list[dict[str, Any]]:
    """Every pod that a manifest describes: the head, workers, a job's submitter."""
    (document,) = documents(path)
    cluster = cluster_spec(path)
    groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
    submitter = document["spec"].get("submitterPodTemplate") if document["kind"] == "RayJob" else None
    return [group["template"] for group in groups] + ([submitter] if submitter else [])


def values_of(tree: Any, key: str) -> Iterator[Any]:
    """All that stands under a key, anywhere in a document."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            if name == key:
                yield value
            yield from values_of(value, key)
    elif isinstance(tree, list):
        for value in tree:
            yield from values_of(value, key)


def commands_of(path: Path) -> list[str]:
    """The shell lines that a `ray up` file has run on the machines."""
    (document,) = documents(path)
    return [line for key, lines in document.items() if key.endswith("_commands") for line in lines]
