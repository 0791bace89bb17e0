#!/usr/bin/env python3
"""Check the English of docstrings, comments, messages and pages; `make lint` runs it.

usage: python tests/english.py [--update] [FILE ...]

Reports what is not plain English in the files (default: all), and fails where anything is found. Files on the list
`tests/english_pending.txt` are still to be rewritten and are reported only when named. The list may only become
shorter: a file on it that is clean has to be struck off, which `--update` does.
"""

import ast
import bisect
import io
import itertools
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PENDING = Path(__file__).with_name("english_pending.txt")
CODE_FOLDERS = ("raydisc", "clusters", "experiments")
FOLDERS = (*CODE_FOLDERS, "docs", "tests")
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")

OWN = ("english.py", "test_english.py")
"""The check and its test, which quote what they forbid."""

Finding = tuple[int, str]
"""A line number, and a sentence that says what is wrong there."""

WORDS = {
    r"\b(?:tells?|told) of\b": "write 'report' or 'say'",
    r"\b(?:tells|is told|are told|was told)\b(?! of\b| (?:\w+ )?(?:apart|from)\b)": "write 'report', 'pass' or 'say'",
    r"\bso many\b": "write 'that many', 'this number of' or the quantity itself",
    r"(?<!there )\b(?:is|are|was|were|has|have|had|of|or|for|where) none\b": "name what is missing instead of 'none'",
    r"(?<!there )\b(?:is|are) no (?!longer\b|more\b)[a-z']+": "write 'is not a ...'",
    r"\bteach(?:es|ing)?\b|\btaught\b": "write 'train' or 'distil'",
    r"\b(?:for|of|to) who\b": "name the person or the part",
    r"\blest\b": "write 'so that ... not'",
    r"\banew\b": "write 'again'",
    r"\b(?:(?:initial|optim|normal|synchron|summar|recogn)iz(?:es?|ed|ing|ations?|ers?)|behaviors?)\b": (
        "write British English"
    ),
}
"""Idioms that strangers stumble over, with what to write instead."""

SUMMARY = re.compile(
    r"(?:What|Of|For|How|Where|By|Who|Which|Whose|As|To|With|Without|From|So|In|On|At)\b(?! ?(?:[-–—]|to\b))"
)
"""First words that leave a summary without a verb or a noun."""

SECTION = re.compile(r" *(?:Args|Returns|Raises|Yields|Attributes):$")
CODE = re.compile(r"``.+?``|`[^`\n]+`", re.DOTALL)
FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.DOTALL | re.MULTILINE)


def main(update: bool, wanted: Sequence[str] = ()) -> int:
    """Report every finding outside the list, and every entry of the list that should be struck off.

    Args:
        update: Whether to strike off those entries.
        wanted: Files whose findings are reported whether they are listed or not, and nothing else.

    Returns:
        The exit code.
    """
    listed = PENDING.read_text(encoding="utf-8").split() if PENDING.exists() else []
    found = {path: findings for path in prose_files() if (findings := check_file(path))}
    for path, line, message in not_imperative():
        found.setdefault(path, []).append((line, message))
    names = {str(path.relative_to(ROOT)): sorted(findings) for path, findings in found.items()}
    stale = [name for name in listed if name not in names]
    if wanted:
        listed, stale = [], []
        names = {name: findings for name, findings in names.items() if name in wanted}
    elif update:
        PENDING.write_text("".join(f"{name}\n" for name in listed if name in names), encoding="utf-8")
        stale = []
    for name in stale:
        print(f"tests/english_pending.txt: {name} is clean or gone; strike it off (python tests/english.py --update)")
    reported = [(name, *finding) for name in sorted(set(names) - set(listed)) for finding in names[name]]
    for name, line, message in reported:
        print(f"{name}:{line}: {message}")
    return 1 if stale or reported else 0


def prose_files() -> list[Path]:
    """Return the Python and Markdown files that are checked."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md")]
    return sorted(path for path in [*files, *map(ROOT.joinpath, PAGES)] if path.is_file() and path.name not in OWN)


def not_imperative() -> Iterator[tuple[Path, int, str]]:
    """Yield the docstrings of functions whose first line is not in the imperative mood, by ruff's D401."""
    command = ["ruff", "check", "--isolated", "--select", "D401", "--output-format", "json", *CODE_FOLDERS]
    ran = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    for finding in json.loads(ran.stdout):
        yield Path(finding["filename"]), finding["location"]["row"], "the summary should be in the imperative mood"


