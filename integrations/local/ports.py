"""Free loopback ports, chosen once and then kept: yesterday's address is today's, unless somebody took it."""

import socket
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether this port can be bound now (SO_REUSEADDR: a port in TIME_WAIT is free)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(preferred: Iterable[int], taken: Iterable[int] = ()) -> int:
    """The first of the preferred ports that is free and not in `taken`, else one the system gives."""
    refused = set(taken)
    for port in preferred:
        if port not in refused and is_free(port):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
        if port not in refused:
            return port
