"""What a labeling tool is to show: a run's result, reduced to what people look at."""

from dataclasses import dataclass
from fractions import Fraction

from backend.domain.adoption import Adopted
from backend.domain.annotation import Mask, VideoProbe
from backend.domain.runs import Mode, RunStatus
from backend.domain.tracks import BoxKeyframe
from backend.domain.windows import Window


@dataclass(frozen=True, slots=True)
class PublicationPage:
    """A keyframe as the labeling tool shows it: a picture of its own, with its description."""

    frame_index: int
    time_s: float
    description: str
    image_uri: str  # s3://bucket/key


@dataclass(frozen=True, slots=True)
class PublicationTrack:
    """A track reduced to what is shown: few box keyframes over the clip, and masks on the frames of the pages only."""

    index: int
    label: str
    score: float | None
    box_keyframes: tuple[BoxKeyframe, ...]
    masks: dict[int, Mask]  # by frame index


@dataclass(frozen=True, slots=True)
class ShownRendition:
    """What is shown in place of a video: its frame n is the video's frame n, at a constant rate."""

    uri: str  # s3://bucket/key
    fps: Fraction


@dataclass(frozen=True, slots=True)
class PublicationItem:
    """One run's result, or a corrected layer of it, as the labeling tool is to show it. `video_uri` is
    `s3://bucket/key`. Frames are those of the whole video, also where only a window of it is shown."""

    run_id: int
    video_id: int
    instruction_id: int
    instruction: str
    mode: Mode
    video_uri: str
    probe: VideoProbe
    status: RunStatus  # succeeded or no_target
    outcome_code: str | None
    reasoning: str
    pages: tuple[PublicationPage, ...]  # in the order they are shown
    tracks: tuple[PublicationTrack, ...]
    model_version: str
    layer_id: int | None = None
    #: Only the task is to be made, and nothing of what the model said is to be seen.
    control: bool = False
    #: None: the video itself is shown.
    rendition: ShownRendition | None = None
    #: Set where the tool's project is somebody else's.
    adopted: Adopted | None = None
    #: The part of the video that is shown (its `rendition` shows no more); None: the whole.
    window: Window | None = None

    @property
    def shown(self) -> Window:
        """The frames that are shown."""
        return self.window or Window(0, self.probe.frame_count)