def check_file(path: Path) -> list[Finding]:
    """Return the findings of one file."""
    text = path.read_text(encoding="utf-8")
    return check_page(text) if path.suffix == ".md" else check_code(text, docstrings="tests" not in path.parts)


def check_page(text: str) -> list[Finding]:
    """Return the findings of a Markdown page, whose code is left alone."""
    return check_words(FENCE.sub(blank, text), 1)


def check_code(text: str, docstrings: bool = True) -> list[Finding]:
    """Return the findings of a Python file.

    Args:
        text: The contents of the file.
        docstrings: Whether the form of docstrings is checked too, not only the words.
    """
    findings = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            findings += check_words(token.string, token.start[0])
    tree = ast.parse(text)
    documented = list(docstrings_of(tree)) if docstrings else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 2:
            findings += check_words(node.value, node.lineno)
    for node, summarised in documented:
        findings += check_docstring(node, summarised)
    return findings


def docstrings_of(tree: ast.Module) -> Iterator[tuple[ast.Constant, bool]]:
    """Yield every docstring, attributes' included, and whether it has a summary (a function's or a class's)."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for place, statement in enumerate(node.body):
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                if isinstance(statement.value.value, str):
                    yield statement.value, place == 0 and not isinstance(node, ast.Module)


def check_words(text: str, line: int) -> list[Finding]:
    """Return the idioms in a text that begins on a line; quoted code is left alone."""
    lines = [" ".join(part.split()) + " " for part in CODE.sub(blank, text).split("\n")]
    ends = list(itertools.accumulate(map(len, lines)))
    return [
        (line + bisect.bisect_right(ends, match.start()), f"'{match[0]}': {advice}")
        for pattern, advice in WORDS.items()
        for match in re.finditer(pattern, "".join(lines), 0 if "none" in pattern else re.IGNORECASE)
    ]


def check_docstring(node: ast.Constant, summarised: bool) -> list[Finding]:
    """Return what a docstring lacks in form: the start of its summary, its quoted code, its sections' entries."""
    text = str(node.value)
    findings = []
    if summarised and (match := SUMMARY.match(text)):
        findings.append((node.lineno, f"a summary should not begin with '{match[0]}'"))
    for match in re.finditer(r"(?<!`)`[^`\n]+`(?!`)(?!_)", re.sub(r"``.+?``", blank, text, flags=re.DOTALL)):
        line = node.lineno + text[: match.start()].count("\n")
        if ">" not in text.splitlines()[line - node.lineno]:
            findings.append((line, f"{match[0]}: code in docstrings stands in double backticks"))
    for line, entry in section_entries(text):
        if entry[:1].islower() and entry[:1] != "λ":
            findings.append((node.lineno + line, f"'{entry[:40]}': a description begins with a capital"))
        if not entry.endswith((".", ":", "?", "…")):
            findings.append((node.lineno + line, f"'{entry[-40:]}': a description ends with a period"))
        if entry.lower() in ("it.", "them."):
            findings.append((node.lineno + line, f"'{entry}' does not describe anything"))
    return findings


def section_entries(text: str) -> Iterator[Finding]:
    """Yield the description of each entry of a docstring's sections, with its line within the docstring."""
    lines = text.splitlines()
    for start, heading in enumerate(lines):
        if not SECTION.match(heading):
            continue
        inside = len(heading) - len(heading.lstrip()) + 4
        named = not heading.strip().startswith(("Returns", "Yields"))
        entry: list[str] = []
        first = start + 1
        for number, line in enumerate([*lines[start + 1 :], ""], start=start + 1):
            indent = len(line) - len(line.lstrip())
            ends = not line.strip() or indent < inside
            if entry and (ends or (named and indent == inside)):
                yield first, " ".join(entry)
                entry = []
            if ends:
                break
            if not entry:
                first = number
                entry = [line.strip().partition(": ")[2] if named else line.strip()]
            else:
                entry.append(line.strip())


def blank(match: re.Match[str]) -> str:
    """Return the match with every character but line breaks replaced, so that places stay as they are."""
    return re.sub(r"[^\n]", "X", match[0])


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(update="--update" in words, wanted=[word for word in words if word != "--update"]))
