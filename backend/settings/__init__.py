"""All settings, one group a concern: the environment (`PREMASK__GROUP__NAME`) over one TOML file over the defaults.

The TOML file is `premask.toml` in the working directory, or what `PREMASK_CONFIG` names.
"""

import os
from functools import lru_cache
from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from backend.settings.learning import (
    DatasetSettings,
    GateSettings,
    GuardSettings,
    ModelSettings,
    RegistrySettings,
    RetrainingSettings,
    RewardSettings,
    TrainingSettings,
)
from backend.settings.pipeline import (
    FeedbackSettings,
    InteractiveSettings,
    PipelineSettings,
    ReanchoringSettings,
    WorkerSettings,
)
from backend.settings.services import (
    ApiSettings,
    BrokerSettings,
    DatabaseSettings,
    IngestSettings,
    LabelStudioSettings,
    LocalSettings,
    LogSettings,
    StorageSettings,
)

__all__ = [
    "ApiSettings", "BrokerSettings", "DatabaseSettings", "DatasetSettings", "FeedbackSettings", "GateSettings",
    "GuardSettings", "IngestSettings", "InteractiveSettings", "LabelStudioSettings", "LocalSettings",
    "LogSettings", "ModelSettings", "PipelineSettings", "ReanchoringSettings", "RegistrySettings",
    "RetrainingSettings", "RewardSettings", "Settings", "StorageSettings", "TrainingSettings", "WorkerSettings",
    "get_settings",
]  # fmt: skip


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PREMASK__", env_nested_delimiter="__", extra="forbid")

    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    storage: StorageSettings = StorageSettings()
    ingest: IngestSettings = IngestSettings()
    label_studio: LabelStudioSettings = LabelStudioSettings()
    interactive: InteractiveSettings = InteractiveSettings()
    worker: WorkerSettings = WorkerSettings()
    pipeline: PipelineSettings = PipelineSettings()
    reward: RewardSettings = RewardSettings()
    datasets: DatasetSettings = DatasetSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    gate: GateSettings = GateSettings()
    registry: RegistrySettings = RegistrySettings()
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
