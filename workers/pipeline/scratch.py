"""Masks of a clip that is being carried, in a scratch file: where nobody is to go on with it later."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

from backend.domain.annotation import Box, Mask
from backend.ports.pipeline import CarriedMask, Estimate, Way

_TABLE = (
    "CREATE TABLE masks (round, detection, frame_index, height, width, counts, area, x1, y1, x2, y2, predicted_iou,"
    " objectness, PRIMARY KEY (round, detection, frame_index)) WITHOUT ROWID"
)
_READ_AT_ONCE = 512


class ScratchCheckpoints:
    """`Checkpoints` that are gone with the process, and with whoever reads from them last."""

    chunk_frames = 64
    resumable = False

    def __init__(self, scratch_dir: Path | None = None) -> None:
        handle, name = tempfile.mkstemp(dir=scratch_dir, prefix="premask-masks-")
        os.close(handle)
        self._lock = Lock()
        self._database = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        # Nothing is to survive here: no journal, and no name for the file.
        self._database.execute("PRAGMA journal_mode=OFF")
        self._database.execute("PRAGMA synchronous=OFF")
        self._database.execute(_TABLE)
        os.unlink(name)

    def decision(self) -> bytes | None:
        return None

    def decide(self, decision: bytes) -> None:
        pass

    def begin(self, round_index: int, plan: str, ways: Sequence[int]) -> dict[int, Way]:  # noqa: ARG002 (the port's)
        with self._lock:
            self._database.execute("DELETE FROM masks WHERE round >= ?", (round_index,))
        return {}

    def commit(self, round_index: int, number: int, way: Way, masks: Sequence[CarriedMask]) -> None:  # noqa: ARG002  (the port names it)
        rows = []
        for one in masks:
            mask, box = one.mask, one.mask.box_xyxy_px
            place = (round_index, one.detection, one.frame_index, mask.height, mask.width, mask.counts, mask.area)
            estimate = (one.estimate.predicted_iou, one.estimate.objectness)
            rows.append((*place, box.x1, box.y1, box.x2, box.y2, *estimate))
        with self._lock:
            self._database.executemany(f"INSERT INTO masks VALUES ({', '.join('?' * 13)})", rows)

    def masks(self, round_index: int, detection: int, frames: range) -> Iterator[CarriedMask]:
        query = (
            "SELECT frame_index, height, width, counts, area, x1, y1, x2, y2, predicted_iou, objectness FROM masks"
            " WHERE round = ? AND detection = ? AND frame_index >= ? AND frame_index < ? ORDER BY frame_index LIMIT ?"
        )
        begin = frames.start
        while begin < frames.stop:
            with self._lock:
                found = self._database.execute(
                    query, (round_index, detection, begin, frames.stop, _READ_AT_ONCE)
                ).fetchall()
            for frame_index, height, width, counts, area, *box, predicted_iou, objectness in found:
                mask = Mask(height, width, counts, area, Box(*box))
                yield CarriedMask(detection, frame_index, mask, Estimate(predicted_iou, objectness))
            begin = found[-1][0] + 1 if len(found) == _READ_AT_ONCE else frames.stop

    def counted(self, round_index: int, detection: int) -> int:
        query = "SELECT count(*) FROM masks WHERE round = ? AND detection = ?"
        with self._lock:
            [count] = self._database.execute(query, (round_index, detection)).fetchone()
        return int(count)
