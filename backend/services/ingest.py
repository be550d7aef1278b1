"""Ingest: an object version becomes a video and its runs, once, whoever says so and however often.

Webhook events and the listing both end here. What is watched can't change while a video is being ingested (see
`repositories.projects.lock_watch_shared`), so no combination of video and instruction is missed.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from backend.db.repositories import projects as project_rows
from backend.db.repositories import runs as run_rows
from backend.db.repositories import videos as video_rows
from backend.db.tables import Instruction, Video
from backend.domain.text import is_storable
from backend.ports.storage import ObjectVersion
from backend.profiles import ModelProfile
from backend.services import outbox, promotions
from backend.settings import IngestSettings, PipelineSettings

log = logging.getLogger(__name__)

#: S3 allows no longer key.
MAX_KEY_BYTES = 1024
#: Where SeaweedFS keeps the parts of unfinished uploads.
UPLOADS_FOLDER = ".uploads"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What new runs are made with: the profile whose champion answers, and the pipeline's configuration."""

    profile: ModelProfile
    config: dict[str, Any]

    @classmethod
    def of(cls, profile: ModelProfile, pipeline: PipelineSettings) -> "RunSpec":
        return cls(profile, pipeline.configuration())

    @property
    def config_digest(self) -> str:
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class IngestResult:
    """`created` is False for a repeat. `ignored` says why an object is none of our business; then there is no video."""

    video_id: int | None
    created: bool
    run_ids: tuple[int, ...] = ()
    ignored: str | None = None


def reason_to_ignore(key: str, settings: IngestSettings) -> str | None:
    """Why an object of that name is no video to be annotated, None if it may be one."""
    if not key or key.endswith("/"):
        return "a folder"
    if not is_storable(key) or len(key.encode()) > MAX_KEY_BYTES:
        return "not a key S3 allows"
    if UPLOADS_FOLDER in key.split("/"):
        return "a part of an unfinished upload"
    if not key.lower().endswith(settings.video_suffixes):
        return "not named as a video"
    return None


def ingest(session: Session, version: ObjectVersion, settings: IngestSettings, spec: RunSpec) -> IngestResult:
    """Make the video, a queued run for each instruction that applies, and the message to probe it; or find it made."""
    ignored = reason_to_ignore(version.key, settings)
    if ignored is not None:
        return IngestResult(None, created=False, ignored=ignored)
    project_rows.lock_watch_shared(session)
    if not project_rows.is_watched(session, version.bucket, version.key):
        return IngestResult(None, created=False, ignored="no project watches it")
    video_id = video_rows.insert_if_new(session, version)
    if video_id is None:
        known = video_rows.id_of(session, version.bucket, version.key, version.version)
        return IngestResult(known, created=False)
    video = video_rows.get(session, video_id)
    instructions = project_rows.instructions_for(session, version.bucket, version.key)
    run_ids = make_runs(session, video, instructions, spec)
    outbox.dispatch_probe(session, video)
    log.info("video %d is s3://%s/%s, %d runs", video_id, version.bucket, version.key, len(run_ids))
    return IngestResult(video_id, created=True, run_ids=run_ids)


def make_runs(session: Session, video: Video, instructions: Sequence[Instruction], spec: RunSpec) -> tuple[int, ...]:
    """The ids of the runs that were missing for the video, now queued; those in a challenger's shadow last.

    A new champion makes no run missing: what another version of the profile answered stays answered.
    """
    if not instructions:
        return ()
    profile_name = spec.profile.name
    answered = run_rows.answered(session, video.id, [i.id for i in instructions], spec.config_digest, profile_name)
    missing = [instruction for instruction in instructions if instruction.id not in answered]
    rows, shadows = [], []
    for instruction in missing:
        row = {
            "video_id": video.id, "instruction_id": instruction.id, "config": spec.config,
            "config_digest": spec.config_digest,
            "model_version_id": promotions.version_for(session, instruction.project, spec.profile),
        }  # fmt: skip
        rows.append(row | {"shadow": False})
        challenger = promotions.shadow_for(session, instruction.project, profile_name, video)
        if challenger is not None:
            shadows.append(row | {"model_version_id": challenger, "shadow": True})
    return (*run_rows.insert_missing(session, rows), *run_rows.insert_missing(session, shadows))
