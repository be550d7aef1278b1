"""All settings, one group a concern: the environment (`PREMASK__GROUP__NAME`) over one TOML file over the defaults.

The TOML file is `premask.toml` in the working directory, or what `PREMASK_CONFIG` names.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

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


class InteractiveSettings(Group):
    """The process that draws masks on demand (`premask interactive serve`), and how the API asks it."""

    #: As the API reaches it; None: there is none.
    service_url: str | None = None
    #: What it asks for as `Authorization: Bearer …`; without one it listens on loopback only.
    service_token: SecretStr | None = None
    deadline_s: float = Field(5.0, gt=0, description="a click that isn't answered by then gets no suggestion")
    cache_mib: int = Field(512, ge=0, description="encodings of keyframe pages kept in memory; the last one always is")
    torch_threads: int | None = Field(None, ge=1, description="None: what the model profile says")


class WorkerSettings(Group):
    lease_s: float = Field(30.0, gt=0, description="a run whose worker is silent this long is given to another")
    max_attempts: int = Field(3, ge=1, description="after so many claims without an end a run is quarantined")
    relay_interval_s: float = Field(1.0, gt=0)
    reap_interval_s: float = Field(5.0, gt=0)
    scratch_dir: Path | None = None
    scratch_bytes: int = Field(
        4 * 2**30, ge=0, description="room there for a video's frames at the segmenter's size; of a longer one a part"
    )
    feature_cache_bytes: int = Field(
        512 * 2**20, ge=0, description="memory for what SAM2 makes of a video's frames; instructions on it share that"
    )
    chunk_frames: int = Field(
        64, ge=1, description="masks are committed after so many frames of a way; a successor goes on from there"
    )
    torch_threads: int | None = Field(None, ge=1, description="None: what the model profile says")
    resident_models: int = Field(
        1, ge=1, description="model versions kept in memory; with a challenger two save loading"
    )
    weights_dir: Path | None = Field(None, description="where fetched weights are kept; None: beside scratch")
    weights_max_gib: float = Field(100.0, gt=0, description="kept there; those unused for longest go first")


class ReanchoringSettings(Group):
    """Asking System 2 again where a track is in doubt (docs/confidence.md). Ours, not the paper's."""

    frames: int = Field(0, ge=0, description="how many frames of a run may be asked about again; 0: none")
    below: float = Field(0.5, gt=0, le=1, description="of a mask's score: from there on down it is in doubt")
    area_ratio: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="a mask is in doubt, too, if the lesser of it and the one before is less of the other",
    )
    apart_s: float = Field(0.3, ge=0, description="so far from any frame that System 2 was shown")


class FeedbackSettings(Group):
    """Asking System 1 a second time, with what System 2 saw (docs/confidence.md). Ours, not the paper's."""

    rounds: int = Field(0, ge=0, le=1, description="how many more times; 0: never")
    below: float = Field(0.5, gt=0, le=1, description="of the best track's score: from there on down it is asked")


class PipelineSettings(Group):
    seed: int = 0
    reanchoring: ReanchoringSettings = ReanchoringSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    keyframes: int = Field(4, ge=1, description="K0 of the method: how many moments are kept")
    link_iou: float = Field(0.5, gt=0, le=1, description="mask IoU from which two keyframes' detections are one thing")
    min_support: float = Field(
        0.5, ge=0, le=1, description="a track is kept if System 2 named it on this share of the keyframes that show it"
    )
    max_duration_s: float = Field(4 * 3600.0, gt=0)
    max_frames: int = Field(500_000, ge=1)
    max_side_px: int = Field(8192, ge=16)
    min_side_px: int = Field(16, ge=1)

    def configuration(self) -> dict[str, Any]:
        """What a run's identity is made of: JSON values. What is off is left out, as if there were no such setting:
        with another identity every video would be annotated again."""
        configuration = self.model_dump(mode="json")
        if not self.reanchoring.frames:
            del configuration["reanchoring"]
        if not self.feedback.rounds:
            del configuration["feedback"]
        return configuration


