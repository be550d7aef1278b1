"""Migrations and tables say the same, and `check` notices when they don't."""

import pytest
from sqlalchemy import CheckConstraint, inspect, text

from backend.bootstrap import Container
from backend.db import migrate
from backend.db.tables import Base
from backend.domain.errors import Misconfigured

pytestmark = pytest.mark.stack


def test_migrations_and_tables_agree(container: Container) -> None:
    migrate.check(container.engine)
    assert set(Base.metadata.tables) <= set(inspect(container.engine).get_table_names())


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE runs ADD COLUMN more integer",
        "DROP INDEX ix_runs_lease",
        "ALTER TABLE runs ALTER COLUMN fence DROP DEFAULT",
        "UPDATE alembic_version SET version_num = '0000'",
    ],
)
def test_a_difference_is_noticed(container: Container, change: str) -> None:
    with container.engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(Misconfigured, match="schema"):
        migrate.check(container.engine)


def test_checks_of_the_tables_are_in_the_database(container: Container) -> None:
    """Alembic does not compare CHECK constraints."""
    found = inspect(container.engine)
    for table in Base.metadata.tables.values():
        wanted = {str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)}
        assert wanted == {c["name"] for c in found.get_check_constraints(table.name)}, table.name


def test_upgrade_twice_and_from_nothing(container: Container) -> None:
    migrate.upgrade(container.engine)
    with container.engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    migrate.upgrade(container.engine)
    migrate.check(container.engine)
