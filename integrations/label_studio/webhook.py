"""Label Studio's webhook as a hint: which tasks of which project changed.

Nothing else of the body is used. It has no signature, is never sent again, and holds the project's token.
"""

import json
from dataclasses import dataclass
from typing import Any

from backend.domain.errors import InvalidEvent


@dataclass(frozen=True, slots=True)
class Hint:
    """Without `task_ids` it isn't said which: deleted annotations carry no task."""

    project_id: int
    task_ids: tuple[int, ...]


def parse_webhook(body: bytes) -> Hint:
    """Raises `InvalidEvent` for what names no project."""
    try:
        event = json.loads(body)
    except ValueError as error:
        raise InvalidEvent("the body is no JSON") from error
    project = event.get("project") if isinstance(event, dict) else None
    project_id = _id_of(project)
    if project_id is None:
        raise InvalidEvent("the body names no project of Label Studio")
    tasks = event.get("tasks") or [event.get("task")]
    found = [_id_of(task) for task in (tasks if isinstance(tasks, list) else [])]
    return Hint(project_id, tuple(dict.fromkeys(task_id for task_id in found if task_id is not None)))


def _id_of(thing: Any) -> int | None:
    number = thing.get("id") if isinstance(thing, dict) else thing
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**63 else None
