"""A real io worker process, with the command of the local stack, between a real broker, storage and database."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from backend.bootstrap import Container
from backend.db.repositories import outbox as outbox_rows
from backend.db.repositories import videos as video_rows
from backend.services import videos
from backend.settings import BrokerSettings, StorageSettings, WorkerSettings
from integrations.local import valkey
from integrations.local.app import worker_command
from integrations.local.service import running
from integrations.local.state import StateDir
from tests.conftest import ROOT, S3
from tests.factories import core
from tests.factories.clips import write_clip
from tests.factories.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture
def wired(database_url: str, s3: S3, prefix: str, tmp_path: Path) -> Iterator[Container]:
    """A container with a broker of its own, so that no other test's worker takes its messages."""
    broker = valkey.prepare(StateDir(tmp_path / "state", well_known_ports=False))
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket,
    )  # fmt: skip
    made = Container(
        core.settings(
            database_url, storage=storage, broker=BrokerSettings(url=broker.url), worker=WorkerSettings(lease_s=1.5)
        )
    )
    core.make_project(made, prefix=prefix)
    with running(valkey.service(broker, tmp_path / "valkey.log")):
        yield made
    made.close()


@contextmanager
def _io_worker(container: Container, s3: S3, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = container.settings
    environment = {
        **os.environ,
        **s3.environment(),
        "PREMASK__DATABASE__URL": settings.database.url.get_secret_value(),
        "PREMASK__BROKER__URL": settings.broker.url.get_secret_value(),
        "PREMASK__WORKER__LEASE_S": str(settings.worker.lease_s),
    }
    with log.open("ab") as output:
        worker = subprocess.Popen(
            worker_command("io", "-P", "threads", "-c", "4"), cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: "io" in _alive(container), f"the worker's sign of life; its log is {log}")
        yield worker
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)


def _alive(container: Container) -> set[str]:
    with container.transaction() as session:
        return set(outbox_rows.alive(session, within_s=10))


def _put(container: Container, s3: S3, key: str, body: bytes) -> tuple[int, int]:
    """Put and announce an object; the video's and the run's id."""
    taken = core.take_in(container, container.store.put(s3.bucket, key, body, "video/mp4"))
    assert taken.video_id is not None
    return taken.video_id, taken.run_ids[0]


def test_videos_are_probed_and_bad_ones_end_with_a_reason(
    wired: Container, s3: S3, prefix: str, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 12, sound_s=1).read_bytes()
    with _io_worker(wired, s3, tmp_path / "io.log"):
        bad = {
            "text.mp4": (b"this is a text", "not a video"),
            "empty.mp4": (b"", "empty"),
            "cut.mp4": (write_clip(tmp_path / "whole.mp4").read_bytes()[:1500], "truncated"),
            "dot.mp4": (write_clip(tmp_path / "dot.mp4", 3, width=1, height=1).read_bytes(), "1×1 pixels"),
        }
        runs_of = {name: _put(wired, s3, prefix + name, body)[1] for name, (body, _) in bad.items()}
        gone = core.take_in(wired, core.version(prefix + "gone.mp4")).run_ids[0]
        good_video, good_run = _put(wired, s3, prefix + "вид 🎬 +%.mp4", clip)

        wait_for(lambda: core.video_status(wired, good_video) == "ok", "the good video was probed")
        wait_for(
            lambda: all(core.status_of(wired, run_id)[0] == "failed" for run_id in [*runs_of.values(), gone]),
            "every bad video's run failed",
        )
        for name, (_, reason) in bad.items():
            assert reason in (core.status_of(wired, runs_of[name])[2] or ""), name
        assert "deleted or replaced" in (core.status_of(wired, gone)[2] or "")
        assert core.status_of(wired, good_run)[0] == "queued"
        wait_for(lambda: wired.queue.depth("gpu") == 1, "the run was sent to the GPU")
    with wired.transaction() as session:
        video = video_rows.get(session, good_video)
        assert (video.frame_count, video.width, video.height, video.has_audio) == (12, 64, 48, True)
        assert len(videos.probe_of(video).pts) == 12
        assert len(video.sha256 or "") == 64
    assert _alive(wired) == set(), "a worker that stopped in order is not alive any more"


def test_a_probe_whose_worker_was_killed_is_done_by_the_next(
    wired: Container, s3: S3, prefix: str, tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 12).read_bytes()
    with _io_worker(wired, s3, tmp_path / "io.log") as worker:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
    video_id, _ = _put(wired, s3, prefix + "a.mp4", clip)
    # As if the killed worker had taken the message with it.
    wait_for(lambda: wired.queue.depth("io") == 1, "the message is there")
    with wired.transaction() as session:
        videos.claim_probe(session, video_id, wired.settings.worker)
    _purge(wired)
    with wired.engine.begin() as connection:
        connection.execute(text("DELETE FROM worker_heartbeats"))
    with _io_worker(wired, s3, tmp_path / "io.log"):

        def reaped() -> bool:
            wired.queue.send("maintenance.reap", "io", {})
            return core.video_status(wired, video_id) == "ok"

        wait_for(reaped, "the video was probed after all")


def _purge(container: Container) -> None:
    import redis

    with redis.Redis.from_url(container.settings.broker.url.get_secret_value()) as client:
        client.delete("io")
