"""The learning loop, on the train queue; and telling people of it, on the io queue."""

import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path

from sqlalchemy.orm import Session

from backend.bootstrap import Container
from backend.db.repositories import retraining as rows
from backend.domain.errors import BadInput, Conflict, FenceLost, Misconfigured, ServiceUnavailable
from backend.domain.retraining import RetrainingState
from backend.services import notices, outbox, retraining
from backend.services.retraining import Claim
from workers import process
from workers.app import app
from workers.lease import Lease
from workers.retraining.loop import Ended, Loop
from workers.task import PremaskTask

log = logging.getLogger(__name__)

#: After an outage elsewhere it goes on in so many seconds.
_OUTAGE_WAIT_S = 120.0


@app.task(name=outbox.RETRAIN_TASK, bind=True)  # type: ignore[untyped-decorator]
def retrain(self: PremaskTask, retraining_id: int) -> None:
    """Bring the retraining to its end, if it is free and the device is."""
    container, worker = self.container, self.container.settings.worker
    home = _home(container)
    _remove_ended(container, home)
    with self.transaction() as session:
        claimed = retraining.claim(
            session, retraining_id, process.worker_name(), device_name(container), container.profile, worker
        )
    if claimed is None:
        log.info("not free, or done")
        return
    try:
        _work(self, claimed, home / str(retraining_id))
    except ServiceUnavailable:
        with self.transaction() as session:
            retraining.postpone(session, claimed, _OUTAGE_WAIT_S)
        raise
    except FenceLost:
        raise
    except Exception as error:
        # Whatever a training throws, it must not wait for its lease to end. Celery logs the traceback.
        with self.transaction() as session:
            retraining.give_back(session, claimed, f"{type(error).__name__}: {error}", worker)
        raise
    shutil.rmtree(home / str(retraining_id), ignore_errors=True)


def _work(task: PremaskTask, claimed: Claim, folder: Path) -> None:
    container, worker = task.container, task.container.settings.worker

    def extend(session: Session) -> None:
        retraining.extend_lease(session, claimed, worker)

    with Lease(container, f"retraining {claimed.retraining_id}", extend) as lease:
        try:
            Loop(container, claimed, lease, folder).run()
        except Ended as ended:
            state, said = ended.state, str(ended)
        except (BadInput, Conflict, Misconfigured) as error:
            state, said = RetrainingState.FAILED, str(error)
    with task.transaction() as session:
        retraining.end(session, claimed, state, said)


def device_name(container: Container) -> str:
    """What is trained on, one at a time: this machine's GPUs that may be seen, or its CPU."""
    if container.profile.device == "cpu":
        return f"{socket.gethostname()}/cpu"
    return f"{socket.gethostname()}/cuda:{os.environ.get('CUDA_VISIBLE_DEVICES', 'all')}"


def _home(container: Container) -> Path:
    settings = container.settings
    scratch = settings.worker.scratch_dir or Path(tempfile.gettempdir())
    return settings.retraining.dir or scratch / "premask-retraining"


def _remove_ended(container: Container, home: Path) -> None:
    """The folders of retrainings that ended while nobody here looked: cancelled, or finished elsewhere."""
    with container.transaction() as session:
        is_open = rows.open_ids(session)
    for folder in home.glob("*") if home.exists() else ():
        if folder.name.isdecimal() and int(folder.name) not in is_open:
            shutil.rmtree(folder, ignore_errors=True)


@app.task(name=outbox.NOTIFY_TASK, bind=True)  # type: ignore[untyped-decorator]
def notify(self: PremaskTask, notice_id: int) -> None:
    container = self.container
    notices.send(container.sessions, container.notifier, notice_id, container.settings.retraining)
