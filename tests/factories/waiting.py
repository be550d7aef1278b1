"""Waiting for what another process does: asked again and again, never slept for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_STEP_S = 0.05


def wait_for(look: Callable[[], T | None], what: str, timeout_s: float = 60.0) -> T:
    """The first true value of `look`. Fails with `what`, which wasn't so within the time."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(_STEP_S)
    return value
