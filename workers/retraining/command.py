"""Our own commands as processes of their own: what they take of memory and GPU is free when they end, however."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from integrations.local.service import die_with_parent

#: It may save what it has, then it is killed.
_PATIENCE_S = 20.0


def run(
    arguments: Sequence[str], log: Path, output: Path, watch: Callable[[], None], *, launch: Sequence[str] = (),
    every_s: float = 1.0,
) -> int:  # fmt: skip
    """`premask <arguments>`, put behind `launch`, until it ends; its status.

    Its words go to `log`, what it prints to `output`. `watch` is called every so often; what it raises ends the
    command. Call it from a process's main thread: the command dies with the thread that started it.
    """
    beginning = [_found(launch[0]), *launch[1:]] if launch else [sys.executable]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("ab") as words, output.open("wb") as printed:
        process = subprocess.Popen(
            [*beginning, "-m", "backend.cli.main", *arguments], stdin=subprocess.DEVNULL, stdout=printed, stderr=words,
            start_new_session=True, preexec_fn=die_with_parent(signal.SIGTERM), env=environment,
        )  # fmt: skip
        try:
            while True:
                try:
                    return process.wait(timeout=every_s)
                except subprocess.TimeoutExpired:
                    watch()
        finally:
            _end(process)


def _found(name: str) -> str:
    """Of this environment, if it has it."""
    here = Path(sys.executable).parent / name
    return str(here) if here.is_file() else name


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole group, also what it started and left."""
    for number, patience_s in ((signal.SIGTERM, _PATIENCE_S), (signal.SIGKILL, None)):
        if process.poll() is not None and number == signal.SIGTERM:
            continue
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            continue


def last_words(log: Path, characters: int = 400) -> str:
    """The end of what a command said, for a person."""
    said = log.read_text(errors="replace").strip() if log.exists() else ""
    return said[-characters:] if said else "it said nothing"
