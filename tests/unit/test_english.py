"""The check of docstrings, comments, messages and pages that `make lint` runs."""

from pathlib import Path

import english
import pytest


@pytest.mark.parametrize(
    "text",
    [
        '"""Fold.\n\nThe worker is told of each batch.\n"""\n',
        'raise ValueError("--gpus: 0 are none; give at least 1")\n',
        'raise ValueError(f"{path} is no checkpoint: it has no config.json")\n',
        "# so many steps\n",
        'text = """A sentence that is told\n  of in two lines."""\n',
        'def f():\n    """What a loss needs."""\n',
        'def f():\n    """How many rows there are."""\n',
        'def f(a):\n    """Return the sum.\n\n    Args:\n        a: the rows.\n    """\n',
        'def f(a):\n    """Return the sum.\n\n    Args:\n        a: The rows\n            and columns\n    """\n',
        'def f(a):\n    """Return the sum.\n\n    Raises:\n        InputError: It.\n    """\n',
        'class A:\n    """A thing."""\n\n    size: int\n    """The `size` of it."""\n',
    ],
)
def test_findings_in_code(text: str) -> None:
    assert len(english.check_code(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        '"""Two candidates that cannot be told apart, and there is no third."""\n',
        'def f():\n    """For-loops are unrolled."""\n',
        "# `so many` is quoted, and ``told of`` too\n",
        'names = ["so many"]\n',
        'def f(a):\n    """Return the sum.\n\n    Args:\n        a: ``[B, S]``.\n\n    Returns:\n        The sum\n'
        '        of all.\n    """\n',
        'def f():\n    """Return one.\n\n    Example:\n        >>> f("`a`")\n        1\n    """\n',
    ],
)
def test_no_findings_in_code(text: str) -> None:
    assert english.check_code(text) == []


def test_the_place_of_a_finding() -> None:
    [(line, message)] = english.check_page("# Title\n\nOne line, and\nso\n  many more.\n\n```\nso many\n```\n")
    assert line == 4
    assert message.startswith("'so many': ")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "raydisc").mkdir()
    (tmp_path / "raydisc" / "clean.py").write_text('def f() -> int:\n    """Return one."""\n    return 1\n')
    (tmp_path / "raydisc" / "other.py").write_text('def f() -> int:\n    """Returns one."""\n    return 1\n')
    monkeypatch.setattr(english, "ROOT", tmp_path)
    monkeypatch.setattr(english, "PENDING", tmp_path / "pending.txt")
    return tmp_path


def test_a_finding_fails_the_check(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert english.main(update=False) == 1
    assert capsys.readouterr().out == "raydisc/other.py:2: the summary should be in the imperative mood\n"


def test_a_listed_file_is_not_reported(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    english.PENDING.write_text("raydisc/other.py\n")
    assert english.main(update=False) == 0
    assert capsys.readouterr().out == ""
    assert english.main(update=False, wanted=["raydisc/other.py"]) == 1


def test_the_list_can_only_shrink(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    english.PENDING.write_text("raydisc/clean.py\nraydisc/gone.py\nraydisc/other.py\n")
    assert english.main(update=False) == 1
    assert "raydisc/clean.py is clean or gone" in capsys.readouterr().out
    assert english.main(update=True) == 0
    assert english.PENDING.read_text() == "raydisc/other.py\n"
