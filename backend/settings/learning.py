"""The learning loop: rewards, data sets, training and its guards, schedule, gate, registry."""

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, SecretStr

from backend.settings.group import Group


class RewardSettings(Group):
    """What an answer of System 1 is worth when it learns (docs/paper_map.md):

    R = format · R_format + keyframes · R_K + boxes · R_A + masks · R_G, with
    R_K = diversity · R_diversity + number · R_num + saliency · R_saliency. In mode `aid`, the paper's RefAID, there is
    one frame and SAM2 isn't asked: R = format · R_format + aid · R_A. Where nothing is to be found no part of it
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
    aid: float = Field(1.0, ge=0, description="R_A in mode aid")
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
