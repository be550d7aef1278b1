"""Short ways to what most tests of the core begin with: object versions, a watched project, a run, a made-up result."""

import socket
from typing import Any

import numpy as np

from backend.bootstrap import Container
from backend.db.repositories import outbox as outbox_rows
from backend.db.repositories import videos as video_rows
from backend.domain.annotation import Annotation, Box, Detection, Keyframe, Mask, Track, VideoProbe
from backend.domain.runs import Mode, RunStatus
from backend.ports.storage import ObjectVersion
from backend.services import ingest, projects, renditions, results, runs, videos
from backend.services.projects import InstructionSpec, Source
from backend.services.runs import Claim
from backend.settings import BrokerSettings, DatabaseSettings, LabelStudioSettings, Settings

BUCKET = "premask"


def settings(database_url: str, **groups: Any) -> Settings:
    """Settings over that database, with a broker nobody listens at unless `broker` is given."""
    return Settings(
        **{"database": DatabaseSettings(url=database_url), "broker": BrokerSettings(url=dead_url()), **groups}
    )


def free_port() -> int:
    """A port of loopback at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def dead_url() -> str:
    """A broker's address at which nobody listens."""
    return f"redis://127.0.0.1:{free_port()}/0"


def version(key: str, etag: str = "e1", bucket: str = BUCKET) -> ObjectVersion:
    return ObjectVersion(bucket, key, etag, etag, 1234)


def make_project(container: Container, name: str = "cups", *texts: str, prefix: str = "in/", **more: Any) -> int:
    """A project that watches `in/` and asks those things (one, if none is named); its id."""
    with container.transaction() as session:
        return projects.create_project(
            session, name, sources=[Source(BUCKET, prefix)], spec=container.run_spec,
            instructions=[InstructionSpec(text, Mode.VOS) for text in texts or ("the cup",)], **more,
        ).id  # fmt: skip


def take_in(container: Container, object_version: ObjectVersion) -> ingest.IngestResult:
    with container.transaction() as session:
        return ingest.ingest(session, object_version, container.settings.ingest, container.run_spec)


def probe(frame_count: int = 300, width: int = 64, height: int = 48) -> VideoProbe:
    """Of a clip with 25 frames a second that begins at 7."""
    pts = np.arange(frame_count, dtype=np.int64) + 7
    return VideoProbe(frame_count, width, height, 0, frame_count / 25, False, "h264", 1, 25, pts)


def ready_run(container: Container, key: str = "in/a.mp4") -> int:
    """A run whose video has been probed; a project must watch it."""
    taken = take_in(container, version(key))
    assert taken.video_id is not None
    with container.transaction() as session:
        videos.record_probe(session, taken.video_id, probe(), "0" * 64)
        renditions.note_need(session, taken.video_id, ())
    return taken.run_ids[0]


def claim(container: Container, run_id: int, worker: str = "w1") -> Claim | None:
    with container.transaction() as session:
        return runs.claim(session, run_id, worker, container.settings.worker)


def recorded_run(container: Container, labeling: LabelStudioSettings) -> int:
    """A recorded run with a pending publication to Label Studio's project 5."""
    make_project(container, label_studio_project_id=5)
    run_id = ready_run(container)
    taken = claim(container, run_id)
    assert taken is not None
    with container.transaction() as session:
        results.record(session, run_id, taken.fence, annotation(), IMAGE_KEYS, labeling)
    return run_id


def status_of(container: Container, run_id: int) -> tuple[str, int, str | None]:
    """Status, attempt, reason."""
    from backend.db.repositories import runs as run_rows

    with container.transaction() as session:
        run = run_rows.get(session, run_id)
        return run.status, run.attempt, run.outcome_reason


def video_status(container: Container, video_id: int) -> str:
    with container.transaction() as session:
        return video_rows.get(session, video_id).probe_status


def unsent(container: Container) -> list[tuple[str, dict[str, Any]]]:
    """(task, payload) of what the outbox holds and may send now; read only."""
    with container.sessions() as session:
        found = [(message.task, message.payload) for message in outbox_rows.lock_due(session, 1000)]
        session.rollback()
        return found


def annotation(frame_count: int = 300, tracks: int = 2) -> Annotation:
    """A result with a mask on each frame of each track but the first frame, and text no database takes as it is."""
    made = tuple(
        Track(
            index, f"cup {index}", 0.5 + index / 10,
            {
                frame: Mask(48, 64, f"rle{index}:{frame}", 16, Box(frame % 40, index, frame % 40 + 8, index + 2))
                for frame in range(1, frame_count)
            },
        )
        for index in range(tracks)
    )  # fmt: skip
    keyframes = tuple(
        Keyframe(frame, position, frame / 25, 0.0, 0.5, f"the cup at {frame}\0", (
            Detection(0, Box(1, 2, 9, 4), "cup", 0.9, 0), Detection(1, Box(3.5, 2, 9, 4), "cup", None, None),
        ))
        for position, frame in enumerate((120, 5))
    )  # fmt: skip
    return Annotation(
        probe=probe(frame_count), status=RunStatus.SUCCEEDED, outcome_code=None, reasoning="because \ud800 of it",
        raw_output="raw\0", keyframes=keyframes, tracks=made, timings_s={"decode": 0.5}, warnings=("one",),
        model={"profile": "test"},
    )  # fmt: skip


IMAGE_KEYS = {120: "artifacts/120.png", 5: "artifacts/5.png"}
