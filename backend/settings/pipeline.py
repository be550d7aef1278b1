"""Runs: workers, the three models, second looks, masks on demand."""

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from backend.settings.group import Group


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
