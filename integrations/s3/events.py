"""What storage tells of a new object, in four shapes: S3 records, EventBridge, an SNS envelope, SeaweedFS.

An event is a hint: it names an object, and only sometimes which version. Deletions and everything that is not a put are
left out; which names are videos, ingest decides.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from backend.domain.errors import InvalidEvent
from integrations.s3.store import object_version_of

_SEAWEED_BUCKETS = "/buckets/"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An object that is said to be new. `etag` is None where the event doesn't tell, or not as S3 would."""

    bucket: str
    key: str
    version: str | None = None
    etag: str | None = None
    size_bytes: int | None = None


def parse_event(body: bytes) -> list[ObjectEvent]:
    """The new objects a body tells of; none for test events and deletions. Raises `InvalidEvent`."""
    try:
        event = json.loads(body)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEvent(f"the event is not JSON: {error}") from error
    return _parse(event, nested=False)


def _parse(event: Any, nested: bool) -> list[ObjectEvent]:
    match event:
        case {"Event": "s3:TestEvent"}:
            return []
        case {"Records": list(records)}:
            return [found for record in records if (found := _s3_record(record)) is not None]
        case {"detail-type": str(kind), "detail": dict(detail)}:
            return _eventbridge(kind, detail)
        case {"Type": "Notification", "Message": str(message)} if not nested:
            try:
                return _parse(json.loads(message), nested=True)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InvalidEvent(f"the SNS message is not JSON: {error}") from error
        case {"key": str(path), "message": dict(message)}:
            return _seaweedfs(path, message)
    raise InvalidEvent("no storage event we know: neither S3 records, EventBridge, an SNS notification nor SeaweedFS")


def _s3_record(record: Any) -> ObjectEvent | None:
    """AWS, MinIO and Ceph. Keys are form-encoded."""
    match record:
        case {
            "eventName": str(name),
            "s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}},
        }:
            if "ObjectCreated:" not in name:
                return None
            return _versioned(bucket, unquote_plus(key), item.get("versionId"), item.get("eTag"), item.get("size"))
    raise InvalidEvent("an S3 record without eventName, s3.bucket.name or s3.object.key")


def _eventbridge(kind: str, detail: Mapping[str, Any]) -> list[ObjectEvent]:
    """Keys are as they are."""
    if kind != "Object Created":
        return []
    match detail:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **item}}:
            return [_versioned(bucket, key, item.get("version-id"), item.get("etag"), item.get("size"))]
    raise InvalidEvent("an EventBridge event without detail.bucket.name or detail.object.key")


def _seaweedfs(path: str, message: Mapping[str, Any]) -> list[ObjectEvent]:
    """The filer's: fires also for folders, parts of uploads and changed attributes, and knows no S3 etag."""
    entry = message.get("new_entry")
    if not isinstance(entry, Mapping) or entry.get("is_directory") or not path.startswith(_SEAWEED_BUCKETS):
        return []
    if isinstance(message.get("new_parent_path"), str) and isinstance(entry.get("name"), str):
        # After a rename `key` is still the old path.
        path = f"{message['new_parent_path']}/{entry['name']}"
    bucket, _, key = path.removeprefix(_SEAWEED_BUCKETS).partition("/")
    return [ObjectEvent(bucket, key)] if bucket and key else []


def _versioned(bucket: str, key: str, version_id: Any, etag: Any, size: Any) -> ObjectEvent:
    if not isinstance(etag, str) or not etag or not isinstance(size, int):
        return ObjectEvent(bucket, key)
    etag = etag.strip('"')
    return ObjectEvent(bucket, key, object_version_of(version_id, etag), etag, size)