class RewardSettings(Group):
    """What an answer of System 1 is worth when it learns (docs/paper_map.md):

    R = format · R_format + keyframes · R_K + boxes · R_A + masks · R_G, with
    R_K = diversity · R_diversity + number · R_num + saliency · R_saliency. Where nothing is to be found no part of it
    is paid, only `absent`, for saying so; the paper has no such answer.

    `boxes` is 0 because the paper's ablation is best with R_K + R_G (appendix, Table 1). `overlap` is the appendix's,
    the numbers of keyframes and what each earns the released code's, `distinct` ours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: float = Field(1.0, ge=0)
    keyframes: float = Field(1.0, ge=0)
    boxes: float = Field(0.0, ge=0)
    masks: float = Field(1.0, ge=0)
    absent: float = Field(0.0, ge=0, description="for a well-formed 'there is none' where there is none")
    diversity: float = Field(1.0, ge=0)
    number: float = Field(1.0, ge=0)
    saliency: float = Field(1.0, ge=0)
    wanted_keyframes: int = Field(4, ge=1, description="K0: so many distinct keyframes are worth most")
    spare_keyframes: int = Field(3, ge=1, description="how many more make their number worth nothing")
    per_keyframe: float = Field(0.4, ge=0)
    overlap: float = Field(-0.2, le=0, description="for each keyframe that is the next one's frame again")
    distinct: float = Field(0.1, ge=0, description="for each other keyframe, up to the wanted number")


class DatasetSettings(Group):
    """Of data sets (docs/datasets.md). What was decided by an earlier value of these stays as it is."""

    holdout_share: float = Field(0.2, ge=0, le=1, description="of new source videos: nobody ever trains on those")
    near_duplicate_bits: int = Field(
        6, ge=0, le=64, description="two frames look alike if at most so many bits of their perceptual hashes differ"
    )
    near_duplicate_share: float = Field(
        0.5, gt=0, le=1, description="two videos show the same if so many frames of either look like one of the other's"
    )


class ModelSettings(Group):
    #: A profile's name in `backend/profiles/`, or the path of a TOML file of one's own.
    profile: str = "shapeworld"


class GuardSettings(Group):
    """When a training is stopped, and why (`workers/learning/guards.py`). Means are over `window` steps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: int = Field(10, ge=2)
    entropy_min_share: float = Field(0.2, ge=0, description="of what the entropy was at the beginning")
    entropy_max_share: float = Field(4.0, gt=1, description="the same, upward: the model comes apart")
    kl_max: float = Field(0.5, gt=0, description="nats a token away from the base")
    truncated_max: float = Field(0.3, ge=0, le=1, description="share of the completions that don't end")
    length_factor: float = Field(2.0, gt=1, description="completions so many times as long, or as short, as at first")
    dead_groups_max: float = Field(0.95, ge=0, le=1, description="share of groups in which all earn the same")
    blind_steps: int = Field(5, ge=1, description="steps in a row without the rewards of System 2 and SAM2")
    reward_rise_z: float = Field(3.0, gt=0, description="standard errors by which the sampled reward has risen")
    held_out_loss: float = Field(0.03, ge=0, description="held-out score lost meanwhile: the reward is being gamed")
    held_out_fall: float = Field(0.1, gt=0, description="held-out score lost, whatever the reward does")
    held_out_patience: int = Field(4, ge=1, description="evaluations without any gain meanwhile: the same")


