"""All settings, one group a concern: the environment (`PREMASK__GROUP__NAME`) over one TOML file over the defaults.

The TOML file is `premask.toml` in the working directory, or what `PREMASK_CONFIG` names.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid")


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
    #: With a secret, annotators are kept as pseudonyms made with it, never as their numbers; keep it, or they change.
    annotator_secret: SecretStr | None = None
    poll_interval_s: float = Field(30.0, gt=0, description="how often it is asked what people changed")
    #: So often the server may refuse or fail at a publication (being away doesn't count); then it is `failed`.
    max_attempts: int = Field(20, ge=1)


class WorkerSettings(Group):
    lease_s: float = Field(30.0, gt=0, description="a run whose worker is silent this long is given to another")
    max_attempts: int = Field(3, ge=1, description="after so many claims without an end a run is quarantined")
    relay_interval_s: float = Field(1.0, gt=0)
    reap_interval_s: float = Field(5.0, gt=0)
    scratch_dir: Path | None = None
    torch_threads: int | None = Field(None, ge=1, description="None: what the model profile says")


class PipelineSettings(Group):
    seed: int = 0
    keyframes: int = Field(4, ge=1, description="K0 of the method: how many moments are kept")
    link_iou: float = Field(0.5, gt=0, le=1, description="mask IoU from which two keyframes' detections are one thing")
    min_support: float = Field(
        0.5, ge=0, le=1, description="a track is kept if System 2 named it on this share of the keyframes that show it"
    )
    max_duration_s: float = Field(4 * 3600.0, gt=0)
    max_frames: int = Field(500_000, ge=1)
    max_side_px: int = Field(8192, ge=16)
    min_side_px: int = Field(16, ge=1)


class RewardSettings(Group):
    """What an answer of System 1 is worth when it learns (docs/paper_map.md):

    R = format · R_format + keyframes · R_K + boxes · R_A + masks · R_G, with
    R_K = diversity · R_diversity + number · R_num + saliency · R_saliency.

    `boxes` is 0 because the paper's ablation is best with R_K + R_G (appendix, Table 1). `overlap` is the appendix's,
    the numbers of keyframes and what each earns the released code's, `distinct` ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: float = Field(1.0, ge=0)
    keyframes: float = Field(1.0, ge=0)
    boxes: float = Field(0.0, ge=0)
    masks: float = Field(1.0, ge=0)
    diversity: float = Field(1.0, ge=0)
    number: float = Field(1.0, ge=0)
    saliency: float = Field(1.0, ge=0)
    wanted_keyframes: int = Field(4, ge=1, description="K0: so many distinct keyframes are worth most")
    spare_keyframes: int = Field(3, ge=1, description="how many more make their number worth nothing")
    per_keyframe: float = Field(0.4, ge=0)
    overlap: float = Field(-0.2, le=0, description="for each keyframe that is the next one's frame again")
    distinct: float = Field(0.1, ge=0, description="for each other keyframe, up to the wanted number")


class ModelSettings(Group):
    #: A profile's name in `backend/profiles/`, or the path of a TOML file of one's own.
    profile: str = "shapeworld"


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


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PREMASK__", env_nested_delimiter="__", extra="forbid")

    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    storage: StorageSettings = StorageSettings()
    ingest: IngestSettings = IngestSettings()
    label_studio: LabelStudioSettings = LabelStudioSettings()
    worker: WorkerSettings = WorkerSettings()
    pipeline: PipelineSettings = PipelineSettings()
    reward: RewardSettings = RewardSettings()
    model: ModelSettings = ModelSettings()
    api: ApiSettings = ApiSettings()
    log: LogSettings = LogSettings()
    local: LocalSettings = LocalSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the base class names the arguments)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, Path(os.environ.get("PREMASK_CONFIG", "premask.toml")))
        return init_settings, env_settings, toml


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
