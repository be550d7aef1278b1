"""S3 through boto3: `backend.ports.storage.ObjectStore` for AWS, SeaweedFS and whatever else speaks the protocol.

An object's version is its version id where the bucket keeps versions, its etag where not; events, heads and listings
agree on that, because it is a video's identity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from backend.domain.errors import Misconfigured, NotFound, ObjectGone, ServiceUnavailable
from backend.ports.storage import ObjectVersion
from backend.settings import StorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_GONE = {"404", "NoSuchKey", "NoSuchVersion", "NotFound", "412", "PreconditionFailed", "405", "MethodNotAllowed"}
_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden"}
_CHUNK_BYTES = 1 << 20


def object_version_of(version_id: str | None, etag: str) -> str:
    """The version by which a video is known. S3 says `null` for objects from before a bucket kept versions."""
    return etag if version_id in (None, "", "null") else str(version_id)


def make_client(settings: StorageSettings) -> "S3Client":
    """A boto3 client of that storage. Without keys in the settings, boto3 looks where it always does."""

    def secret(value: Any) -> str | None:
        return None if value is None else value.get_secret_value()

    return boto3.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region,
        aws_access_key_id=secret(settings.access_key_id),
        aws_secret_access_key=secret(settings.secret_access_key),
        config=Config(
            retries={"max_attempts": 3, "mode": "standard"},
            connect_timeout=5,
            read_timeout=60,
            s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
            # Stores other than AWS don't all know the trailing checksums boto3 sends by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class S3ObjectStore:
    def __init__(self, settings: StorageSettings) -> None:
        self._client = make_client(settings)
        self._keeps_versions = cache(self._ask_versioning)

    def head(self, bucket: str, key: str) -> ObjectVersion:
        """Raises `ObjectGone`, `ServiceUnavailable`, `Misconfigured`."""
        with _translated(bucket, key):
            head = self._client.head_object(Bucket=bucket, Key=key)
        etag = head["ETag"].strip('"')
        version = object_version_of(head.get("VersionId"), etag)
        return ObjectVersion(bucket, key, version, etag, head["ContentLength"])

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[ObjectVersion]:
        """Raises `NotFound` if there is no such bucket, `ServiceUnavailable`, `Misconfigured`."""
        with _translated(bucket, prefix):
            if self._keeps_versions(bucket):
                yield from self._list_versions(bucket, prefix, start_after)
            else:
                yield from self._list_objects(bucket, prefix, start_after)

    def _ask_versioning(self, bucket: str) -> bool:
        # A bucket that ever kept versions says Enabled or Suspended, one that never did says nothing.
        return "Status" in self._client.get_bucket_versioning(Bucket=bucket)

    def _list_objects(self, bucket: str, prefix: str, start_after: str | None) -> Iterator[ObjectVersion]:
        after: dict[str, Any] = {} if start_after is None else {"StartAfter": start_after}
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **after)
        for page in pages:
            for item in page.get("Contents", ()):
                etag = item["ETag"].strip('"')
                yield ObjectVersion(bucket, item["Key"], etag, etag, item["Size"])

    def _list_versions(self, bucket: str, prefix: str, start_after: str | None) -> Iterator[ObjectVersion]:
        after: dict[str, Any] = {} if start_after is None else {"KeyMarker": start_after}
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix, **after)
        for page in pages:
            for item in page.get("Versions", ()):
                if item["IsLatest"]:
                    etag = item["ETag"].strip('"')
                    version = object_version_of(item.get("VersionId"), etag)
                    yield ObjectVersion(bucket, item["Key"], version, etag, item["Size"])

    def download(self, version: ObjectVersion, path: Path) -> None:
        """Raises `ObjectGone` if the object is not there, or is another version by now; `ServiceUnavailable`."""
        which: dict[str, Any] = {} if version.version == version.etag else {"VersionId": version.version}
        with _translated(version.bucket, version.key):
            answer = self._client.get_object(
                Bucket=version.bucket, Key=version.key, IfMatch=f'"{version.etag}"', **which
            )
            if answer["ETag"].strip('"') != version.etag:
                # Stores that know no If-Match answer with whatever is there.
                raise _gone(version.bucket, version.key)
            with path.open("wb") as file:
                for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                    file.write(chunk)

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> ObjectVersion:
        """Raises `ServiceUnavailable`, `NotFound` if there is no such bucket, `Misconfigured`."""
        with _translated(bucket, key):
            answer = self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=content_type)
        etag = answer["ETag"].strip('"')
        return ObjectVersion(bucket, key, object_version_of(answer.get("VersionId"), etag), etag, len(body))

    def upload(self, bucket: str, key: str, path: Path, content_type: str) -> ObjectVersion:
        """As `put`, from a file of any size (in parts where it is large)."""
        with _translated(bucket, key):
            self._client.upload_file(str(path), bucket, key, ExtraArgs={"ContentType": content_type})
        return self.head(bucket, key)

    def check(self, bucket: str) -> None:
        """Raises `NotFound`, `ServiceUnavailable` or `Misconfigured` unless the bucket answers."""
        with _translated(bucket, ""):
            try:
                self._client.head_bucket(Bucket=bucket)
            except ClientError as error:
                if error.response["Error"]["Code"] in _GONE:
                    raise NotFound(f"there is no bucket {bucket!r}", code="no_bucket") from error
                raise


@contextmanager
def _translated(bucket: str, key: str) -> Iterator[None]:
    """boto3's errors as ours: gone, refused, or out for now; a request S3 calls wrong passes through."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            raise NotFound(f"there is no bucket {bucket!r}", code="no_bucket") from error
        if code in _GONE:
            raise _gone(bucket, key) from error
        if code in _DENIED:
            raise Misconfigured(f"the storage refuses s3://{bucket}/{key} to the access key of the settings") from error
        if status >= 500 or code in ("SlowDown", "RequestTimeout"):
            raise ServiceUnavailable(f"the storage answers {code}: {error}") from error
        raise
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise Misconfigured(
            "no access key for the storage: set storage.access_key_id or use boto3's own ways"
        ) from error
    except (HTTPClientError, ConnectionError, IncompleteReadError, S3UploadFailedError) as error:
        # boto3 has tried again by itself; a body that breaks off it can't resume.
        raise ServiceUnavailable(f"the storage can't be reached: {error}") from error


def _gone(bucket: str, key: str) -> ObjectGone:
    return ObjectGone(f"s3://{bucket}/{key} was deleted or replaced before it was read")
