"""What is handed on: jobs to workers, notices to people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class JobQueue(Protocol):
    def send(self, task: str, queue: str, payload: Mapping[str, Any]) -> None:
        """Hand one message to the broker. Raises `ServiceUnavailable` when it can't be reached."""

    def depth(self, queue: str) -> int:
        """Messages that wait in the queue, those in a worker's hands not counted. Raises `ServiceUnavailable`."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people asked to be told. `body`: the same for programs, JSON's types."""

    title: str
    text: str
    body: Mapping[str, Any]


class Notifier(Protocol):
    def send(self, address: str, notice: Notice) -> None:
        """`address`: `https://…`, `http://…` or `mailto:…`. Raises `ServiceUnavailable` where it may succeed later,
        `BadInput` where it won't, `Misconfigured` where no mail can be sent from here."""
