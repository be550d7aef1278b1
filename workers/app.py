"""The Celery application of the workers: tasks, schedule, and what happens when a worker process starts.

The main process only watches over its children and writes signs of life; models, CUDA and the tasks' database
connections are a child's own.
"""

import logging
import threading
from typing import Any

from celery import signals

from backend.logs import configure_logging
from backend.services import outbox
from backend.settings import get_settings
from integrations.broker.celery import make_celery
from workers import models, process
from workers.task import PremaskTask

log = logging.getLogger(__name__)
settings = get_settings()

_TASKS = ("videos", "renditions", "runs", "reviews", "corrected", "retraining", "maintenance")

app = make_celery(settings.broker)
app.set_default()
app.Task = PremaskTask
app.conf.update(
    include=[f"workers.tasks.{module}" for module in _TASKS],
    beat_schedule={
        name: {
            "task": f"maintenance.{name}",
            "schedule": interval_s,
            # A worker that was away must not find a heap of them.
            "options": {"queue": outbox.IO_QUEUE, "routing_key": outbox.IO_QUEUE, "expires": 3 * max(interval_s, 1.0)},
        }
        for name, interval_s in {
            "relay": settings.worker.relay_interval_s,
            "reap": settings.worker.reap_interval_s,
            "reconcile": settings.ingest.reconcile_interval_s,
            "poll_reviews": settings.label_studio.poll_interval_s,
            "open_retrainings": settings.retraining.look_interval_s,
            "prune": 3600.0,
        }.items()
    },
)

#: Filled in the main process before it forks, so that children know what they are for.
_queues: list[str] = []
_signs: list[process.Ticker] = []


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logging(**_: Any) -> None:
    configure_logging(settings.log)


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def _remember_queues(instance: Any, **_: Any) -> None:
    _queues[:] = sorted(instance.app.amqp.queues.consume_from)
    process.remove_left_scratch(settings.worker)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def _preload_models(**_: Any) -> None:
    """Begin loading in a child of a GPU worker, beside Celery's own start; a run that comes earlier waits for it.

    What fails here fails again, and is reported, in the run that needs it.
    """
    if outbox.GPU_QUEUE in _queues:
        threading.Thread(
            target=models.preload, args=(process.container(),), name="premask-preload", daemon=True
        ).start()


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def _begin_signs_of_life(sender: Any, **_: Any) -> None:
    signs = process.signs_of_life(sender.hostname, _queues)
    _signs.append(signs)
    signs.start()


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator]
def _end_signs_of_life(sender: Any, **_: Any) -> None:
    while _signs:
        _signs.pop().stop()
        process.forget_signs(sender.hostname)
