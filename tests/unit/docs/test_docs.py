"""The documentation: code runs, settings are valid, commands parse, files and names exist, every setting is listed."""

import ast
import importlib.util
import json
import os
import pydoc
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from pages import DOCS, PAGES, ROOT, blocks, commands, named
from pydantic import BaseModel

import raydisc
from raydisc.cli.parser import build_parser
from raydisc.config.experiment import Experiment
from raydisc.config.schedules import options_by_name
from raydisc.config.yaml_file import read_yaml

LANGUAGES = {"python", "yaml", "console", "text", "json", "toml", "{toctree}", "{eval-rst}"}
RUN_WITH_RAY = {"docs/tutorial.md", "README.md"}
"""Pages whose Python needs a finished run; `tests/cluster/test_tutorial.py` runs that of the tutorial."""


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_of_code_is_of_a_language_that_is_tested(page: Path) -> None:
    fences = re.findall(r"^ *(```+)(\S*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    opened = [language for _, language in fences[::2]]
    assert len(fences) % 2 == 0
    assert {*opened} - {""} <= LANGUAGES


WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
RUN_PAGES = """
import json, os, sys, traceback
import raydisc.runtime.planning, raydisc.testing.schedules  # once for all pages, each of which has a fork of its own

failed = []
for name, code in json.load(sys.stdin).items():
    if not (child := os.fork()):
        try:
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(", ".join(failed) or 0)
"""


def test_python_runs(tmp_path: Path) -> None:
    codes = {named(page): "\n".join(blocks(page, "python")) for page in WITH_PYTHON}
    for name in RUN_WITH_RAY:
        compile(codes.pop(name), name, "exec")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", RUN_PAGES], input=json.dumps(codes), cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr


@pytest.mark.integration
def test_the_contract_tests_of_the_page_on_extending_pass(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(blocks(ROOT / "docs/extending/index.md", "python")[0], encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py"], cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^\d\d passed", ran.stdout, re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=named)
def test_settings_are_valid(page: Path, tmp_path: Path) -> None:
    base = read_yaml(ROOT / "experiments" / "quickstart.yaml")
    for block in blocks(page, "yaml"):
        (tmp_path / "block.yaml").write_text(block, encoding="utf-8")
        settings = read_yaml(tmp_path / "block.yaml")
        Experiment.model_validate(base | settings)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=named)
def test_commands_parse(page: Path) -> None:
    parser = build_parser()
    for command in commands(page):
        words = shlex.split(command.split(" > ")[0].split(" | ")[0], comments=True)
        if words[0] == "raydisc":
            parser.parse_args(words[1:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        elif words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_and_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for path in re.findall(r"(?<!`)`([\w./-]+(?:\.(?:py|yaml|md|txt)|/))`(?!`)", text):
        folders = (ROOT, ROOT / "raydisc", page.parent)
        users_own = path.startswith(("runs/", "artifacts/", "ledger/", "mine", "data/", "students/"))
        assert users_own or any((folder / path).exists() for folder in folders), path


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_and_files_in_sentences_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text):
        command, *words = code.replace("\\|", "|").split(" > ")[0].split(" | ")[0].split()
        if command == "make":
            assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), code
        elif command == "raydisc" and len(words) == 1:
            assert f" {words[0]} " in build_parser().format_help().replace(",", " "), code
        elif command == "raydisc" and words:
            build_parser().parse_args(["bash" if word == "SHELL" else word for word in words])
        for word in (command, *words):
            if word.startswith((".ci/", "experiments/", "tests/")):
                assert (ROOT / word).exists(), code


def test_the_tree_of_the_architecture_is_that_of_the_source() -> None:
    """Every folder and file has its line, and imports run from the top of the table to the bottom."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:`[\w./]+`(?:, )?)+) \|", page, re.MULTILINE)
    place = {name.strip("`/"): row for row, names in enumerate(rows) for name in names.split(", ")}
    source = ROOT / "raydisc"
    there = {path.name for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {*place} == there - {"__init__.py", "__main__.py"}
    for path in source.rglob("*.py"):
        name = path.relative_to(source).parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if name in place and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raydisc."):
                other = str(node.module).split(".")[1]
                assert place[name] <= place[other if other in place else f"{other}.py"], f"{path} imports {node.module}"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [it.name for it in node.names]
                with_ray = {it.split(".")[0] for it in modules} & {"ray"}
                assert not with_ray or name in ("runtime", "cluster", "cli"), path


def test_the_readme_is_short_and_its_commands_are_those_of_ci() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 150
    first_two = [command.split("#")[0].strip() for command in commands(readme)[:2]]
    assert first_two == ["make quickstart", "make test"]
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text()


def test_every_public_name_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r":: raydisc\.(\w+)$", reference, re.MULTILINE))
    assert listed == set(raydisc.__all__) - {"__version__"}


# The generated pages.


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_pages", ROOT / "docs" / "_ext" / "generated_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sections_of(model: type[BaseModel], title: str) -> Iterator[tuple[str, type[BaseModel]]]:
    yield title, model
    for name, field in model.model_fields.items():
        pending: list[Any] = [field.annotation]
        while pending:
            kind = pending.pop()
            pending += get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel) and name not in ("schedules", "space"):
                yield from sections_of(kind, name if title == "The top level" else f"{title}.{name}")


def test_every_setting_is_listed_with_its_default(generated: ModuleType) -> None:
    page = generated.settings()
    sections = dict(re.findall(r"^##+ (.+?)\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
    expected = dict(sections_of(Experiment, "The top level"))
    for name, options in options_by_name().items():
        expected |= dict(sections_of(options, f"schedules: {name}"))
    assert set(sections) == set(expected)
    for title, model in expected.items():
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*) \|$", sections[title], re.MULTILINE)
        assert [name for name, *_ in rows] == list(model.model_fields), title
        for name, values, default, meaning in rows:
            field = model.model_fields[name]
            assert values, f"{title}.{name}"
            assert meaning.endswith("."), f"{title}.{name}"
            assert (default == "required") == field.is_required(), f"{title}.{name}"
            if isinstance(field.default, str):
                assert default == f"`{field.default}`", f"{title}.{name}"
            elif isinstance(field.default, int | float):
                assert json.loads(default.strip("`")) == field.default, f"{title}.{name}"


def test_every_command_is_listed(generated: ModuleType) -> None:
    page = generated.commands()
    for command in ("run", "validate", "plan", "schema", "completion"):
        assert f"\n## raydisc {command}\n" in f"\n{page}"
        assert f"usage: raydisc {command} " in page


def test_generated_parts_are_filled_in(generated: ModuleType) -> None:
    for page in DOCS:
        assert "<!-- generated" not in generated.filled(page.read_text(encoding="utf-8"))


# Messages.


def texts_of_the_source() -> Iterator[str]:
    """Yield every text in the source but docstrings, with `…` for what is filled in."""
    for path in (ROOT / "raydisc").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield node.value


def test_the_messages_of_troubleshooting_are_real() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^`(.+)`\n: ", page, re.MULTILINE)
    texts = list(dict.fromkeys(texts_of_the_source()))
    assert len(messages) > 25
    for message in messages:
        fragments = [re.escape(part.strip(" '")) for part in message.split("…")]
        pattern = re.compile(".*".join(fragments), re.DOTALL)
        assert any(pattern.search(text) for text in texts), message


@pytest.mark.parametrize("page", DOCS, ids=named)
def test_names_of_the_code_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in dict.fromkeys(re.findall(r"`(raydisc(?:\.\w+)+)(?:\(.*?\))?`", text)):
        is_file_or_entry_points = name.endswith(".json") or name in {"raydisc.metrics", "raydisc.structures"}
        assert is_file_or_entry_points or pydoc.locate(name) is not None, name
