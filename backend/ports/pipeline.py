"""The models: annotating a video, going on with one that was broken off, and masks on single pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backend.domain.annotation import Annotation, Mask, VideoProbe
from backend.domain.corrected import Carry
from backend.domain.prompts import ThingPrompt
from backend.domain.runs import Mode, Stage

#: Called when a stage begins and while it goes on: (stage, share of the stage done in 0..1).
StageListener = Callable[[Stage, float], None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What SAM2 makes of its own mask, both in 0..1: the mask's IoU with the thing, and how likely the thing is there
    at all (the logistic of its object score)."""

    predicted_iou: float
    objectness: float


@dataclass(frozen=True, slots=True)
class CarriedMask:
    """What the propagation of one detection shows on a frame: SAM2's mask, and what SAM2 makes of it.

    `detection`: position among those that are carried in that round.
    """

    detection: int
    frame_index: int
    mask: Mask
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Way:
    """How far one walk over frames has come, and what the tracker remembers there (bytes that only it can read).

    `steps`: frames that the walk takes in all.
    """

    steps: int
    done: int
    state: bytes


class Checkpoints(Protocol):
    """What a run has come to so far: the answers of System 1 and 2, then masks by detection and frame, in chunks.

    Detections are carried in rounds, each over several ways beside each other, from several threads. A chunk holds the
    masks of one way since its last one and where it stands; it is kept whole or not at all. All methods but the last
    two raise `FenceLost` where the run is no longer this worker's.
    """

    @property
    def chunk_frames(self) -> int:
        """After so many frames a way hands its masks over."""

    @property
    def resumable(self) -> bool:
        """Whether anybody may go on from here later; if not, the ways' states are not asked for."""

    def decision(self) -> bytes | None:
        """What was given to `decide` last."""

    def decide(self, decision: bytes) -> None: ...

    def begin(self, round_index: int, plan: str, ways: Sequence[int]) -> dict[int, Way]:
        """How far those of the round's ways have come that were begun, by number. `ways`: how many frames each takes.
        `plan` says what the round does: what was kept of another one, and what came after, is dropped."""

    def commit(self, round_index: int, number: int, way: Way, masks: Sequence[CarriedMask]) -> None:
        """Keep a chunk of that way."""

    def masks(self, round_index: int, detection: int, frames: range) -> Iterator[CarriedMask]:
        """What was kept of a detection on those frames, in their order."""

    def counted(self, round_index: int, detection: int) -> int:
        """On how many frames it is visible."""


class AnnotationPipeline(Protocol):
    def annotate(
        self,
        video_path: Path,
        instruction: str,
        mode: Mode,
        *,
        seed: int = 0,
        probe: VideoProbe | None = None,
        on_stage: StageListener | None = None,
        checkpoints: Checkpoints | None = None,
        keep: bool = False,
    ) -> Annotation:
        """`probe`: what probing found in this very file, if it is known; else it is probed. With `checkpoints` it goes
        on from where they end, to the same result; the tracks' masks are read from them. `keep`: the path is never
        another file's, and another instruction on it may follow; what they share is kept for it.

        Raises `BadInput` for what can't be annotated; malformed model output is a result, not an exception.
        """

    def carry(
        self,
        video_path: Path,
        probe: VideoProbe,
        carries: Sequence[Carry],
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> list[dict[int, Mask]]:
        """What the segmenter makes of each prompt on the frames it speaks for, by frame index; no entry where nothing
        is seen. Progress goes from 0 to 1. Raises `BadInput` where the file is not the video that was probed."""


@dataclass(frozen=True, slots=True)
class SuggestedMask:
    """`predicted_iou`: the segmenter's own estimate, 0..1."""

    mask: Mask
    predicted_iou: float


class MaskService(Protocol):
    """Draws masks on single pictures, in a process that has the models and is not busy with runs."""

    def draw(
        self, bucket: str, key: str, size: tuple[int, int], model_digest: str, prompts: Sequence[ThingPrompt]
    ) -> list[SuggestedMask | None]:
        """One mask a prompt, None where nothing is seen. `size`: (width, height) of the stored picture in pixels;
        `model_digest`: of the model version whose segmenter is asked.

        Raises `ServiceUnavailable` where it is away, late or busy, `ObjectGone` where the picture is; `Misconfigured`.
        """

    def check(self) -> None:
        """Raises `ServiceUnavailable` (`model_loading`: it runs, and will be ready) or `Misconfigured` unless it is
        ready."""
