"""A worker's hold on its work: keeps the lease alive from a thread, tells where a run stands, notices its loss."""

import threading
import time
from collections.abc import Callable
from typing import Self

from sqlalchemy.orm import Session

from backend.bootstrap import Container
from backend.domain.errors import FenceLost
from backend.domain.runs import Stage
from backend.services import runs
from backend.services.runs import Claim
from workers.process import Ticker

_PROGRESS_EVERY_S = 0.5


class Lease:
    """Held while some work is done. The thread extends it, by `extend` (raises `FenceLost`), three times as often as it
    must. When the database is away for so long that the lease may be over, it counts as lost without asking."""

    def __init__(self, container: Container, what: str, extend: Callable[[Session], None]) -> None:
        self._container, self._what, self._extend_in = container, what, extend
        self._lost = threading.Event()
        self._lease_s = container.settings.worker.lease_s
        self._extended_at = time.monotonic()
        self._ticker = Ticker(f"premask-lease-{what}", self._lease_s / 3, self._extend)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()

    def _extend(self) -> None:
        asked_at = time.monotonic()
        try:
            with self._container.transaction() as session:
                self._extend_in(session)
        except FenceLost:
            self._lost.set()
            return
        self._extended_at = asked_at

    def check(self) -> None:
        """Raises `FenceLost` if the work is, or may be, another's."""
        if self._lost.is_set() or time.monotonic() - self._extended_at > self._lease_s:
            raise FenceLost(f"{self._what} was cancelled or taken by another worker meanwhile")


class RunLease(Lease):
    """A `StageListener` that raises `FenceLost` into the pipeline when the run is no longer this worker's."""

    def __init__(self, container: Container, claim: Claim) -> None:
        def extend(session: Session) -> None:
            runs.extend_lease(session, claim.run_id, claim.fence, container.settings.worker)

        super().__init__(container, f"run {claim.run_id}", extend)
        self._claim = claim
        self._told: tuple[Stage, float] | None = None

    def __call__(self, stage: Stage, progress: float) -> None:
        self.check()
        now = time.monotonic()
        if self._told is not None and self._told[0] == stage and now - self._told[1] < _PROGRESS_EVERY_S:
            return
        self._told = (stage, now)
        with self._container.transaction() as session:
            runs.set_stage(session, self._claim.run_id, self._claim.fence, stage, min(1.0, max(0.0, progress)))
