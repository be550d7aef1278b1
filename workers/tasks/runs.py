"""Annotating, on the gpu queue, and publishing, on the io queue.

Annotating claims in a short transaction, computes with no session open, and records in a short transaction.
"""

import io
import logging
import time

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.domain.annotation import Annotation
from backend.domain.errors import BadInput, FenceLost, ServiceUnavailable
from backend.domain.runs import Stage
from backend.logs import log_context
from backend.services import bulk, outbox, publish, results, runs, videos
from backend.services.runs import Claim
from backend.settings import PipelineSettings
from workers import at_hand, models, process
from workers.app import app
from workers.checkpoints import RunCheckpoints
from workers.lease import RunLease
from workers.task import PremaskTask

log = logging.getLogger(__name__)


@app.task(name=outbox.ANNOTATE_TASK, bind=True)  # type: ignore[untyped-decorator]
def annotate(self: PremaskTask, run_id: int) -> None:
    """Bring a run to its end: recorded, failed with a reason, or given back for another attempt.

    It is the one that was asked for, or one that comes better now: each message has one run carried out.
    """
    worker = self.container.settings.worker
    with self.transaction() as session:
        claim = runs.claim_next(session, run_id, process.worker_name(), worker, at_hand.worked_on())
    if claim is None:
        log.info("not free, or done")
        return
    with log_context(run_id=claim.run_id):
        _carry_out(self, claim)


def _carry_out(self: PremaskTask, claim: Claim) -> None:
    worker, run_id = self.container.settings.worker, claim.run_id
    try:
        with RunLease(self.container, claim) as lease:
            _work(self, claim, lease)
    except BadInput as error:
        with self.transaction() as session:
            runs.fail(session, run_id, claim.fence, error.code, str(error))
    except ServiceUnavailable:
        with self.transaction() as session:
            runs.postpone(session, run_id, claim.fence)
        raise
    except FenceLost:
        raise
    except Exception as error:
        # Whatever a model or a driver throws: the run must not wait for its lease to end. Celery logs the traceback.
        with self.transaction() as session:
            runs.give_back(session, run_id, claim.fence, f"{type(error).__name__}: {error}", worker)
        raise


def _work(task: PremaskTask, claim: Claim, lease: RunLease) -> None:
    container = task.container
    log.info("attempt %d at s3://%s/%s", claim.attempt, claim.object_version.bucket, claim.object_version.key)
    began = time.perf_counter()
    path = at_hand.video(container, claim.object_version, claim.model_digest)
    fetch_s = time.perf_counter() - began
    began = time.perf_counter()
    pipeline = models.pipeline_for(container, claim.model_digest, claim.profile, claim.config)
    load_s = time.perf_counter() - began
    seed = PipelineSettings.model_validate(claim.config).seed
    with task.transaction() as session:
        probe = videos.stored_probe(session, claim.video_id)
    size = None if probe is None else (probe.width, probe.height)
    checkpoints = None if size is None else RunCheckpoints(container, claim, size)
    annotation = pipeline.annotate(
        path, claim.instruction, claim.mode,
        seed=seed, probe=probe, on_stage=lease, checkpoints=checkpoints, keep=True,
    )  # fmt: skip
    lease(Stage.RECORD, 0.0)
    began = time.perf_counter()
    image_keys = _upload_keyframes(task, claim.run_id, annotation)
    annotation.timings_s.update(fetch=fetch_s, load=load_s, upload=time.perf_counter() - began)
    lease.check()
    with task.transaction() as session:
        results.record(session, claim.run_id, claim.fence, annotation, image_keys, container.settings.label_studio)
    log.info("%s: %d keyframes, %d tracks", annotation.status, len(annotation.keyframes), len(annotation.tracks))


def _upload_keyframes(task: PremaskTask, run_id: int, annotation: Annotation) -> dict[int, str]:
    """Put the keyframes' pictures where any attempt of the run puts them; the object keys by frame index."""
    storage = task.container.settings.storage
    keys = {}
    for keyframe in annotation.keyframes:
        key = f"{storage.artifact_prefix}runs/{run_id}/keyframes/{keyframe.frame_index:06d}.png"
        image = annotation.keyframe_images[keyframe.frame_index]
        task.container.store.put(storage.artifact_bucket, key, _png(image), "image/png")
        keys[keyframe.frame_index] = key
    return keys


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()


@app.task(name=outbox.PUBLISH_TASK, bind=True)  # type: ignore[untyped-decorator]
def publish_run(self: PremaskTask, run_id: int) -> None:
    """Hand the run's result to the labeling tool; where that is out, later."""
    tool, settings = self.container.labeling_tool, self.container.settings
    if tool is None:
        log.warning("no labeling tool is configured; the publication stays pending")
        return
    try:
        with self.transaction() as session:
            projects = publish.projects_of(session, run_id)
        for project_id in projects:
            bulk.publish_waiting(self.container.sessions, tool, project_id, settings.storage, settings.label_studio)
        publish.publish_run(self.container.sessions, tool, run_id, settings.storage, settings.label_studio)
    except ServiceUnavailable as error:
        with self.transaction() as session:
            results.postpone_publication(session, run_id, error.retry_after_s)
        raise
