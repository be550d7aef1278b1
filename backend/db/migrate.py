"""Brings a database to the newest schema, and says whether tables and migrations agree."""

import io
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

import migrations
from backend.domain.errors import Misconfigured

#: Two processes that start together migrate one after the other.
_MIGRATION_LOCK = 7_077_001


def _config(connection: Connection) -> Config:
    # Alembic tells its findings on standard output, where a command's JSON belongs; we raise or are silent.
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run the migrations that are missing, in one transaction."""
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        command.upgrade(_config(connection), revision)


def check(engine: Engine) -> None:
    """Raises `Misconfigured` if the database lacks migrations, or the tables say something no migration does."""
    with engine.begin() as connection:
        try:
            command.check(_config(connection))
        except CommandError as error:
            raise Misconfigured(f"the database's schema is not the one this version needs: {error}") from error
