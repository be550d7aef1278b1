"""How the command groups print: tables for people, JSON on request."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """One JSON value on standard output, nothing else."""
    plain: Any = value.model_dump(mode="json") if isinstance(value, BaseModel) else [
        item.model_dump(mode="json") for item in value
    ]  # fmt: skip
    typer.echo(json.dumps(plain, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table as wide as the terminal; wide cells are folded, not cut, where the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table(columns, rows))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        # Cells are data: brackets in them are no markup.
        made.add_row(*(_plain(cell) for cell in row))
    return made


def _plain(cell: object) -> str:
    return "–" if cell is None else str(cell).replace("[", r"\[")


def shortened(text: str | None, length: int = 60) -> str | None:
    """One line of at most so many characters."""
    if text is None:
        return None
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
