"""Ends the processes of a launcher that was killed. Run as a script of its own: standard library, no imports of ours.

The launcher writes `+PGID` and `-PGID` lines to its standard input. End of file while groups are listed means that the
launcher is gone: the groups get a moment (the kernel has sent each leader its death signal), then SIGKILL. This reaches
what the death signal doesn't: children of the leaders, a Celery pool process in the middle of a job.
"""

import os
import signal
import sys
import time

PATIENCE_S = 5.0


def is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    deadline = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else PATIENCE_S)
    while (left := [group for group in groups if is_there(group)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in left:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
