"""Nights of a rehearsal on a running stack: clips come in, are annotated, published and reviewed; the schedule comes
due and the loop turns by itself. Here it is only watched.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from backend.bootstrap import Container
from backend.db.repositories import ledger
from backend.db.repositories import retraining as rows
from backend.db.tables import DatasetItemRow, Publication, Retraining, Review, ReviewVersion, Run, Video
from backend.domain.annotation import Mask
from backend.domain.errors import BadInput, ServiceUnavailable
from backend.domain.retraining import OPEN
from backend.domain.runs import FINISHED, Mode, RunStatus
from backend.services import projects, schedules
from backend.services.projects import InstructionSpec, Source
from backend.services.publish import item_of
from backend.services.schedules import Plan
from backend.settings import GateSettings
from workers.evaluation.gate import Comparison, Role, bootstrap
from workers.rehearsal.annotator import Shown, SimulatedAnnotator
from workers.rehearsal.clips import Clip, folder_of
from workers.rehearsal.poison import shuffled

PROJECT = "Rehearsal"
PREFIX = "rehearsal/"
_POLL_S = 0.5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, in seconds: for a clip to be in Label Studio, for its review to be back, for a retraining."""

    clip_s: float = 60.0
    review_s: float = 300.0
    retraining_s: float = 4 * 3600.0


class Rehearsal:
    """One project on one stack. `say`: told of each step; `shuffled`: every clip gets another clip's truth."""

    def __init__(
        self, container: Container, plan: Plan, say: Callable[[str], None], *, shuffled: bool = False,
        patience: Patience | None = None,
    ) -> None:  # fmt: skip
        self._container, self._plan, self._say, self._shuffled = container, plan, say, shuffled
        self._patience = patience or Patience()
        self._annotator = SimulatedAnnotator(container)
        self._kinds: dict[str, str] = {}

    def begin(self, clips: Sequence[Clip]) -> None:
        """Make the project, asking of all those clips what is to be asked of them."""
        texts = sorted({clip.instruction for clip in clips})
        self._kinds = {PREFIX + clip.key: str(clip.example.question.kind) for clip in clips}
        bucket = self._container.settings.storage.artifact_bucket
        projects.create_connected(
            self._container.transaction, self._container.labeling_tool, PROJECT,
            sources=[Source(bucket, PREFIX)], labels=(), spec=self._container.run_spec,
            instructions=[InstructionSpec(text, Mode.VOS, (f"{PREFIX}{folder_of(text)}/",)) for text in texts],
        )  # fmt: skip

    def night(self, number: int, clips: Sequence[Clip]) -> dict[str, Any]:
        """One day's clips and the night after; what came of it."""
        truth = self._put(clips)
        self._say(f"night {number}: {len(clips)} clips are in the bucket")
        runs = self._wait(lambda: self._published(truth), self._patience.clip_s * len(clips), "published")
        accepted = sum(self._annotator.review(one) for one in self._shown(runs, truth))
        self._say(f"night {number}: reviewed, {accepted} of {len(clips)} left as they were")
        self._wait(lambda: self._reviewed(runs) == len(clips), self._patience.review_s, "reviews are back")
        edits = self._edits(runs)
        retraining_id = self._due()
        self._say(f"night {number}: retraining {retraining_id} came due")
        ended = self._wait(lambda: self._ended(retraining_id), self._patience.retraining_s, "the retraining has ended")
        self._say(f"night {number}: {ended['state']}: {ended['said']}")
        return {"night": number, "clips": len(clips), "accepted": accepted, **edits, **ended}

    def _put(self, clips: Sequence[Clip]) -> dict[str, list[dict[int, Mask]]]:
        """The truth by object key."""
        store, bucket = self._container.store, self._container.settings.storage.artifact_bucket
        truth = {}
        with tempfile.TemporaryDirectory(prefix="premask-rehearsal-") as folder:
            for clip in clips:
                path, masks = clip.render(Path(folder))
                store.upload(bucket, PREFIX + clip.key, path, "video/mp4")
                truth[PREFIX + clip.key] = masks
                path.unlink()
        if self._shuffled:
            truth = shuffled(truth, {PREFIX + clip.key: clip.shape for clip in clips})
        return truth

    def _published(self, truth: dict[str, Any]) -> list[int] | None:
        """The clips' runs, once all are in Label Studio."""
        query = select(Run).join(Video).where(Video.key.in_(truth)).options(selectinload(Run.publications))
        with self._container.transaction() as session:
            runs = session.scalars(query).all()
            if failed := [run for run in runs if RunStatus(run.status) in FINISHED and not run.publications]:
                raise BadInput(f"run {failed[0].id} of the rehearsal is {failed[0].status}: {failed[0].outcome_reason}")
            done = [run.id for run in runs if run.publications and run.publications[0].state == "published"]
        return sorted(done) if len(done) == len(truth) else None

    def _shown(self, runs: Sequence[int], truth: dict[str, list[dict[int, Mask]]]) -> list[Shown]:
        found = []
        with self._container.transaction() as session:
            for run_id in runs:
                sent = session.scalars(select(Publication).filter_by(run_id=run_id, layer_id=None)).one()
                key = session.get_one(Run, run_id).video.key
                assert sent.task_id is not None
                found.append(Shown(sent.task_id, item_of(session, sent, self._container.settings.storage), truth[key]))
        return found

    def _reviewed(self, runs: Sequence[int]) -> int:
        query = (
            select(Review.id).join(Publication, Publication.id == Review.publication_id)
            .join(ReviewVersion, ReviewVersion.review_id == Review.id).where(Publication.run_id.in_(runs)).distinct()
        )  # fmt: skip
        with self._container.transaction() as session:
            return len(session.scalars(query).all())

    def _edits(self, runs: Sequence[int]) -> dict[str, float]:
        """What correcting these took, from the assistance ledger."""
        with self._container.transaction() as session:
            return ledger.edits_per_task(session, runs)

    def _due(self) -> int:
        """Set the schedule for the next minute, and wait until it has opened a retraining; its number."""
        with self._container.transaction() as session:
            before = {row.id for row in rows.page(session, 1, None, PROJECT)}
            soon = rows.now(session) + timedelta(minutes=1)
            schedules.set_schedule(session, PROJECT, f"{soon.minute} {soon.hour} * * *", "UTC", self._plan)

        def opened() -> int | None:
            with self._container.transaction() as session:
                found = rows.page(session, 1, None, PROJECT)
                return found[0].id if found and found[0].id not in before else None

        return self._wait(opened, 180.0, "the schedule has come due")

    def _ended(self, retraining_id: int) -> dict[str, Any] | None:
        with self._container.transaction() as session:
            row = rows.get(session, retraining_id)
            return None if row.state in OPEN else _told(row, self._kinds_of(session, row))

    def _kinds_of(self, session: Session, row: Retraining) -> dict[str, str]:
        """Of each item of its data set, the kind of instruction: the gate knows no kinds, a rehearsal does."""
        query = (
            select(DatasetItemRow.item_id, Video.key).join(Run, Run.id == DatasetItemRow.run_id)
            .join(Video, Video.id == Run.video_id).where(DatasetItemRow.dataset_id == row.dataset_id)
        )  # fmt: skip
        return {item_id: self._kinds[key] for item_id, key in session.execute(query)}

    def _wait(self, look: Callable[[], T | None], patience_s: float, what: str) -> T:
        deadline = time.monotonic() + patience_s
        while not (found := look()):
            if time.monotonic() > deadline:
                raise ServiceUnavailable(f"not within {patience_s:g} s: {what}; look at the stack's logs")
            time.sleep(_POLL_S)
        return found


