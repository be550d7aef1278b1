"""The one base task: log context, the process's container, and what becomes of errors that are nobody's fault."""

import logging
from contextlib import AbstractContextManager
from typing import Any

from celery import Task
from sqlalchemy.orm import Session

from backend.bootstrap import Container
from backend.domain.errors import FenceLost, ServiceUnavailable
from backend.logs import log_context
from workers import process

log = logging.getLogger(__name__)


class PremaskTask(Task):  # type: ignore[misc]
    """Tasks take ids, re-load, ask "already done?", and act; a message may come twice, late or never.

    A task that must not be forgotten writes its own later message (see `services.outbox`); what is raised here ends the
    message. Errors of other kinds are logged by Celery with their traceback.
    """

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with log_context(**kwargs):
            try:
                return super().__call__(*args, **kwargs)
            except FenceLost as error:
                log.warning("dropped: %s", error)
            except ServiceUnavailable as error:
                log.warning("%s put off: %s", self.name, error)
        return None

    @property
    def container(self) -> Container:
        return process.container()

    def transaction(self) -> AbstractContextManager[Session]:
        """Commits at the end, then sends what was written to the outbox."""
        return self.container.transaction()
