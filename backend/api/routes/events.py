"""The webhooks of the storage and of the labeling tool."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, SecretStr

from backend.api.deps import TheContainer, bears, raw_body
from backend.api.errors import Unauthorized
from backend.db.session import session_scope
from backend.domain.errors import ObjectGone
from backend.ports.storage import ObjectVersion
from backend.services import outbox
from backend.services.ingest import ingest, reason_to_ignore
from integrations.label_studio.webhooks import parse_webhook
from integrations.s3.events import ObjectEvent, parse_event
from integrations.s3.store import S3ObjectStore

router = APIRouter(tags=["events"])


class EventsTaken(BaseModel):
    """How many objects the body told of, and how many of them were new videos."""

    objects: int
    created: int


MAX_BODY_BYTES = 4 << 20


async def event_body(request: Request) -> bytes:
    return await raw_body(request, MAX_BODY_BYTES, "an event")


RawBody = Annotated[bytes, Depends(event_body)]


def _require(request: Request, token: SecretStr | None, what: str) -> None:
    """Raises `Unauthorized` where the request lacks the token, and where none is configured: the endpoint is off."""
    if token is None or not bears(request, token):
        raise Unauthorized(f"{what}, as `Authorization: Bearer …`")


@router.post("/events/s3")
def take_events(request: Request, container: TheContainer, body: RawBody) -> EventsTaken:
    """S3 `Records`, EventBridge, an SNS notification or SeaweedFS. Repeats, test events and deletions are fine."""
    _require(request, container.settings.ingest.webhook_token, "storage events need the webhook token")
    settings = container.settings.ingest
    events = [event for event in parse_event(body) if reason_to_ignore(event.key, settings) is None]
    versions = [version for event in events if (version := _version(container.store, event)) is not None]
    with container.transaction() as session:
        results = [ingest(session, version, settings, container.run_spec) for version in versions]
    return EventsTaken(objects=len(events), created=sum(result.created for result in results))


class ChangesTaken(BaseModel):
    """How many tasks will be read."""

    tasks: int


@router.post("/events/label-studio")
def take_changes(request: Request, container: TheContainer, body: RawBody) -> ChangesTaken:
    """Label Studio's webhook: a hint which tasks changed. It is answered at once, and they are read later.

    The body holds tokens and is never logged.
    """
    token = container.settings.label_studio.webhook_token
    _require(request, token, "changes need the labeling tool's webhook token")
    hint = parse_webhook(body)
    # Not sent at once, as other messages are: a labeler's request waits for this answer, and the next relay is a second
    # away.
    with session_scope(container.sessions) as session:
        outbox.dispatch_changes(session, hint.project_id, hint.task_ids)
    return ChangesTaken(tasks=len(hint.task_ids))


def _version(store: S3ObjectStore, event: ObjectEvent) -> ObjectVersion | None:
    """Which version is meant; the present one where the event doesn't say. None: it is gone again."""
    if event.version is not None and event.etag is not None and event.size_bytes is not None:
        return ObjectVersion(event.bucket, event.key, event.version, event.etag, event.size_bytes)
    try:
        return store.head(event.bucket, event.key)
    except ObjectGone:
        return None