def _told(row: Retraining, kinds: Mapping[str, str]) -> dict[str, Any]:
    """What is printed of a retraining: data set, steps, verdict, and J&F by suite and kind with intervals. `kinds`: of
    the data set's items."""
    suites = row.verdict.body["suites"] if row.verdict else []
    return {
        "retraining": row.id, "state": row.state, "said": row.said, "corrections": row.corrections,
        "dataset": row.dataset.digest if row.dataset else None,
        "items": row.dataset.counts if row.dataset else None,
        "steps": row.figures.get("step"), "seconds": row.timings_s,
        "verdict": row.verdict.digest if row.verdict else None,
        "promoted": row.state == "promoted", "candidate": row.candidate.digest if row.candidate else None,
        "held_out": [
            {"suite": suite["name"], "role": suite["role"], "all": suite["whole"],
             "kinds": by_kind(suite["items"], kinds) if suite["role"] == Role.FRESH else suite["groups"]}
            for suite in suites
        ],
    }  # fmt: skip


def by_kind(items: Iterable[tuple[str, str, float, float]], kinds: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """A verdict's items, each of a video of its own, compared kind by kind in the gate's own way."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for item_id, _, champion_jf, candidate_jf in items:
        found[kinds[item_id]].append((champion_jf, candidate_jf))
    return {kind: _compared(np.array(pairs)) for kind, pairs in sorted(found.items())}


def _compared(pairs: NDArray[np.float64]) -> dict[str, Any]:
    limits = GateSettings()
    champion_jf, candidate_jf = (round(float(mean), 4) for mean in pairs.mean(0))
    difference = bootstrap(pairs[:, 1] - pairs[:, 0], limits.confidence, limits.resamples, limits.seed)
    return asdict(Comparison(champion_jf, candidate_jf, difference))
