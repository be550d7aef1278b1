"""`Checkpoints` of a claimed run, in the database: each call a short transaction of its own, from whatever thread."""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from backend.bootstrap import Container
from backend.db.session import session_scope
from backend.ports.pipeline import CarriedMask, Way
from backend.services import checkpoints
from backend.services.runs import Claim

_READ_AT_ONCE = 1024


class RunCheckpoints:
    """`size`: the video's (width, height)."""

    resumable = True

    def __init__(self, container: Container, claim: Claim, size: tuple[int, int]) -> None:
        self._sessions = container.sessions
        self._mine = (claim.run_id, claim.fence)
        self._size = size
        self.chunk_frames = container.settings.worker.chunk_frames

    def decision(self) -> bytes | None:
        with session_scope(self._sessions) as session:
            return checkpoints.decision(session, *self._mine)

    def decide(self, decision: bytes) -> None:
        with session_scope(self._sessions) as session:
            checkpoints.decide(session, *self._mine, decision)

    def begin(self, round_index: int, plan: str, ways: Sequence[int]) -> dict[int, Way]:
        with session_scope(self._sessions) as session:
            return checkpoints.begin(session, *self._mine, round_index, plan, ways)

    def commit(self, round_index: int, number: int, way: Way, masks: Sequence[CarriedMask]) -> None:
        with session_scope(self._sessions) as session:
            checkpoints.commit(session, *self._mine, round_index, number, way, masks)

    def masks(self, round_index: int, detection: int, frames: range) -> Iterator[CarriedMask]:
        begin = frames.start
        while begin < frames.stop:
            rest = range(begin, frames.stop)
            with session_scope(self._sessions) as session:
                found = self._page(session, round_index, detection, rest)
            yield from found
            begin = found[-1].frame_index + 1 if len(found) == _READ_AT_ONCE else frames.stop

    def _page(self, session: Session, round_index: int, detection: int, frames: range) -> list[CarriedMask]:
        return checkpoints.masks(session, self._mine[0], round_index, detection, frames, self._size, _READ_AT_ONCE)

    def counted(self, round_index: int, detection: int) -> int:
        with session_scope(self._sessions) as session:
            return checkpoints.counted(session, self._mine[0], round_index, detection)
