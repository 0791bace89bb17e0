"""Packages that extend raydisc: named if an index has them, carried if they were installed from a folder."""

import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from raydisc.cluster.environment import pinned
from raydisc.cluster.extensions import extensions, pack_extensions
from raydisc.config.experiment import Experiment, ReviewsConfig, StudentConfig, TaskConfig, TeacherConfig
from raydisc.errors import InputError

EXPERIMENT = Experiment(
    task=TaskConfig(reviews=ReviewsConfig()),
    teacher=TeacherConfig(model="some/teacher"),
    student=StudentConfig(scale=[0.1]),
)
LIMIT = 2**20


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a package with one loss, as pip does from an index, or from a folder of this machine."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(name: str, local: bool, files: dict[str, str], group: str = "raydisc.losses") -> None:
        about = tmp_path / f"{name}-2.5.dist-info"
        about.mkdir()
        requires = "Requires-Dist: pandas\nRequires-Dist: raydisc\nRequires-Dist: absent; extra == 'more'\n"
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n{requires}")
        (about / "entry_points.txt").write_text(f"[{group}]\nmine = {name}.part:Mine\n")
        (about / "RECORD").touch()
        if local:
            (about / "direct_url.json").write_text(f'{{"url": "file://{tmp_path}", "dir_info": {{}}}}')
        for file, text in files.items():
            path = tmp_path / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return installed


PACKAGE = {
    "mine/__init__.py": "",
    "mine/part.py": "Mine = 1",
    "mine/words.txt": "a b",
    "mine/__pycache__/part.pyc": "",
    "mine/.env": "secret",
}


def test_a_package_from_an_index_is_named_with_its_version(install: Any, tmp_path: Path) -> None:
    before = set(pinned(EXPERIMENT))
    install("mine", False, PACKAGE)
    install("other", False, {"other/__init__.py": ""}, group="another.program")
    assert [extension.name for extension in extensions()] == ["mine"]
    assert set(pinned(EXPERIMENT)) - before == {"mine==2.5"}
    assert pack_extensions(tmp_path / "pack", LIMIT) == []


def test_a_package_from_a_folder_is_carried(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(pinned(EXPERIMENT))
    install("mine", True, PACKAGE)
    assert set(pinned(EXPERIMENT)) == before, "what it requires is pinned, and no index has the package itself"
    pack = tmp_path / "pack"
    assert pack_extensions(pack, LIMIT) == [pack / "mine", pack / "mine-2.5.dist-info"]
    files = {str(path.relative_to(pack)) for path in pack.rglob("*") if path.is_file()}
    assert files == {
        "mine/__init__.py", "mine/part.py", "mine/words.txt", "mine-2.5.dist-info/METADATA",
        "mine-2.5.dist-info/entry_points.txt",
    }  # fmt: skip
    assert str(tmp_path) not in "".join((pack / name).read_text() for name in files), "no folder of this machine"
    [there] = [found for found in distributions(path=[str(pack)]) if found.name == "mine"]
    assert [(point.group, point.name, point.value) for point in there.entry_points] == [
        ("raydisc.losses", "mine", "mine.part:Mine")
    ]


def test_what_a_carried_package_requires_is_named(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install("mine", True, PACKAGE)
    [extension] = extensions()
    assert [requirement.name for requirement in extension.requirements()] == ["pandas"]


def test_a_requirement_that_is_not_here(install: Any, tmp_path: Path) -> None:
    install("mine", True, PACKAGE)
    about = tmp_path / "mine-2.5.dist-info" / "METADATA"
    about.write_text(about.read_text() + "Requires-Dist: no-such-package\n")
    with pytest.raises(InputError, match="'mine', which extends raydisc, requires 'no-such-package', which is not"):
        pinned(EXPERIMENT)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"mine/__init__.py": "", "mine/fast.so": ""}, "holds the compiled file 'mine/fast.so'.*from an index"),
        ({"mine.py": ""}, "'mine' is not a folder with an __init__.py; make it one"),
        ({"mine/__init__.py": "", "mine/data.txt": "x" * (LIMIT + 1)}, r"\(mine\) are 1 MiB, but at most 1 MiB travel"),
    ],
)
def test_packages_that_cannot_be_carried(install: Any, tmp_path: Path, files: dict[str, str], said: str) -> None:
    install("mine", True, files)
    with pytest.raises(InputError, match=said):
        pack_extensions(tmp_path / "pack", LIMIT)
    assert "mine" not in sys.modules, "nothing is imported"
