"""Runs something on a stack until it ends, somebody interrupts, or a base service crashes; then stops the stack.

The first Ctrl-C stops everything in order, the second doesn't wait.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable

from integrations.local.stack import Stack

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody pressed Ctrl-C (or sent SIGTERM, or closed the terminal) while the stack started or worked."""


async def run(stack: Stack, work: Callable[[Stack], Awaitable[int]]) -> int:
    """`work`'s exit code. Raises `Interrupted`, or `ServiceUnavailable` when the stack breaks; nothing is left."""
    interrupted = asyncio.Event()
    _listen(stack, interrupted)
    whole = asyncio.create_task(_start_and_work(stack, work))
    asked = asyncio.create_task(interrupted.wait())
    try:
        await asyncio.wait({whole, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not whole.done():
            stack.console.line("premask", "stopping (Ctrl-C again: at once)")
            raise Interrupted
        return whole.result()
    finally:
        for task in (whole, asked):
            task.cancel()
        await asyncio.gather(whole, asked, return_exceptions=True)
        await stack.stop()
        stack.console.good("premask", f"stopped after {stack.seconds.get('stop', 0.0):.1f} s")


async def _start_and_work(stack: Stack, work: Callable[[Stack], Awaitable[int]]) -> int:
    await stack.start()
    working = asyncio.ensure_future(work(stack))
    broken = asyncio.create_task(stack.failed())
    try:
        await asyncio.wait({working, broken}, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise broken.result()
        return working.result()
    finally:
        for task in (working, broken):
            task.cancel()
        await asyncio.gather(working, broken, return_exceptions=True)


def _listen(stack: Stack, interrupted: asyncio.Event) -> None:
    def on_signal() -> None:
        if interrupted.is_set():
            stack.kill()
        interrupted.set()

    loop = asyncio.get_running_loop()
    for number in INTERRUPTS:
        loop.add_signal_handler(number, on_signal)
