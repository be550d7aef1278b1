"""Celery over Valkey or Redis: the settings everybody who sends or takes messages shares, and the queue that sends.

Postgres owns the state and a message carries only ids, so there is no result backend and a message may go twice.
"""

from collections.abc import Mapping
from typing import Any, cast

import redis
from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from backend.domain.errors import ServiceUnavailable
from backend.settings import BrokerSettings

QUEUES = ("gpu", "io", "train")


def make_celery(settings: BrokerSettings) -> Celery:
    """A Celery application with the broker's settings, without tasks."""
    app = Celery("premask", broker=settings.url.get_secret_value(), set_as_current=False)
    app.conf.update(
        task_queues=[Queue(name, routing_key=name) for name in QUEUES],  # type: ignore[no-untyped-call]
        task_default_queue="io",
        task_default_routing_key="io",
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        # Not `worker_cancel_long_running_tasks_on_connection_loss`: a task so revoked is never run again.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout_s,
            "socket_connect_timeout": 3,
            "socket_timeout": 10,
            "socket_keepalive": True,
        },
        # The outbox keeps what can't be sent; waiting here would hold its rows locked.
        task_publish_retry=False,
        enable_utc=True,
        timezone="UTC",
    )
    return app


class CeleryQueue:
    """`backend.ports.messages.JobQueue`: a Celery application that only sends, and says at once when it can't."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._app = make_celery(settings)
        # By itself kombu waits six seconds for a broker that is away. What can't be sent stays in the outbox; the one
        # retry is for a pooled connection that a restarted broker has dropped.
        self._app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0, "interval_step": 0}

    def send(self, task: str, queue: str, payload: Mapping[str, Any]) -> None:
        try:
            self._app.send_task(task, kwargs=dict(payload), queue=queue, routing_key=queue, ignore_result=True)
        except (OperationalError, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise ServiceUnavailable(f"the broker can't be reached: {error}") from error

    def depth(self, queue: str) -> int:
        try:
            with self._app.connection_for_write() as connection:
                client = cast(redis.Redis, connection.default_channel.client)
                return int(client.llen(queue))
        except (OperationalError, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError) as error:
            raise ServiceUnavailable(f"the broker can't be reached: {error}") from error
