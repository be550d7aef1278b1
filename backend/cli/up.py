"""`premask up`: the whole stack on this machine, in the foreground, until Ctrl-C."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from backend.settings import Settings
from integrations.local.session import Interrupted, run
from integrations.local.stack import Stack

app = typer.Typer()


@app.command()
def up(
    state_dir: Annotated[Path | None, typer.Option(help="Where data, logs and secrets are kept (.premask).")] = None,
    label_studio: Annotated[bool, typer.Option(help="Also start Label Studio.")] = True,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Only the addresses and trouble; the rest is in the logs.")
    ] = False,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C."""
    settings = Settings().local
    stack = Stack(
        state_dir or settings.state_dir,
        quiet=quiet,
        with_label_studio=label_studio,
        label_studio_venv=settings.label_studio_venv,
    )
    try:
        raise SystemExit(asyncio.run(run(stack, _until_interrupted)))
    except Interrupted:
        # Stopping is what Ctrl-C is for here: not a failure.
        raise SystemExit(0) from None


async def _until_interrupted(stack: Stack) -> int:
    print(_greeting(stack), flush=True)
    await asyncio.Event().wait()
    return os.EX_OK


def _greeting(stack: Stack) -> str:
    phases = ", ".join(
        f"{name} {stack.seconds[name]:.1f}"
        for name in ("base", "migrate", "app", "label-studio")
        if name in stack.seconds
    )
    lines = [
        f"Everything is ready after {stack.seconds['total']:.1f} s ({phases}).",
        f"  API           {stack.urls['api']}",
    ]
    if "label_studio" in stack.urls:
        login = f"{stack.login['username']} / {stack.login['password']}"
        lines.append(f"  Label Studio  {stack.urls['label_studio']}  ({login})")
    lines += [
        f"  S3            {stack.urls['s3']}  (bucket {stack.environment['PREMASK__STORAGE__ARTIFACT_BUCKET']})",
        f"  Logs          {stack.state.logs}",
        "Ctrl-C stops everything. In another terminal here, `premask` commands find this stack by themselves.",
    ]
    return "\n".join(lines)
