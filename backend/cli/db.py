"""`premask db`: the schema."""

import typer

from backend.bootstrap import bootstrap
from backend.db import migrate

app = typer.Typer(no_args_is_help=True, help="The database's schema.")


@app.command()
def upgrade() -> None:
    """Bring the database to the newest schema."""
    migrate.upgrade(bootstrap().engine)
    typer.echo("The schema is up to date.")


@app.command()
def check() -> None:
    """Say whether the database has the schema this version needs."""
    migrate.check(bootstrap().engine)
    typer.echo("The schema is the one this version needs.")
