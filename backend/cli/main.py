"""The console script `premask`: one module per command group, imported only when its command is called.

A command beside a running stack (`premask up`, `premask demo`) takes that stack's addresses and keys, unless the
environment names a database.
"""

import importlib
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from backend.domain.errors import PremaskError

#: Command → what it does. The module is `backend.cli.<command>`; it has a `typer.Typer` called `app`.
COMMANDS = {
    "up": "Start everything on this machine: Postgres, Valkey, S3, Label Studio, API, workers.",
    "demo": "Start everything and annotate six sample videos.",
    "annotate": "Annotate one video; no services needed.",
    "projects": "What is watched, and which instructions it is asked.",
    "videos": "The videos that came in.",
    "runs": "List, show, retry, cancel and watch runs.",
    "reviews": "What people changed in the pre-annotations.",
    "datasets": "Freeze what was reviewed; show, check and export data sets.",
    "models": "Model versions: who answers, who may, and who did.",
    "shapeworld": "The proving ground: measure the models on clips with known truth.",
    "retrain": "Learn from what people corrected: by schedule, or now.",
    "rehearse": "The learning loop, nights in a row, with a simulated annotator.",
    "interactive": "Masks on demand, for labelers' clicks in Label Studio.",
    "train": "Retrain System 1 by GRPO, and serve the rewards for it.",
    "db": "The database's schema: upgrade, check.",
    "doctor": "Check this installation and say what is missing.",
}
#: These start a stack, or need none.
STAND_ALONE = {"up", "demo", "rehearse", "annotate", "train", "shapeworld"}


class LazyGroup(TyperGroup):
    """Lists the commands from the table above; importing all of them would load every library for one line of help."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the base class names the arguments)
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 (as above)
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name and command is not None else command, rest


def load(name: str) -> Any:
    command = typer.main.get_command(importlib.import_module(f"backend.cli.{name}").app)
    command.name = name
    return command


app = typer.Typer(
    name="premask", cls=LazyGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def premask(context: typer.Context) -> None:
    """Watches object storage for new videos and has their annotations waiting in Label Studio."""
    # Loading bars of the libraries would stand between the lines that are asked for.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if context.invoked_subcommand not in STAND_ALONE and "PREMASK__DATABASE__URL" not in os.environ:
        _adopt_running_stack()


def _adopt_running_stack() -> None:
    from backend.settings import Settings
    from integrations.local.state import running_environment

    os.environ.update(running_environment(Settings().local.state_dir) or {})


def fail(message: str) -> NoReturn:
    print(f"premask: {message}", file=sys.stderr)
    raise SystemExit(1)


def main() -> None:
    """Deliberate errors end in one sentence on standard error and status 1; others are bugs, with their trace."""
    try:
        app()
    except PremaskError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
