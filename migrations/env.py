"""Runs migrations on the connection it is handed, or on the database the settings name (for the `alembic` command)."""

from alembic import context
from sqlalchemy import Connection

from backend.db.session import make_engine
from backend.db.tables import Base
from backend.settings import get_settings


def run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    engine = make_engine(get_settings().database)
    with engine.connect() as own:
        run(own)
    engine.dispose()
