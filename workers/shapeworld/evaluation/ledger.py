"""The scores of a campaign in a file: a line that says of which models and parts, and one for each clip."""

from collections.abc import Iterable
from pathlib import Path

from backend.domain.errors import BadInput
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part


class Ledger:
    """What it has is not measured again; scores of other models, or of other parts, are refused."""

    def __init__(self, path: Path | None, digest: str, parts: Iterable[Part] = tuple(Part)) -> None:
        self._path = path
        self.scores: dict[Case, ClipScore] = {}
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = _whole_lines(path) if path.exists() else []
        head = " ".join([digest, *sorted(parts)])
        lines = lines or [f"{head}\n"]
        if lines[0].strip() != head:
            raise BadInput(f"{path} holds scores of other models or parts ({lines[0].strip()}; asked for: {head})")
        path.write_text("".join(lines))
        self.scores = _scores(lines)

    def add(self, found: ClipScore) -> None:
        self.scores[found.case] = found
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(found.to_line() + "\n")


def read_ledger(path: Path) -> tuple[str, tuple[Part, ...], dict[Case, ClipScore]]:
    """The models' digest, the parts that were measured, and the scores. Raises `BadInput` for what is no ledger."""
    if not path.is_file():
        raise BadInput(f"there is no ledger {path}; premask shapeworld evaluate --ledger {path} writes one")
    try:
        lines = _whole_lines(path)
        digest, *parts = lines[0].split()
        return digest, tuple(map(Part, parts)), _scores(lines)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is no ledger of premask shapeworld evaluate: {error!r}") from error


def _whole_lines(path: Path) -> list[str]:
    """What a kill left of a line has no end and is dropped."""
    return [line for line in path.read_text().splitlines(True) if line[-1] == "\n"]


def _scores(lines: list[str]) -> dict[Case, ClipScore]:
    return {one.case: one for one in map(ClipScore.from_line, lines[1:])}
