"""Ends the processes of a launcher that was killed. Run as a script of its own: standard library, no imports of ours.

The launcher writes `+PGID` and `-PGID` lines to its standard input. End of file while groups are listed means that the
launcher is gone: the leaders are asked to stop, and after a moment what is left of the groups gets SIGKILL. This
reaches what Linux' death signal doesn't: children of the leaders, a Celery pool process in the middle of a job.
"""

import os
import signal
import sys
import time
from collections.abc import Callable

PATIENCE_S = 5.0


def send(how: Callable[[int, int], None], target: int, number: int) -> bool:
    """Whether there was anybody to send it to."""
    try:
        how(target, number)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        send(os.kill, group, signal.SIGINT)  # Postgres' fast shutdown, and an orderly one to all the others
    deadline = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else PATIENCE_S)
    while (left := [group for group in groups if send(os.killpg, group, 0)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in left:
        send(os.killpg, group, signal.SIGKILL)


if __name__ == "__main__":
    main()
