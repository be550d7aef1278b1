"""A worker's hold on a run: keeps the lease alive from a thread, tells where the run stands, notices its loss."""

import threading
import time

from backend.bootstrap import Container
from backend.domain.errors import FenceLost
from backend.domain.runs import Stage
from backend.services import runs
from backend.services.runs import Claim
from workers.process import Ticker

_PROGRESS_EVERY_S = 0.5


class Lease:
    """A `StageListener` that raises `FenceLost` into the pipeline when the run is no longer this worker's.

    The thread extends the lease three times as often as it must. When the database is away for so long that the lease
    may be over, the run counts as lost without asking.
    """

    def __init__(self, container: Container, claim: Claim) -> None:
        self._container = container
        self._claim = claim
        self._lost = threading.Event()
        self._lease_s = container.settings.worker.lease_s
        self._extended_at = time.monotonic()
        self._ticker = Ticker(f"premask-lease-{claim.run_id}", self._lease_s / 3, self._extend)
        self._told: tuple[Stage, float] | None = None

    def __enter__(self) -> "Lease":
        self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ticker.stop()

    def _extend(self) -> None:
        asked_at = time.monotonic()
        try:
            with self._container.transaction() as session:
                runs.extend_lease(session, self._claim.run_id, self._claim.fence, self._container.settings.worker)
        except FenceLost:
            self._lost.set()
            return
        self._extended_at = asked_at

    def check(self) -> None:
        """Raises `FenceLost` if the run is, or may be, another's."""
        if self._lost.is_set() or time.monotonic() - self._extended_at > self._lease_s:
            raise FenceLost(f"run {self._claim.run_id} was cancelled or taken by another worker meanwhile")

    def __call__(self, stage: Stage, progress: float) -> None:
        self.check()
        now = time.monotonic()
        if self._told is not None and self._told[0] == stage and now - self._told[1] < _PROGRESS_EVERY_S:
            return
        self._told = (stage, now)
        with self._container.transaction() as session:
            runs.set_stage(session, self._claim.run_id, self._claim.fence, stage, min(1.0, max(0.0, progress)))
