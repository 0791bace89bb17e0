"""Packages that extend raydisc: named if an index has them, carried if they were installed from a folder."""

import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from raydisc.cluster.environment import pinned
from raydisc.cluster.extensions import extensions, needed, pack_extensions
from raydisc.config.experiment import (
    Experiment,
    FineTuneConfig,
    ReviewsConfig,
    StudentConfig,
    TaskConfig,
    TeacherConfig,
)
from raydisc.errors import InputError

PLAIN = Experiment(
    task=TaskConfig(reviews=ReviewsConfig()),
    teacher=TeacherConfig(architecture={"model_type": "bert"}, finetune=FineTuneConfig()),
    student=StudentConfig(scale=[0.1]),
)
LIMIT = 2**20


def naming(loss: str) -> Experiment:
    """An experiment with a loss of another package, which is not installed when registries are first asked."""
    return PLAIN.model_copy(update={"distillation": PLAIN.distillation.model_copy(update={"losses": {loss: 1.0}})})


EXPERIMENT = naming("mine")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a package with one loss, as pip does from an index, or from a folder of this machine."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(
        name: str, local: bool, files: dict[str, str], group: str = "raydisc.losses", requires: str = "pandas"
    ) -> None:
        about = tmp_path / f"{name}-2.5.dist-info"
        about.mkdir()
        wanted = f"Requires-Dist: {requires}\nRequires-Dist: raydisc\nRequires-Dist: absent; extra == 'more'\n"
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n{wanted}")
        (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}.part:Mine\n")
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
    assert pack_extensions(EXPERIMENT, tmp_path / "pack", LIMIT) == []


def test_a_package_from_a_folder_is_carried(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(pinned(EXPERIMENT))
    install("mine", True, PACKAGE)
    assert set(pinned(EXPERIMENT)) == before, "what it requires is pinned, and no index has the package itself"
    pack = tmp_path / "pack"
    assert pack_extensions(EXPERIMENT, pack, LIMIT) == [pack / "mine", pack / "mine-2.5.dist-info"]
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


def names_needed(experiment: Experiment) -> list[str]:
    return [extension.name for extension in needed(experiment)]


def test_a_package_that_an_experiment_does_not_need_stays_here(install: Any, tmp_path: Path) -> None:
    before = pinned(PLAIN)
    install("listed", False, {"listed/__init__.py": ""})
    install("mine", True, {"mine/__init__.py": "", "mine/fast.so": ""}, requires="no-such-package")
    assert pinned(PLAIN) == before
    assert pack_extensions(PLAIN, tmp_path / "pack", LIMIT) == []
    assert names_needed(EXPERIMENT) == ["mine"]
    assert names_needed(naming("listed")) == ["listed"]


def test_a_package_that_a_needed_one_requires_goes_with_it(install: Any, tmp_path: Path) -> None:
    install("mine", True, PACKAGE, requires="other-part")
    install("Other_Part", True, {"Other_Part/__init__.py": ""}, group="raydisc.stages")
    assert names_needed(EXPERIMENT) == ["Other_Part", "mine"]
    assert names_needed(PLAIN) == []
    assert pinned(EXPERIMENT) == pinned(PLAIN), "no index has a package that is carried"
    carried = {path.name for path in pack_extensions(EXPERIMENT, tmp_path / "pack", LIMIT)}
    assert carried == {"mine", "mine-2.5.dist-info", "Other_Part", "Other_Part-2.5.dist-info"}


def test_members_that_an_experiment_leaves_open_are_needed(install: Any, tmp_path: Path) -> None:
    install("mine", False, PACKAGE, group="raydisc.families")
    install("theirs", False, PACKAGE, group="raydisc.metrics")

    def taught_by(model: str) -> Experiment:
        return PLAIN.model_copy(update={"teacher": TeacherConfig(model=model)})

    assert names_needed(taught_by("some/teacher")) == ["mine"], "the hub knows the family"
    config = tmp_path / "teacher" / "config.json"
    config.parent.mkdir()
    for family, found in {"mine": ["mine"], "bert": []}.items():
        config.write_text(f'{{"model_type": "{family}"}}')
        assert names_needed(taught_by(str(config.parent))) == found
    named = PLAIN.model_copy(update={"task": TaskConfig.model_construct(name="of-a-package")})
    assert names_needed(named) == ["theirs"]


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
        pack_extensions(EXPERIMENT, tmp_path / "pack", LIMIT)
    assert "mine" not in sys.modules, "nothing is imported"
