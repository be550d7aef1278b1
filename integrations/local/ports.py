"""Free loopback ports, reserved among the stacks of this machine from the choice to the end.

A service binds its port seconds after it was chosen; without the reservation two stacks starting together would choose
the same one, and the later would talk to the other's service.
"""

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Reservation:
    """Holds until `release`, or until the process ends."""

    port: int
    _file: BinaryIO

    def release(self) -> None:
        self._file.close()


def is_free(port: int) -> bool:
    """Whether this port can be bound now (SO_REUSEADDR: a port in TIME_WAIT is free)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def reserve(preferred: Iterable[int], taken: Iterable[int] = ()) -> Reservation:
    """The first of the preferred ports that is free, unreserved and not in `taken`, else one the system gives."""
    refused = set(taken)
    for port in itertools.chain(preferred, _system_ports()):
        if port not in refused and (reservation := _try(port)) is not None:
            return reservation
    raise AssertionError("the system's ports are endless")


def _system_ports() -> Iterator[int]:
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        yield port


def _try(port: int) -> Reservation | None:
    folder = Path(tempfile.gettempdir()) / "premask-ports"
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)  # every user's stacks
    descriptor = os.open(folder / str(port), os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    file = os.fdopen(descriptor, "rb")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    if not is_free(port):
        file.close()
        return None
    return Reservation(port, file)
