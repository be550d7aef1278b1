"""Literal bodies of storage events, as the stores send them, and the objects they tell of."""

import json
from typing import Any

import pytest

from backend.domain.errors import InvalidEvent
from backend.services.ingest import reason_to_ignore
from backend.settings import IngestSettings
from integrations.s3.events import ObjectEvent, parse_event


def _record(key: str, name: str = "ObjectCreated:Put", **item: Any) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventName": name,
        "s3": {"bucket": {"name": "b", "arn": "arn:aws:s3:::b"}, "object": {"key": key, **item}},
    }


def _eventbridge(key: str, kind: str = "Object Created", **item: Any) -> dict[str, Any]:
    detail = {"version": "0", "bucket": {"name": "b"}, "object": {"key": key, **item}, "reason": "PutObject"}
    return {"version": "0", "detail-type": kind, "source": "aws.s3", "detail": detail}


def _seaweedfs(path: str, entry: dict[str, Any] | None, **message: Any) -> dict[str, Any]:
    said = {"new_parent_path": path.rpartition("/")[0], **message}
    return {"event_type": "create", "key": path, "message": said if entry is None else {"new_entry": entry, **said}}


CASES: list[tuple[str, dict[str, Any], list[ObjectEvent]]] = [
    (
        "keys in S3 records are form-encoded",
        {"Records": [_record("a+dir/clip%2B%C3%BC.mp4", eTag="e1", size=5)]},
        [ObjectEvent("b", "a dir/clip+ü.mp4", "e1", "e1", 5)],
    ),
    (
        "a version id is the version",
        {"Records": [_record("a.mp4", "s3:ObjectCreated:CompleteMultipartUpload", eTag="e1", versionId="v1", size=5)]},
        [ObjectEvent("b", "a.mp4", "v1", "e1", 5)],
    ),
    (
        "S3's null version is no version",
        {"Records": [_record("a.mp4", eTag="e1", versionId="null", size=5)]},
        [ObjectEvent("b", "a.mp4", "e1", "e1", 5)],
    ),
    (
        "deletions are left out, the rest of the batch is not",
        {"Records": [_record("a.mp4", "ObjectRemoved:Delete"), _record("b.mp4", eTag="e", size=1)]},
        [ObjectEvent("b", "b.mp4", "e", "e", 1)],
    ),
    ("without an etag the object must be looked at", {"Records": [_record("a.mp4")]}, [ObjectEvent("b", "a.mp4")]),
    ("the test event of a new notification", {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, []),
    (
        "keys in EventBridge are as they are",
        _eventbridge("a+b c%20.mp4", etag="e1", size=9, **{"version-id": "v9"}),
        [ObjectEvent("b", "a+b c%20.mp4", "v9", "e1", 9)],
    ),
    ("EventBridge tells of other things, too", _eventbridge("a.mp4", "Object Deleted"), []),
    (
        "an SNS envelope",
        {
            "Type": "Notification",
            "MessageId": "1",
            "Message": json.dumps({"Records": [_record("x.mp4", eTag="e", size=1)]}),
        },
        [ObjectEvent("b", "x.mp4", "e", "e", 1)],
    ),
    (
        "SeaweedFS",
        _seaweedfs("/buckets/b/a dir/clip +ü.mp4", {"name": "clip +ü.mp4", "attributes": {"file_size": 5}}),
        [ObjectEvent("b", "a dir/clip +ü.mp4")],
    ),
    ("SeaweedFS' folders", _seaweedfs("/buckets/b/dir", {"name": "dir", "is_directory": True}), []),
    ("SeaweedFS' deletions", _seaweedfs("/buckets/b/a.mp4", None), []),
    ("SeaweedFS outside the buckets", _seaweedfs("/etc/s3/circuit.mp4", {"name": "circuit.mp4"}), []),
    (
        "a renamed object has its new name",
        _seaweedfs("/buckets/b/old.mp4", {"name": "new.mp4"}, new_parent_path="/buckets/b/dir"),
        [ObjectEvent("b", "dir/new.mp4")],
    ),
]


@pytest.mark.parametrize(("body", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_known_shapes(body: dict[str, Any], expected: list[ObjectEvent]) -> None:
    assert parse_event(json.dumps(body).encode()) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'"text"',
        b'{"Records": [{}]}',
        b'{"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": 3}, "object": {"key": "a"}}}]}',
        b'{"detail-type": "Object Created", "detail": {}}',
        b'{"Type": "Notification", "Message": "no json"}',
        json.dumps({"Type": "Notification", "Message": json.dumps({"Type": "Notification", "Message": "{}"})}).encode(),
        b"[" * 100_000,
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        parse_event(body)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("in/a.mp4", True),
        ("IN/A.MP4", True),
        ("in/вид 🎬 +%.mov", True),
        ("in/", False),
        ("in/a.txt", False),
        ("in/a.mp4/", False),
        (".uploads/0001_x.part", False),
        ("dir/.uploads/clip.mp4", False),
        ("in/a\0.mp4", False),
        ("in/\ud800.mp4", False),
        ("ü" * 511 + ".mp4", False),
        ("", False),
    ],
)
def test_which_names_are_videos(key: str, wanted: bool) -> None:
    assert (reason_to_ignore(key, IngestSettings()) is None) == wanted
