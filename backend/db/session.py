"""Engine, session factory, and the one place that commits.

Services flush, never commit: `session_scope` is the boundary of a request or of one step of a task.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session, sessionmaker

from backend.settings import DatabaseSettings

SessionFactory = sessionmaker[Session]


def make_engine(settings: DatabaseSettings) -> Engine:
    """An engine of this process. Children of a fork need one of their own (`Container.after_fork`)."""
    return create_engine(
        settings.url.get_secret_value(),
        pool_size=settings.pool_size,
        # A database that was restarted leaves dead connections in the pool.
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "application_name": "premask"},
    )


def make_session_factory(engine: Engine) -> SessionFactory:
    # Rows are handed out after the commit (API answers, task inputs); loading them again would need a new session.
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def try_lock(engine: Engine, key: int) -> Iterator[bool]:
    """Whether this process alone holds that lock meanwhile; it goes with the connection, so a dead holder has none."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        held = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}))
        try:
            yield held
        finally:
            if held:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})


@contextmanager
def session_scope(factory: SessionFactory) -> Iterator[Session]:
    """A session whose work is committed at the end, or undone whole if anything is raised."""
    with factory.begin() as session:
        yield session
