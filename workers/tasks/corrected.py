"""Corrected layers, on the gpu queue: claimed in a short transaction, computed with none open, recorded in another."""

import logging
import time
from itertools import islice

from sqlalchemy.orm import Session

from backend.domain.annotation import Mask
from backend.domain.errors import BadInput, FenceLost, Misconfigured, ServiceUnavailable
from backend.profiles import ModelProfile
from backend.services import corrected, outbox
from backend.services.corrected import Claim, Job
from workers import models, process
from workers.app import app
from workers.lease import Lease
from workers.task import PremaskTask

log = logging.getLogger(__name__)


@app.task(name=outbox.CORRECT_TASK, bind=True)  # type: ignore[untyped-decorator]
def correct(self: PremaskTask, layer_id: int) -> None:
    """Bring the layer to its end, if it is free: ready, failed with a reason, or given back for another attempt."""
    container, worker = self.container, self.container.settings.worker
    with self.transaction() as session:
        claimed = corrected.claim(session, layer_id, process.worker_name(), worker)
    if claimed is None:
        log.info("not free, or done")
        return

    def extend(session: Session) -> None:
        corrected.extend_lease(session, claimed, worker)

    try:
        with Lease(container, f"corrected layer {layer_id}", extend) as lease:
            _work(self, claimed, lease)
    except BadInput as error:
        with self.transaction() as session:
            corrected.fail(session, claimed, str(error))
    except ServiceUnavailable:
        with self.transaction() as session:
            corrected.postpone(session, claimed)
        raise
    except FenceLost:
        raise
    except Exception as error:
        # As for runs: whatever a model or a driver throws, the layer must not wait for its lease to end.
        with self.transaction() as session:
            corrected.give_back(session, claimed, f"{type(error).__name__}: {error}", worker)
        raise


def _work(task: PremaskTask, claimed: Claim, lease: Lease) -> None:
    container = task.container
    if container.labeling_tool is None:
        raise Misconfigured("no labeling tool is configured, and only it can read what people said")
    with task.transaction() as session:
        job = corrected.read(session, container.labeling_tool, claimed.layer_id, container.settings.storage)
    profile = models.present_profile(container)
    carried, timings_s = _carry(task, job, profile, lease) if job.needs_video else ({}, {})
    lease.check()
    with task.transaction() as session:
        corrected.record(session, claimed, job, carried, timings_s, profile, container.settings.label_studio)


def _carry(
    task: PremaskTask, job: Job, profile: ModelProfile, lease: Lease
) -> tuple[dict[str, list[dict[int, Mask]]], dict[str, float]]:
    """By region what the segmenter makes of each of its carries; and the seconds that it took."""
    container = task.container
    with process.scratch(container.settings.worker) as folder:
        path = folder / process.SCRATCH_VIDEO
        began = time.perf_counter()
        container.store.download(job.object_version, path)
        fetched = time.perf_counter()
        carries = [carry for plan in job.plans for carry in plan.carries]
        pipeline = models.pipeline_of(container, profile, container.run_spec.config)
        found = iter(pipeline.carry(path, job.probe, carries, lambda _: lease.check()))
        timings_s = {"fetch": round(fetched - began, 4), "segment": round(time.perf_counter() - fetched, 4)}
    return {plan.region_id: list(islice(found, len(plan.carries))) for plan in job.plans}, timings_s
