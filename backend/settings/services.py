"""What lies around the pipeline: database, broker, object storage, Label Studio, the API, logs, the embedded stack."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from backend.settings.group import Group


class DatabaseSettings(Group):
    url: SecretStr = SecretStr("postgresql+psycopg://premask@127.0.0.1:5432/premask")
    pool_size: int = Field(5, ge=1)


class BrokerSettings(Group):
    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    #: Longer than any job: an expired visibility timeout runs a task twice. Lost workers are found by lease instead.
    visibility_timeout_s: int = Field(86_400, ge=60)


class StorageSettings(Group):
    #: None: AWS itself.
    endpoint_url: str | None = None
    #: The endpoint as the labelers' browsers reach it; the same as `endpoint_url` when None.
    public_endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    #: Where keyframe images and other things we make are put, under `artifact_prefix`.
    artifact_bucket: str = "premask"
    artifact_prefix: str = "artifacts/"
    presign_ttl_s: int = Field(43_200, ge=60, description="12 hours: longer than a working day at the labeling desk")


class IngestSettings(Group):
    #: The secret a storage webhook must carry as `Authorization: Bearer …`; None switches the endpoint off.
    webhook_token: SecretStr | None = None
    reconcile_interval_s: float = Field(30.0, gt=0, description="how often the listing looks for what no event told")
    video_suffixes: tuple[str, ...] = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


class LabelStudioSettings(Group):
    #: None: nothing is published.
    url: str | None = None
    api_key: SecretStr | None = None
    track_iou_floor: float = Field(
        0.9, gt=0, le=1, description="interpolated boxes keep at least this IoU with the dense ones"
    )
    timeout_s: float = Field(60.0, gt=0)
    #: Our API's `/api/v1/events/label-studio` as Label Studio reaches it, and the secret its webhook must carry as
    #: `Authorization: Bearer …`. Without them the endpoint is off and no webhook made: the polling alone brings
    #: reviews.
    webhook_url: str | None = None
    webhook_token: SecretStr | None = None
    #: Our API's `/interactive` as Label Studio reaches it, and the password that it gives there (basic auth, user
    #: `premask`). Without them there are no masks on demand.
    ml_backend_url: str | None = None
    ml_backend_secret: SecretStr | None = None
    #: With a secret, annotators are kept as pseudonyms made with it, never as their numbers; keep it, or they change.
    annotator_secret: SecretStr | None = None
    poll_interval_s: float = Field(30.0, gt=0, description="how often it is asked what people changed")
    rendition_max_side_px: int = Field(
        1920, ge=16, description="videos that are written anew for the browser are at most so wide and so high"
    )
    #: So often the server may refuse or fail at a publication (being away doesn't count); then it is `failed`.
    max_attempts: int = Field(20, ge=1)


class ApiSettings(Group):
    host: str = "127.0.0.1"
    port: int = 8000
    #: Clients send it as `Authorization: Bearer …`; None: no key is asked (loopback only).
    api_key: SecretStr | None = None


class LogSettings(Group):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    json_lines: bool = Field(False, description="one JSON object a line, with the run's id")


class LocalSettings(Group):
    """The embedded stack of `premask up` and `premask demo`."""

    state_dir: Path = Path(".premask")
    label_studio_venv: Path = Path(".venv-label-studio")
