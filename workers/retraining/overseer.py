"""What watches over a retraining while its commands run: the claim, its time, the disk, and how far it is."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backend.bootstrap import Container
from backend.domain.errors import BadInput
from backend.domain.retraining import RetrainingStage
from backend.services import retraining
from backend.services.retraining import Claim
from workers.lease import Lease
from workers.retraining import progress

#: Of the budget the gate gets this share, unless it is known how long it took last; then twice that.
_GATE_SHARE = 0.3
_TOLD_EVERY_S = 5.0
_GIB = 2**30


class Overseer:
    """For one claim. `folder`: where the retraining lies."""

    def __init__(self, container: Container, claimed: Claim, lease: Lease, folder: Path) -> None:
        self._container, self._claim, self._lease, self._folder = container, claimed, lease, folder
        self._ends_at = time.monotonic() - claimed.spent_s + 3600 * claimed.plan.budget_h
        self._told_at = 0.0

    def check(self) -> None:
        """Raises `FenceLost` if it is another's or cancelled, `BadInput` where time or disk are spent."""
        self._lease.check()
        if time.monotonic() > self._ends_at:
            raise BadInput(f"it took longer than its budget of {self._claim.plan.budget_h:g} hours", code="over_budget")
        self.check_disk(0)

    def check_disk(self, wanted_bytes: int) -> None:
        """Raises `BadInput` if so many bytes more would leave too little."""
        free, least = shutil.disk_usage(self._folder).free, self._container.settings.retraining.min_free_gib
        if free - wanted_bytes < least * _GIB:
            raise BadInput(
                f"{self._folder} has {free / _GIB:.1f} GiB free; {wanted_bytes / _GIB:.1f} GiB are to come, and"
                f" retraining.min_free_gib keeps {least:g}",
                code="disk_full",
            )

    def training_minutes(self) -> float:
        """How long training may take, so that the gate has its time. Raises `BadInput` if nothing is left."""
        left_s = self._ends_at - time.monotonic()
        gates = [timings[RetrainingStage.GATE] for timings in self._earlier() if RetrainingStage.GATE in timings]
        left_s -= 2 * gates[0] if gates else _GATE_SHARE * 3600 * self._claim.plan.budget_h
        if left_s <= 0:
            raise BadInput(
                f"of the budget of {self._claim.plan.budget_h:g} hours nothing is left for training", code="over_budget"
            )
        return left_s / 60

    def _earlier(self) -> list[dict[str, float]]:
        with self._container.transaction() as session:
            return retraining.timings_before(session, self._claim)

    def watch_training(self, metrics: Path, steps: int) -> None:
        """As `check`; and tell how far it is, now and then."""
        self.check()
        if time.monotonic() - self._told_at >= _TOLD_EVERY_S:
            self._told_at = time.monotonic()
            found = progress.figures(progress.rows(metrics), steps)
            self.tell(found["step"] / steps, found)

    def tell(self, share: float, figures: Mapping[str, Any]) -> None:
        with self._container.transaction() as session:
            retraining.tell(session, self._claim, share, figures)

    def keep(self, *paths: Path) -> None:
        """Put what was written into the artifact bucket, where people find it when the folder is gone."""
        storage = self._container.settings.storage
        for path in paths:
            if path.exists():
                key = f"{storage.artifact_prefix}retrainings/{self._claim.retraining_id}/{path.name}"
                self._container.store.upload(storage.artifact_bucket, key, path, "text/plain; charset=utf-8")
