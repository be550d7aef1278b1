"""Checkpoints that outlive the worker that writes them, and stop it when it has written so many."""

from collections.abc import Sequence
from typing import Any

from backend.ports.pipeline import CarriedMask, Way
from workers.pipeline.scratch import ScratchCheckpoints


class Stopped(Exception):
    """What a worker that is killed would not even notice."""


class StoppingCheckpoints(ScratchCheckpoints):
    """Kept as long as the object. `stop_after`: so many more chunks are kept, and the one after them is not."""

    resumable = True

    def __init__(self, chunk_frames: int, stop_after: int | None = None) -> None:
        super().__init__()
        self.chunk_frames, self.stop_after = chunk_frames, stop_after
        self.commits: list[tuple[int, int, int]] = []
        self._made: bytes | None = None
        self._rounds: dict[int, tuple[str, dict[int, Way]]] = {}

    def decision(self) -> bytes | None:
        return self._made

    def decide(self, decision: bytes) -> None:
        self._made = decision

    def begin(self, round_index: int, plan: str, ways: Sequence[int]) -> dict[int, Way]:
        kept_plan, begun = self._rounds.get(round_index, (None, {}))
        if kept_plan != plan:
            super().begin(round_index, plan, ways)
            begun = {}
            self._rounds = {n: kept for n, kept in self._rounds.items() if n < round_index} | {
                round_index: (plan, begun)
            }
        return dict(begun)

    def commit(self, round_index: int, number: int, way: Way, masks: Sequence[CarriedMask]) -> None:
        with self._lock:
            if self.stop_after is not None and len(self.commits) >= self.stop_after:
                raise Stopped
            self.commits.append((round_index, number, way.done))
        super().commit(round_index, number, way, masks)
        self._rounds[round_index][1][number] = way


def as_dicts(tracks: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Tracks with all that is in them, read."""
    return [(t.index, t.label, t.score, list(t.masks.items())) for t in tracks]
