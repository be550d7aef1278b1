"""Label Studio's access to our buckets: an S3 storage per bucket that presigns, never syncs; and CORS on the bucket.

The browser is sent to the object store itself, with a URL that outlives a working day.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.settings import StorageSettings
from integrations.label_studio.failures import translated

#: Label Studio keeps the minutes in a small integer.
_MAX_TTL_MINUTES = 32_767
_READS = {"GET", "HEAD"}


def ensure_storages(client: Any, project_id: int, buckets: Iterable[str], settings: StorageSettings) -> None:
    """One S3 storage for each bucket, with today's credentials.

    Raises `Misconfigured` when Label Studio can't reach the object store.
    """
    with translated("listing its storages"):
        known = {storage.bucket: storage for storage in client.import_storage.s3.list(project=project_id)}
    for bucket in dict.fromkeys(buckets):
        wanted = _storage(bucket, settings)
        try:
            with translated(f"giving it access to the bucket {bucket}"):
                if bucket in known:
                    client.import_storage.s3.update(int(known[bucket].id), project=project_id, **wanted)
                else:
                    client.import_storage.s3.create(project=project_id, **wanted)
        except BadInput as error:
            raise Misconfigured(
                f"{error}. Label Studio must reach the storage: a private address has to stand in the environment "
                "variable S3_ENDPOINT of its server"
            ) from error


def missing_storages(client: Any, project_id: int, buckets: Iterable[str]) -> list[str]:
    """Those of the buckets that the project has no storage for."""
    with translated("listing its storages"):
        known = {storage.bucket for storage in client.import_storage.s3.list(project=project_id)}
    return [bucket for bucket in dict.fromkeys(buckets) if bucket not in known]


def _storage(bucket: str, settings: StorageSettings) -> dict[str, Any]:
    fields: dict[str, Any] = {
        **_credentials(settings),
        "title": f"Premask: {bucket}",
        "bucket": bucket,
        "presign": True,
        "presign_ttl": min(max(1, settings.presign_ttl_s // 60), _MAX_TTL_MINUTES),
        "use_blob_urls": True,
        "region_name": settings.region,
    }
    # The address is signed into the URL that the browser gets, so it has to be the one that browsers reach.
    endpoint = settings.public_endpoint_url or settings.endpoint_url
    if endpoint is not None and not _is_private(endpoint):
        fields["s3endpoint"] = endpoint
    return fields


def _credentials(settings: StorageSettings) -> dict[str, Any]:
    """Empty: those of the environment, here and in Label Studio."""
    if settings.access_key_id is None or settings.secret_access_key is None:
        return {}
    return {
        "aws_access_key_id": settings.access_key_id.get_secret_value(),
        "aws_secret_access_key": settings.secret_access_key.get_secret_value(),
    }


def _is_private(endpoint: str) -> bool:
    """Whether Label Studio would refuse the address from its API; it then takes `S3_ENDPOINT` from its environment."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host


def ensure_cors(bucket: str, origin: str, settings: StorageSettings) -> bool:
    """Allow pages of `origin` to read the bucket's objects; whether a rule had to be added. Rules that are there stay.

    Raises `Misconfigured` where our credentials may not do that, `ServiceUnavailable` where the storage is silent.
    """
    s3: Any = boto3.session.Session().client(
        "s3", endpoint_url=settings.endpoint_url, region_name=settings.region, **_credentials(settings)
    )
    try:
        rules = _cors_rules(s3, bucket)
        if any(_allows(rule, origin) for rule in rules):
            return False
        rule = {
            "AllowedOrigins": [origin],
            "AllowedMethods": sorted(_READS),
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag", "Content-Length", "Content-Range", "Accept-Ranges"],
            "MaxAgeSeconds": 3600,
        }
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [*rules, rule]})
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise Misconfigured(
            f"the bucket {bucket} needs a CORS rule that lets {origin} read it, and we may not set it ({code})"
        ) from error
    except BotoCoreError as error:
        raise ServiceUnavailable(f"the storage does not answer: {error}") from error
    return True


def _cors_rules(s3: Any, bucket: str) -> list[dict[str, Any]]:
    try:
        return list(s3.get_bucket_cors(Bucket=bucket)["CORSRules"])
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") == "NoSuchCORSConfiguration":
            return []
        raise


def _allows(rule: dict[str, Any], origin: str) -> bool:
    return bool({"*", origin} & set(rule["AllowedOrigins"])) and set(rule["AllowedMethods"]) >= {"GET"}
