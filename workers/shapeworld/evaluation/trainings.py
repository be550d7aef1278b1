"""Several trainings of one recipe side by side: how much of a figure is the recipe's, and how much its seed's."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backend.domain.errors import BadInput
from workers.shapeworld.evaluation.figures import flat, overall
from workers.shapeworld.evaluation.ledger import read_ledger


@dataclass(frozen=True, slots=True)
class Row:
    """A figure of each training, and of how many clips (or keyframes) it is there."""

    values: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def clips(self) -> str:
        """As "300", or "733 to 751" where it isn't the same number everywhere: keyframes are as many as were chosen."""
        return " to ".join(str(n) for n in sorted({min(self.counts), max(self.counts)}))

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Figures on the `clips` clips that all trainings were measured on; `left_out` were measured of some of them only.
    Rows by their path in the figures of one model, as ("system1", "format"); each with the trainings in the order
    given. What any of them has of no clip has no row."""

    clips: int
    left_out: int
    rows: dict[tuple[str, ...], Row]

    def to_json(self) -> dict[str, Any]:
        rows = {
            " ".join(path): {"median": row.median, "values": row.values, "n": row.counts}
            for path, row in self.rows.items()
        }
        return {"n": self.clips, "left_out": self.left_out, "figures": rows}


def compare(ledgers: Sequence[Path]) -> Comparison:
    """Raises `BadInput` for ledgers of the same models, of other parts, or without a clip in common."""
    read = [read_ledger(path) for path in ledgers]
    for index, (digest, parts, _) in enumerate(read):
        if digest in [other for other, _, _ in read[:index]]:
            raise BadInput(f"{ledgers[index]} is of the same models as one before it")
        if parts != read[0][1]:
            raise BadInput(f"{ledgers[index]} is of {', '.join(parts)}, and {ledgers[0]} of {', '.join(read[0][1])}")
    known = [scores for _, _, scores in read]
    shared = [case for case in known[0] if all(case in scores for scores in known)]
    if not shared:
        raise BadInput(f"no clip was measured of all of {', '.join(map(str, ledgers))}")
    found = [flat(overall([scores[case] for case in shared])) for scores in known]
    rows = {
        path: Row(tuple(one[path]["value"] for one in found), tuple(one[path]["n"] for one in found))
        for path in found[0]
        if all(one[path]["n"] for one in found)
    }
    return Comparison(len(shared), len(set().union(*known)) - len(shared), rows)
