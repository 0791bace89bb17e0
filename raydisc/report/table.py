"""A table that is shown to people, and the ways to show it: terminal, plain text, Markdown, HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import IO, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Style = Literal["", "bold", "dim"]

GAP = 2  # between two columns, and at the edges of the whole


@dataclass(frozen=True)
class Sheet:
    """A table of text, or, without columns, sentences.

    Attributes:
        title: What it shows.
        columns: Headings; one that begins with ``<`` (taken off) is aligned left, all others right.
        lines: Cells of each line.
        styles: Style of each line, or nothing for all plain.
        notes: Sentences below it.
        keys: How many columns, from the left, tell the lines apart.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    styles: Sequence[Style] = field(default=())
    notes: Sequence[str] = field(default=())
    keys: int = 1

    @classmethod
    def of_sentences(cls, title: str, sentences: Sequence[str]) -> Sheet:
        """Return sentences under a title."""
        return cls(title, (), (), notes=sentences)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show: no line of a table, or no sentence."""
        return not (self.lines if self.columns else self.notes)

    @property
    def headings(self) -> list[tuple[str, bool]]:
        """Each heading, and whether its column is aligned left."""
        return [(column.removeprefix("<"), column.startswith("<")) for column in self.columns]

    def styled(self) -> list[tuple[Sequence[str], Style]]:
        """Return each line with its style."""
        return list(zip(self.lines, self.styles or [""] * len(self.lines), strict=True))


def as_text(sheet: Sheet) -> str:
    """Aligned plain text, for pipes and logs."""
    if not sheet.columns:
        return "\n".join([sheet.title, *sheet.notes]) + "\n"
    names = [name for name, _ in sheet.headings]
    widths = [max(map(len, column)) for column in zip(names, *sheet.lines, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, (_, left) in zip(cells, widths, sheet.headings, strict=True)
        ).rstrip()
        for cells in [names, *sheet.lines]
    ]
    return "\n".join([sheet.title, *aligned, *sheet.notes]) + "\n"


def as_markdown(sheet: Sheet) -> str:
    """Return a Markdown table with its title in bold and its notes below."""
    rule = ["---" if left else "---:" for _, left in sheet.headings]
    cells = [[name for name, _ in sheet.headings], rule, *sheet.lines] if sheet.columns else []
    lines = ["| " + " | ".join(cell.strip().replace("|", "\\|") for cell in line) + " |" for line in cells]
    notes = [line for note in sheet.notes for line in ("", note)]
    return "\n".join([f"**{sheet.title}**", *([""] if lines else []), *lines, *notes]) + "\n"


def as_html(sheet: Sheet) -> str:
    """Return an HTML table with its title as caption and its notes below, or paragraphs; everything escaped."""
    if not sheet.columns:
        return f"<h3>{escape(sheet.title)}</h3>\n" + "".join(f"<p>{escape(note)}</p>\n" for note in sheet.notes)
    sides = ["l" if left else "r" for _, left in sheet.headings]
    head = "".join(
        f'<th class="{side}">{escape(name)}</th>' for side, (name, _) in zip(sides, sheet.headings, strict=True)
    )
    body = "".join(
        f'<tr class="{style}">'
        + "".join(f'<td class="{side}">{escape(cell)}</td>' for side, cell in zip(sides, cells, strict=True))
        + "</tr>\n"
        for cells, style in sheet.styled()
    )
    notes = "".join(f"<p class='note'>{escape(note)}</p>\n" for note in sheet.notes)
    return (
        f"<div class='scroll'><table><caption>{escape(sheet.title)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n{notes}"
    )


def as_rich(sheet: Sheet) -> Table:
    """Return a table for ``rich``, without title and notes; cells are text, never markup."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name, left in sheet.headings:
        table.add_column(Text(name), justify="left" if left else "right", overflow="fold")
    for cells, style in sheet.styled():
        table.add_row(*[Text(cell) for cell in cells], style=style)
    return table


def fitting(sheet: Sheet, width: int) -> list[Sheet]:
    """Return the sheet, or, where it is too wide for a terminal, several that begin with the same columns."""
    names = [name for name, _ in sheet.headings]
    widths = [max(map(len, column)) + GAP for column in zip(names, *sheet.lines, strict=True)]
    keys = list(range(sheet.keys))
    parts: list[list[int]] = [[]]
    for number in range(sheet.keys, len(widths)):
        if parts[-1] and sum(widths[n] for n in [*keys, *parts[-1], number]) > width:
            parts.append([])
        parts[-1].append(number)
    return [_columns(sheet, [*keys, *part]) for part in parts]


def _columns(sheet: Sheet, numbers: Sequence[int]) -> Sheet:
    lines = [[line[number] for number in numbers] for line in sheet.lines]
    return replace(sheet, columns=[sheet.columns[number] for number in numbers], lines=lines)


def print_lines(lines: Sequence[str], file: IO[str]) -> None:
    """Show sentences below sheets."""
    for line in lines:
        print(line, file=file)


def print_sheets(sheets: Sequence[Sheet], file: IO[str], plain: bool = False) -> None:
    """Show sheets on a terminal by ``rich``, elsewhere, or on ``plain``, as aligned text."""
    console = Console(file=file, highlight=False)
    for sheet in sheets:
        if plain or not console.is_terminal:
            print(as_text(sheet), file=file)
        else:
            console.print(Text(sheet.title, style="bold"))
            for part in fitting(sheet, console.width) if sheet.columns else []:
                console.print(as_rich(part))
            for note in sheet.notes:
                console.print(Text(note, style="dim" if sheet.columns else ""))
            console.print()
