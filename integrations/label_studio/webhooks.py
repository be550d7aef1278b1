"""Label Studio's webhook to our API: one a project, with a secret, repaired where it drifted; and what it tells.

It is a hint which tasks of which project changed. Nothing else of its body is used: it has no signature, is never sent
again, and holds the project's token.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from backend.domain.errors import InvalidEvent, Misconfigured
from integrations.label_studio.failures import translated

#: What changes a review, and nothing else. A deleted task is told of as such alone.
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_DELETED")


def ensure_webhook(client: Any, project_id: int, url: str, token: SecretStr) -> None:
    """Have the project's changes told to `url`; doubles of ours are removed, others' webhooks are left alone.

    Raises `Misconfigured` where Label Studio refuses the address: a private one has to be allowed by its server's
    environment.
    """
    wanted: dict[str, Any] = {
        "url": url,
        "headers": {"Authorization": f"Bearer {token.get_secret_value()}"},
        "is_active": True,
        # It is all or nothing: without the payload it wouldn't say which task.
        "send_payload": True,
        "send_for_all_actions": False,
        "actions": list(ACTIONS),
    }
    with translated(f"looking at the webhooks of its project {project_id}"):
        ours = [hook for hook in client.webhooks.list(project=str(project_id)) if _is_ours(hook.url, url)]
    try:
        with translated(f"making the webhook of its project {project_id}"):
            if not ours:
                client.webhooks.create(project=project_id, **wanted)
            elif any(getattr(ours[0], name, None) != value for name, value in wanted.items()):
                client.webhooks.update(int(ours[0].id), **wanted)
            for double in ours[1:]:
                client.webhooks.delete(int(double.id))
    except Misconfigured as error:
        # It took the key for reading them a moment ago; this 403 is about the address.
        raise Misconfigured(
            f"Label Studio refuses the webhook's address {url}: a private one has to be allowed in the environment of "
            "its server (USE_DEFAULT_BANNED_SUBNETS, USER_ADDITIONAL_BANNED_SUBNETS)"
        ) from error


def has_webhook(client: Any, project_id: int, url: str) -> bool:
    """Whether the project tells `url` of its changes."""
    with translated(f"looking at the webhooks of its project {project_id}"):
        return any(_is_ours(hook.url, url) for hook in client.webhooks.list(project=str(project_id)))


def _is_ours(known: str, url: str) -> bool:
    """By the path: our API may have moved to another address."""
    return urlsplit(known)[2:] == urlsplit(url)[2:]


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
