"""What a user of the installed package meets: public names, their types, `python -m`, completion."""

import doctest
import subprocess
import sys
import sysconfig
from importlib import import_module, metadata
from pathlib import Path

import pytest

import raydisc
from raydisc.cli.completion import completion_script
from raydisc.cli.main import main
from raydisc.cli.parser import build_parser
from raydisc.registry import Registry

ROOT = Path(__file__).parents[2]


def python(*words: str, folder: Path = ROOT) -> str:
    ran = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    return ran.stdout


def test_every_public_name_is_there() -> None:
    assert dir(raydisc) == sorted(raydisc.__all__)
    for name in raydisc.__all__:
        assert getattr(raydisc, name).__doc__, name
    with pytest.raises(AttributeError, match="module 'raydisc' has no attribute 'unknown'"):
        _ = raydisc.unknown


def examples_of(name: str) -> list[doctest.Example]:
    """Return the examples of a public class or function; of a registry those in its module that show its names."""
    member = getattr(raydisc, name)
    if not isinstance(member, Registry):
        return doctest.DocTestParser().get_examples(member.__doc__ or "")
    module = import_module(raydisc._PLACES[name].partition(":")[0])
    examples = [example for found in doctest.DocTestFinder().find(module) for example in found.examples]
    return [example for example in examples if f"{name}.names()" in example.source]


@pytest.mark.parametrize("name", sorted(set(raydisc.__all__) - {"__version__"}))
def test_every_public_name_has_an_example(name: str) -> None:
    """`docs/test_docstrings.py` runs the examples."""
    assert examples_of(name), f"give `raydisc.{name}` an example in its docstring, after `>>>`"


def test_the_package_is_imported_without_torch_and_ray() -> None:
    loaded = python("-c", "import sys, raydisc; dir(raydisc); print(*sys.modules)").split()
    assert "raydisc" in loaded
    assert not {"torch", "ray", "transformers", "pydantic", "pandas"} & set(loaded)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"raydisc {metadata.version('raydisc')}\n"
    assert raydisc.__version__ == metadata.version("raydisc")


def test_the_module_runs_the_command() -> None:
    assert python("-m", "raydisc", "ls", "--storage", "no-such-folder") == (
        "there are no runs in no-such-folder yet; start one with `raydisc run FILE`\n"
    )


def test_a_users_type_checker_sees_the_types(tmp_path: Path) -> None:
    """Mypy, run on a script beside an installed raydisc; its dependencies are left out to save minutes."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "user")], check=True)
    installed = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "user")}))
    (installed / "raydisc").symlink_to(ROOT / "raydisc")
    script = tmp_path / "script.py"
    script.write_text(
        "import raydisc\n"
        'reveal_type(raydisc.load_experiment("mine.yaml"))\n'
        'reveal_type(raydisc.run(raydisc.load_experiment("mine.yaml")).failures)\n'
        "raydisc.run(3)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", str(tmp_path / "user/bin/python"), "script.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert 'Revealed type is "raydisc.config.experiment.Experiment"' in ran.stdout
    assert 'Revealed type is "list[str]"' in ran.stdout.replace("builtins.", "")
    assert 'Argument 1 to "run_experiment" has incompatible type "int"; expected "Experiment"' in ran.stdout
    assert "Found 1 error in 1 file" in ran.stdout


def completed(words: str, folder: Path) -> list[str]:
    """Return what bash offers when Tab is pressed after these words."""
    (folder / "raydisc.bash").write_text(completion_script(build_parser(), "bash"))
    script = (
        'source raydisc.bash; COMP_LINE="$1"; COMP_POINT=${#1}; read -ra COMP_WORDS <<< "$1"; '
        '[[ "$1" == *" " ]] && COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); '
        'last=$(complete -p raydisc | grep -oP "(?<=-F )\\S+"); $last 2> /dev/null; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(
        ["bash", "-c", script, "bash", words], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )
    return ran.stdout.split()


def test_completion_in_bash(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    assert completed("raydisc comp", tmp_path) == ["compare", "completion"]
    assert "--markdown" in completed("raydisc compare --", tmp_path)
    assert completed("raydisc run mi", tmp_path) == ["mine.yaml"]
    assert completed("raydisc completion ", tmp_path) == ["bash", "zsh"]


def test_completion_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, first in (("bash", "# AUTOMATICALLY GENERATED"), ("zsh", "#compdef raydisc")):
        assert main(["completion", shell]) == 0
        assert capsys.readouterr().out.startswith(first)
