"""Looking: System 1 watches the clip and chooses, System 2 finds what it described on the frames that it chose."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.frames import Sampling, sample_uniformly
from backend.domain.runs import Mode, Stage
from backend.profiles import ModelProfile
from backend.settings import PipelineSettings
from workers.pipeline.clip import Clip
from workers.pipeline.decision import Decision, Looked, Origin
from workers.pipeline.engines.loading import load_engines
from workers.pipeline.parsing import Moment
from workers.pipeline.progress import Progress
from workers.pipeline.system1 import System1, System1Result
from workers.pipeline.system2 import GroundedBox, System2

#: Two boxes of one answer that overlap this much are one thing said twice.
_DUPLICATE_IOU = 0.9


class Looking:
    def __init__(self, profile: ModelProfile, settings: PipelineSettings) -> None:
        self._profile, self._settings = profile, settings
        engine1, engine2 = load_engines(profile)
        self.system1, self.system2 = System1(engine1, profile.system1), System2(engine2, profile.system2)
        self._audio_rate_hz = engine1.sample_rate_hz

    def decide(
        self, clip: Clip, instruction: str, mode: Mode, seed: int, progress: Progress, seen: str | None = None
    ) -> Decision:
        """System 1 on the sampled frames, System 2 on the keyframes. `seen`: System 1 is asked a second time, with
        that in words and with the frames between those it was shown before."""
        with progress.stage(Stage.DECODE):
            sampling = self.sampling(clip.probe, mode, between=seen is not None)
            shown = self._shown(clip, sampling, mode, lambda share: progress.tell(Stage.DECODE, share))
            audio = self._listen(clip, mode, progress)
        with progress.stage(Stage.SYSTEM1):
            chosen = self._choose(shown, sampling, audio, instruction, mode, seed, seen)
            progress.warnings += chosen.answer.warnings
        with progress.stage(Stage.SYSTEM2):
            looked = self.ground(self._moments(chosen, sampling, progress), Origin.CHOSEN, clip, progress)
        return Decision(chosen, looked, tuple(progress.warnings), dict(progress.timings_s))

    def choose(
        self, clip: Clip, instruction: str, mode: Mode, *, seed: int = 0
    ) -> tuple[System1Result, tuple[int, ...]]:
        """System 1 alone: its answer and the source frames of its moments."""
        sampling = self.sampling(clip.probe, mode)
        shown = self._shown(clip, sampling, mode)
        audio = self._listen(clip, mode, Progress(None))
        chosen = self._choose(shown, sampling, audio, instruction, mode, seed, None)
        # Several moments that fall on one frame are one keyframe there, too.
        frames = dict.fromkeys(sampling.frame_index_at(moment.start_s) for moment in chosen.answer.moments)
        return chosen, tuple(frames)

    def sampling(self, probe: VideoProbe, mode: Mode, *, between: bool = False) -> Sampling:
        """What System 1 is shown of the clip: frames of all of it, or in mode `aid` the first."""
        look = self._profile.system1
        frames = 1 if mode is Mode.AID else look.max_frames
        return sample_uniformly(probe.frame_count, frames, look.nominal_fps, between=between)

    def ground(
        self, moments: Mapping[int, Moment], origin: Origin, clip: Clip, progress: Progress
    ) -> tuple[Looked, ...]:
        """System 2 on those frames, in one batch."""
        images = list(clip.images(list(moments)).values())
        groundings = self.system2.ground(images, [m.description for m in moments.values()]) if moments else []
        looked = []
        for (frame_index, moment), grounding in zip(moments.items(), groundings, strict=True):
            progress.warnings += grounding.warnings
            kept: list[GroundedBox] = []
            for box in grounding.boxes:
                if all(box.box_xyxy_px.iou(other.box_xyxy_px) < _DUPLICATE_IOU for other in kept):
                    kept.append(box)
            if not kept:
                progress.warnings.append(
                    f"System 2 found nothing on frame {frame_index}: {grounding.raw_output[:200]!r}"
                )
            looked.append(Looked(frame_index, moment, tuple(kept), origin))
        return tuple(looked)

    def _moments(self, chosen: System1Result, sampling: Sampling, progress: Progress) -> dict[int, Moment]:
        """By source frame; several moments that fall on one frame are one keyframe."""
        moments: dict[int, Moment] = {}
        for moment in chosen.answer.moments:
            frame_index = sampling.frame_index_at(moment.start_s)
            if frame_index in moments:
                progress.warnings.append(f"two moments fall on frame {frame_index}; the first was kept")
            else:
                moments[frame_index] = moment
        return moments

    def _shown(
        self, clip: Clip, sampling: Sampling, mode: Mode, on_progress: Callable[[float], None] = lambda _: None
    ) -> NDArray[np.uint8]:
        """The sampled frames at the size at which the model is shown them; no more is decoded than the run needs."""
        if mode is Mode.AID:
            return np.stack([self.system1.shown(image) for image in clip.images(sampling.frame_indices).values()])
        return clip.sample(sampling, self.system1.shown, on_progress)

    def _listen(self, clip: Clip, mode: Mode, progress: Progress) -> NDArray[Any] | None:
        """The whole sound in the modes that listen, as far as the model can take it."""
        probe = clip.probe
        if mode is Mode.VOS:
            return None
        if not probe.has_audio:
            progress.warnings.append("the instruction asks about sound, and the video has none")
            return None
        limit_s = self._profile.system1.audio_max_s
        if probe.duration_s > limit_s * 1.02:
            progress.warnings.append(f"only the first {limit_s:g} s of {probe.duration_s:.1f} s of sound were heard")
        audio = clip.listen(self._audio_rate_hz, limit_s)
        return audio if audio.size else None

    def _choose(
        self, frames: NDArray[Any], sampling: Sampling, audio: NDArray[Any] | None, instruction: str, mode: Mode,
        seed: int, seen: str | None,
    ) -> System1Result:  # fmt: skip
        keyframes = self._settings.keyframes
        return self.system1.choose(
            frames, sampling, audio, instruction, mode, keyframes=keyframes, seed=seed, seen=seen
        )
