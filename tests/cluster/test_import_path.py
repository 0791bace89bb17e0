"""Workers import modules from where Python finds them for everybody, whatever the surroundings of their driver."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from desk import make_desk
from nodes import running_nodes
from poison import poison, run_from

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]


def console_script(folder: Path) -> Path:
    """Write the command as pip does: a script whose own folder, not the current one, is first on Python's path."""
    entry: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["raydisc"]
    module, _, function = entry.partition(":")
    folder.mkdir()
    script = folder / "raydisc"
    script.write_text(f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n")
    return script


def run_python(folder: Path, *words: str, umask: int = -1, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in a folder, with this raydisc importable."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_run_succeeds_in_surroundings_that_developers_seldom_have(tmp_path: Path) -> None:
    """A folder with a space in its name and modules with the names of packages, no home, and a strict umask.

    Its trials, the workers of its gangs and the owner of its hot copies import the packages.
    """
    folder = make_desk(tmp_path / "my desk").folder
    poison(folder)
    settings = ("schedules=[kd]", "controls=false", "resources.workers=2", "resources.cpus=1")
    words = [str(console_script(tmp_path / "bin")), "run", "tiny.yaml", "--plain"]
    words += [word for setting in settings for word in ("--set", setting)]
    done = run_python(folder, *words, umask=0o077, HOME="/dev/null/home")
    assert (done.returncode, run_from(folder)) == (0, []), done.stderr
    assert [line for line in done.stderr.splitlines() if not line.startswith("[")] == []
    assert (folder / "runs/tiny/students/kd-to-0.25-seed-0/model.safetensors").is_file()
    written = list((folder / "runs").rglob("*"))
    assert len(written) > 20
    assert [path for path in written if path.stat().st_mode & 0o077] == []


LOOK = """
import importlib, json, os, sys
from raydisc.runtime.session import ray_session

with ray_session():
    import ray

    @ray.remote(num_cpus=0)
    def look(names):
        found = [importlib.import_module(name).__file__ for name in names]
        return [os.path.realpath(folder) for folder in sys.path], found

    print(json.dumps(ray.get(look.remote(sys.argv[1:]))))
"""


def modules_found(tmp_path: Path, *names: str, **variables: str) -> list[str]:
    """Return the files that a worker imports by these names; the driver's script and current folder are not searched.

    Args:
        tmp_path: Where the folders of the driver are made.
        names: Of the modules.
        variables: Of the driver's environment.
    """
    here, script = tmp_path / "here", tmp_path / "script"
    for folder in (here, script):
        folder.mkdir()
    poison(here)
    (script / "look.py").write_text(LOOK)
    done = run_python(here, str(script / "look.py"), *names, **variables)
    assert (done.returncode, run_from(here)) == (0, []), done.stderr
    searched, found = json.loads(done.stdout.splitlines()[-1])
    assert not {str(here), str(script)} & set(searched)
    return list(found)


def test_workers_of_a_local_session_find_what_pythonpath_names(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "on_purpose.py").touch()
    path = os.pathsep.join([str(library), str(ROOT)])
    assert modules_found(tmp_path, "torch", "on_purpose", PYTHONPATH=path)[1] == str(library / "on_purpose.py")


def test_workers_of_a_cluster_that_was_joined_find_installed_packages(tmp_path: Path) -> None:
    with running_nodes() as nodes:
        [found] = modules_found(tmp_path, "torch", **nodes.access)
    assert found.endswith("torch/__init__.py")