class TrainingSettings(Group):
    """GRPO of System 1. The defaults are the paper's (docs/paper_map.md), but for what its machines could hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    steps: int = Field(500, ge=1)
    #: After so many minutes, those of an earlier process not counted, no further step is begun.
    minutes_max: float | None = Field(None, gt=0)
    group_size: int = Field(8, ge=2, description="G: completions of one prompt")
    prompts_per_step: int = Field(8, ge=1, description="groups of one update, over all processes")
    micro_batch: int = Field(8, ge=1, description="completions of one forward and backward pass")
    updates_per_rollout: int = Field(1, ge=1, description="with more, clipping begins to matter")
    learning_rate: float = Field(1e-6, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    warmup_steps: int = Field(0, ge=0)
    grad_norm_max: float = Field(5.0, gt=0)
    beta: float = Field(0.04, ge=0, description="weight of the KL to the base")
    #: What advantages are measured in: the deviation of the group (the paper), that of all groups of the step, or
    #: nothing. By the group's, a trifle counts as much as all there is wherever nothing else differs.
    advantage_scale: Literal["group", "batch", "none"] = "group"
    clip_low: float = Field(0.2, gt=0, lt=1)
    clip_high: float = Field(0.2, gt=0)
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(0.95, gt=0, le=1)
    max_new_tokens: int | None = Field(None, ge=1, description="None: as many as the model profile says")
    frames_min: int = Field(8, ge=1, description="frames shown of a clip, drawn anew each time")
    frames_max: int = Field(24, ge=1, description="at most as many as the model profile says")
    keyframes: int = Field(4, ge=1, description="K0: as many as the prompt asks for and System 2 is shown")
    lora_rank: int = Field(0, ge=0, description="0: all weights of the language model; the towers are always frozen")
    lora_alpha: int = Field(32, ge=1)
    gradient_checkpointing: bool = False
    loaders: int = Field(1, ge=0, description="processes that decode and prepare clips ahead of the model")
    save_every_steps: int = Field(50, ge=1)
    evaluate_every_steps: int = Field(25, ge=1)
    held_out_items: int = Field(60, ge=1)
    held_out_masks: bool = Field(
        True, description="the score is J&F; without: the share of right descriptions, which only shapeworld knows"
    )
    #: A reward service (`premask train serve-rewards`) with System 2 and SAM2; None: they are loaded beside System 1.
    reward_url: str | None = None
    #: The secret it asks for.
    reward_token: SecretStr | None = None
    reward_timeout_s: float = Field(120.0, gt=0)
    guards: GuardSettings = GuardSettings()


class RetrainingSettings(Group):
    """The learning loop (docs/retraining.md): what is the machine's matter; the rest is each schedule's."""

    look_interval_s: float = Field(15.0, gt=0, description="how often it is looked for schedules that are due")
    dir: Path | None = Field(None, description="where trainings lie while they go on; None: beside scratch")
    min_free_gib: float = Field(5.0, ge=0, description="disk left there; a retraining that would take it ends")
    gate_jobs: int = Field(1, ge=1, description="processes that measure on the proving ground, each with a model")
    #: Put before the training's own command, `["accelerate", "launch", "--num_processes", "8"]`.
    launch: tuple[str, ...] = ()
    #: Where mail goes out: `smtp://user:password@host:587` (STARTTLS) or `smtps://…`; None: none is sent.
    smtp_url: SecretStr | None = None
    mail_from: str = "premask@localhost"
    #: Sent with each webhook, as `Authorization: Bearer …`.
    webhook_token: SecretStr | None = None
    notice_timeout_s: float = Field(15.0, gt=0)
    notice_attempts: int = Field(8, ge=1, description="after so many one who can't be reached is told no more")


class RegistrySettings(Group):
    """MLflow's tracking and registry store, which shows models and curves to people."""

    enabled: bool = True
    #: An SQLAlchemy URL of MLflow's own (`sqlite:///…`, `postgresql+psycopg://…`); None: the schema `mlflow` in our
    #: database.
    url: SecretStr | None = None


class GateSettings(Group):
    """What a candidate must show before it takes the champion's place (docs/promotion.md). J&F is in 0..1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: float = Field(0.95, gt=0, lt=1, description="of the intervals of the paired difference")
    resamples: int = Field(10_000, ge=100)
    seed: int = 0
    min_videos: int = Field(20, ge=2, description="a suite, or a kind in it, of fewer source videos shows nothing")
    epsilon: float = Field(0.01, ge=0, description="J&F that a regression suite may lose on average")
    well_formed: float = Field(0.99, ge=0, le=1, description="share of the candidate's answers in the asked form")
    latency_ratio: float = Field(1.25, gt=0, description="the candidate's seconds over the champion's")
    kl: float = Field(0.5, gt=0, description="nats a token from the base, as training measured it")


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
