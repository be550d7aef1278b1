"""A real GPU worker process (on the CPU) takes a new champion at its next claim: fetched from the bucket, without a
restart, and no run mixes two."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backend.bootstrap import Container
from backend.db.repositories import outbox as outbox_rows
from backend.db.repositories import runs as run_rows
from backend.services import models, projects, promotions, videos
from backend.services.projects import InstructionSpec, Source
from backend.settings import BrokerSettings, StorageSettings, WorkerSettings
from integrations.local import valkey
from integrations.local.app import worker_command
from integrations.local.service import running
from integrations.local.state import StateDir
from integrations.media.probe import probe_video
from tests.conftest import ROOT, S3
from tests.factories import core
from tests.factories.promoting import judged, promote
from tests.factories.waiting import wait_for
from tests.factories.world import write_sample
from workers.shapeworld.world.queries import Kind

pytestmark = [pytest.mark.stack, pytest.mark.slow]

RUN_TIMEOUT_S = 240.0


@pytest.fixture
def wired(database_url: str, s3: S3, tmp_path: Path) -> Iterator[Container]:
    """With a broker of its own, so that no other test's worker takes its messages."""
    broker = valkey.prepare(StateDir(tmp_path / "state", well_known_ports=False))
    storage = StorageSettings(
        endpoint_url=s3.endpoint_url, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key,
        artifact_bucket=s3.bucket,
    )  # fmt: skip
    worker = WorkerSettings(weights_dir=tmp_path / "weights", lease_s=60)
    made = Container(core.settings(database_url, storage=storage, broker=BrokerSettings(url=broker.url), worker=worker))
    with running(valkey.service(broker, tmp_path / "valkey.log")):
        yield made
    made.close()


@contextmanager
def gpu_worker(container: Container, s3: S3, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = container.settings
    environment = {
        **os.environ,
        **s3.environment(),
        "PREMASK__DATABASE__URL": settings.database.url.get_secret_value(),
        "PREMASK__BROKER__URL": settings.broker.url.get_secret_value(),
        "PREMASK__WORKER__LEASE_S": str(settings.worker.lease_s),
        "PREMASK__WORKER__WEIGHTS_DIR": str(settings.worker.weights_dir),
    }
    with log.open("ab") as output:
        worker = subprocess.Popen(
            worker_command("gpu", "-P", "prefork", "-c", "1"), cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        yield worker
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)


def put(container: Container, s3: S3, key: str, path: Path) -> int:
    """Put a clip, announce it, and say what probing found; the id of its run, which is sent."""
    taken = core.take_in(container, container.store.upload(s3.bucket, key, path, "video/mp4"))
    assert taken.video_id is not None
    with container.transaction() as session:
        videos.record_probe(session, taken.video_id, probe_video(path), "0" * 64)
    return taken.run_ids[0]


def result_of(container: Container, run_id: int, log: Path) -> tuple[str, str, int]:
    """The digest that a finished run was carried out with, the worker that did it, and how many claims it took."""

    def ended() -> bool:
        return core.status_of(container, run_id)[0] in ("succeeded", "no_target", "failed", "quarantined")

    wait_for(ended, f"run {run_id} ended; the worker's log is {log}", RUN_TIMEOUT_S)
    with container.transaction() as session:
        run = run_rows.get(session, run_id)
        assert run.status in ("succeeded", "no_target"), run.outcome_reason
        assert run.worker is not None
        return run.model_version.digest, run.worker, run.attempt


def test_the_next_claim_has_the_new_champion(wired: Container, s3: S3, prefix: str, tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "a.mp4", Kind.ATTRIBUTE, 1, seed=3000)
    with wired.transaction() as session:
        projects.create_project(
            session, "shapes", sources=[Source(s3.bucket, prefix)], spec=wired.run_spec,
            instructions=[InstructionSpec(sample.instruction)],
        )  # fmt: skip
        base = wired.profile.digest
        promotions.base_version(session, wired.profile)
    # The same weights with a note beside them: others, that a worker has to fetch.
    trained = tmp_path / "trained"
    shutil.copytree(wired.profile.system1.weights.path, trained)
    (trained / "NOTE.md").write_text("night 1")
    profile = models.publish_profile(
        wired.store, wired.settings.storage, wired.profile, {"system1": trained}, "night 1"
    )
    with wired.transaction() as session:
        candidate = models.register(session, profile, base).digest
    judged(wired, candidate, base)
    log = tmp_path / "gpu.log"
    with gpu_worker(wired, s3, log):
        first = result_of(wired, put(wired, s3, f"{prefix}a.mp4", sample.path), log)
        promote(wired, candidate)
        second = result_of(wired, put(wired, s3, f"{prefix}b.mp4", sample.path), log)
        with wired.transaction() as session:
            promotions.rollback(session, wired.profile.name, base=wired.profile, who="ada", why="enough")
        third = result_of(wired, put(wired, s3, f"{prefix}c.mp4", sample.path), log)
    assert [digest for digest, _, _ in (first, second, third)] == [base, candidate, base]
    # One child did all of it, at the first attempt each.
    assert {(worker, attempt) for _, worker, attempt in (first, second, third)} == {(first[1], 1)}
    assert (tmp_path / "weights" / profile.system1.weights.name).is_dir()
    with wired.transaction() as session:
        assert set(outbox_rows.alive(session, within_s=10)) == set()
