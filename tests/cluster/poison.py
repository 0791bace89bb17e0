"""A current folder in which modules have the names of packages."""

from pathlib import Path

NAMES = ("raydisc", "torch", "datasets", "yaml")
"""A module of the user's with such a name would be imported instead of the package, were its folder on the path."""


def poison(folder: Path) -> None:
    """Put modules there that leave a trace where they are run, and then fail."""
    for name in NAMES:
        (folder / f"{name}.py").write_text(f"open({str(folder / f'{name}.ran')!r}, 'w')\nraise ImportError('poison')\n")


def run_from(folder: Path) -> list[str]:
    """Return the names of the modules that were run there."""
    return sorted(path.stem for path in folder.glob("*.ran"))
