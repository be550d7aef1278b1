"""A worker process that is killed in the middle of a video: another one goes on from its last chunk, to the same
bytes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from backend.bootstrap import Container
from backend.domain.runs import Mode
from backend.services import projects, videos
from backend.services.projects import InstructionSpec, Source
from backend.settings import BrokerSettings, DatabaseSettings, StorageSettings
from integrations.media.probe import probe_video
from tests.conftest import ROOT, S3
from tests.factories import core
from tests.factories.waiting import wait_for
from tests.factories.world import Sample
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.slow]

CHUNK_FRAMES = 4
#: What a worker of the gpu queue does with the messages of these runs.
WORK = "import sys; from workers.tasks.runs import annotate; [annotate(run_id=int(n)) for n in sys.argv[1:]]"
PATIENCE_S = 300.0


@pytest.fixture
def container(database_url: str, s3: S3) -> Iterator[Container]:
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, region=s3.region, access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key, artifact_bucket=s3.bucket,
    )  # fmt: skip
    broker = BrokerSettings(url=core.dead_url())
    made = Container(
        core.settings(database_url, database=DatabaseSettings(url=database_url), broker=broker, storage=storage)
    )
    yield made
    made.close()


@pytest.fixture
def worker(container: Container, s3: S3) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process that works those runs off, one after the other."""
    started: list[subprocess.Popen[bytes]] = []
    environment = {
        **os.environ, **s3.environment(),
        "PREMASK__DATABASE__URL": container.settings.database.url.get_secret_value(),
        "PREMASK__BROKER__URL": container.settings.broker.url.get_secret_value(),
        "PREMASK__WORKER__CHUNK_FRAMES": str(CHUNK_FRAMES),
    }  # fmt: skip

    def start(*run_ids: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORK, *map(str, run_ids)]
        started.append(subprocess.Popen(command, env=environment, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def query(container: Container, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with container.engine.begin() as connection:
        found = connection.execute(text(sql), parameters)
        return [tuple(row) for row in found] if found.returns_rows else []


def make_runs(container: Container, path: Path, instruction: str, prefix: str, count: int) -> list[int]:
    """Runs of the same instruction on the same video, put so many times."""
    bucket = container.settings.storage.artifact_bucket
    with container.transaction() as session:
        projects.create_project(
            session, "killed", sources=[Source(bucket, prefix)], spec=container.run_spec,
            instructions=[InstructionSpec(instruction, Mode.VOS)],
        )  # fmt: skip
    probe, run_ids = probe_video(path), []
    for number in range(count):
        taken = core.take_in(container, container.store.upload(bucket, f"{prefix}{number}.mp4", path, "video/mp4"))
        assert taken.video_id is not None
        with container.transaction() as session:
            videos.record_probe(session, taken.video_id, probe, "0" * 64)
        run_ids += taken.run_ids
    return run_ids


def recorded(container: Container, run_id: int) -> list[Any]:
    """All that was found, without ids and seconds."""
    tracks = query(
        container,
        "SELECT t.index, t.label, t.score, t.box_keyframes, m.frame_index, m.counts, m.area, m.x1, m.y1, m.x2, m.y2"
        " FROM tracks t JOIN masks m ON m.track_id = t.id WHERE t.run_id = :id ORDER BY t.index, m.frame_index",
        id=run_id,
    )
    rest = query(container, "SELECT status, reasoning, raw_output, warnings FROM runs WHERE id = :id", id=run_id)
    keyframes = query(
        container,
        "SELECT k.frame_index, k.description, d.index, d.x1, d.y1, d.x2, d.y2, d.score FROM keyframes k"
        " LEFT JOIN detections d ON d.keyframe_id = k.id WHERE k.run_id = :id ORDER BY k.position, d.index",
        id=run_id,
    )
    return [tracks, rest, keyframes]


def test_a_killed_workers_successor_goes_on_from_the_last_chunk(
    container: Container,
    worker: Callable[..., subprocess.Popen[bytes]],
    make_sample: Callable[..., Sample],
    prefix: str,
) -> None:
    sample = make_sample(Kind.ATTRIBUTE, 2, seed=2001, frame_rate=8)
    killed, whole = make_runs(container, Path(sample.path), sample.instruction, prefix, 2)
    ways = "SELECT round, number, done FROM run_ways WHERE run_id = :id AND done > 0 AND done < steps"

    first = worker(killed)
    wait_for(lambda: query(container, ways, id=killed), "a chunk was committed", PATIENCE_S)
    first.send_signal(signal.SIGKILL)
    first.wait()
    left = query(container, "SELECT round, number, done FROM run_ways WHERE run_id = :id", id=killed)
    assert sum(done for *_, done in left) > 0
    [(masks,)] = query(container, "SELECT count(*) FROM carried_masks WHERE run_id = :id", id=killed)
    assert masks > 0
    assert core.status_of(container, killed)[0] == "running"

    # What the successor begins with is watched by the database itself.
    query(container, "CREATE TABLE seen AS SELECT round, number, done FROM run_ways WHERE false")
    query(
        container,
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO seen VALUES (NEW.round, NEW.number, NEW.done); RETURN NEW; END'",
    )
    of_the_run = f"FOR EACH ROW WHEN (NEW.run_id = {killed})"
    query(container, f"CREATE TRIGGER note AFTER UPDATE ON run_ways {of_the_run} EXECUTE FUNCTION note()")
    query(container, "UPDATE runs SET lease_expires_at = now() - interval '1 s' WHERE id = :id", id=killed)
    assert worker(killed, whole).wait(2 * PATIENCE_S) == 0
    assert core.status_of(container, killed)[:2] == ("succeeded", 2)
    assert core.status_of(container, whole)[:2] == ("succeeded", 1)
    seen = query(container, "SELECT round, number, done FROM seen")
    assert len(seen) > 0
    assert all((*way, done) not in seen for *way, stood in left for done in range(stood + 1))
    result = recorded(container, killed)
    assert result == recorded(container, whole)
    assert all(len(part) > 0 for part in result)
    for table in ("run_checkpoints", "run_ways", "carried_masks"):
        assert query(container, f"SELECT count(*) FROM {table}") == [(0,)]
