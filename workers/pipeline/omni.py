"""The Omni-R1 pipeline at inference: sample, look (System 1), ground (System 2), carry (SAM2), link.

Reads as the method does; the parts live beside this module. It differs from the paper in what the paper leaves open:
identity across keyframes (`linking`), a streaming segmenter, and honest ends where the model finds nothing.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Annotation, Mask, VideoProbe
from backend.domain.corrected import Carry
from backend.domain.frames import Sampling, sample_uniformly
from backend.domain.runs import Mode, Stage
from backend.ports import Checkpoints, StageListener
from backend.profiles import ModelProfile
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from workers.pipeline.assembling import Found, assemble, each_alone
from workers.pipeline.carrying import carry
from workers.pipeline.clip import SCRATCH_BYTES, Clip, LastClip
from workers.pipeline.decision import Decision, Looked
from workers.pipeline.engines.loading import load_engines
from workers.pipeline.linking import LinkedTrack, corroborated
from workers.pipeline.parsing import Moment
from workers.pipeline.scratch import ScratchCheckpoints
from workers.pipeline.segmenter import FEATURE_CACHE_BYTES, BoxPrompt, MaskPrompt, Prompt, Segmenter
from workers.pipeline.system1 import System1, System1Result
from workers.pipeline.system2 import GroundedBox, System2

#: Two boxes of one answer that overlap this much are one thing said twice.
_DUPLICATE_IOU = 0.9


@dataclass(slots=True)
class _Progress:
    """Seconds by stage, warnings in order, and who is told about it."""

    listener: StageListener | None
    timings_s: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        self.tell(stage, 0.0)
        begin = time.perf_counter()
        yield
        spent = self.timings_s.get(stage.value, 0.0) + time.perf_counter() - begin
        self.timings_s[stage.value] = round(spent, 4)

    def go_on(self, decision: Decision) -> None:
        """Begin with what was said and spent up to the decision."""
        self.warnings = list(decision.warnings)
        for stage, seconds in decision.timings_s.items():
            self.timings_s[stage] = round(self.timings_s.get(stage, 0.0) + seconds, 4)

    def tell(self, stage: Stage, share: float) -> None:
        if self.listener is not None:
            self.listener(stage, share)


class OmniPipeline:
    """One loaded set of models. Not thread safe: a worker process has one and runs one clip at a time."""

    def __init__(
        self, profile: ModelProfile, settings: PipelineSettings, scratch_dir: Path | None = None,
        scratch_bytes: int = SCRATCH_BYTES, feature_cache_bytes: int = FEATURE_CACHE_BYTES,
    ) -> None:  # fmt: skip
        self._profile, self._settings = profile, settings
        self._scratch_dir, self._scratch_bytes = scratch_dir, scratch_bytes
        engine1, engine2 = load_engines(profile)
        self.system1, self.system2 = System1(engine1, profile.system1), System2(engine2, profile.system2)
        self._audio_rate_hz = engine1.sample_rate_hz
        self.segmenter = Segmenter(profile.segmenter, profile.device, feature_cache_bytes)
        self._last_clip = LastClip(lambda _: self.segmenter.keep(None))

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
        """Run the whole pipeline on one video for one instruction; `probe` spares probing a file probed before.

        With `keep`, which promises that the path is never another file's, what of it no instruction shapes (frames,
        sound, the segmenter's features) is kept for the next call with it; the result is the same.

        With `checkpoints` it goes on from where they end, to the same result. Raises `BadInput` when the video or the
        instruction can't be used. What the models write is never an exception: an answer that can't be read ends as
        status no_target with outcome_code "unparsable" and the raw text.
        """
        self._profile.check_instruction(instruction)
        progress = _Progress(on_stage)
        kept = checkpoints or ScratchCheckpoints(self._scratch_dir)

        def open_clip() -> Clip:
            with progress.stage(Stage.DECODE):
                known = probe or probe_video(video_path, self._settings)
                return Clip.open(video_path, known, self.segmenter.size_px, self._scratch_dir, self._scratch_bytes)

        with self._last_clip.use(video_path, keep, open_clip) as clip:
            self.segmenter.keep(clip.small)
            if (remembered := kept.decision()) is not None:
                decision = Decision.from_bytes(remembered)
                progress.go_on(decision)
            else:
                decision = self._decide(clip, instruction, mode, seed, progress)
                kept.decide(decision.to_bytes())
            images = clip.images([k.frame_index for k in decision.looked])
            if mode is Mode.AID:
                found = Found(clip.probe, decision, each_alone(decision), [], images)
                return assemble(found, self._profile, seed, progress.timings_s, progress.warnings)
            with progress.stage(Stage.SEGMENT):
                clip.need_all()
                propagations, tracks = carry(
                    self.segmenter, clip.small, decision.prompts, (clip.probe.width, clip.probe.height),
                    self._settings.link_iou, lambda share: progress.tell(Stage.SEGMENT, share), kept,
                )  # fmt: skip
            with progress.stage(Stage.LINK):
                linked = self._believe(decision, tracks, progress)
        found = Found(clip.probe, decision, linked, propagations, images)
        return assemble(found, self._profile, seed, progress.timings_s, progress.warnings)

    def _decide(self, clip: Clip, instruction: str, mode: Mode, seed: int, progress: _Progress) -> Decision:
        """System 1 on the sampled frames, System 2 on the keyframes."""
        with progress.stage(Stage.DECODE):
            sampling = self._sampling(clip.probe, mode)
            shown = self._shown(clip, sampling, mode, lambda share: progress.tell(Stage.DECODE, share))
            audio = self._listen(clip, mode, progress)
        with progress.stage(Stage.SYSTEM1):
            chosen = self._look(shown, sampling, audio, instruction, mode, seed)
            progress.warnings += chosen.answer.warnings
        with progress.stage(Stage.SYSTEM2):
            looked = self._ground(chosen, clip, sampling, progress)
        return Decision(chosen, tuple(looked), tuple(progress.warnings), dict(progress.timings_s))

    def carry(
        self,
        video_path: Path,
        probe: VideoProbe,
        carries: Sequence[Carry],
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> list[dict[int, Mask]]:
        """The segmenter alone: see `AnnotationPipeline.carry`."""
        prompts = [_prompt(carry) for carry in carries]
        size_px, room = self.segmenter.size_px, (self._scratch_dir, self._scratch_bytes)
        with Clip.open(video_path, probe, size_px, *room) as clip:
            clip.need_all()
            spans = [carry.span for carry in carries]
            kept = ScratchCheckpoints(self._scratch_dir)
            found = self.segmenter.propagate(clip.small, prompts, (probe.width, probe.height), on_progress, spans, kept)
            return [
                {frame: mask for frame, mask in propagation.masks.items() if frame in carry.frames}
                for carry, propagation in zip(carries, found, strict=True)
            ]

    def choose(
        self, video_path: Path, instruction: str, mode: Mode, *, seed: int = 0
    ) -> tuple[System1Result, tuple[int, ...]]:
        """System 1 alone, with what it gets in `annotate`: its answer and the source frames of its moments."""
        probe = probe_video(video_path, self._settings)
        sampling = self._sampling(probe, mode)
        with Clip.open(video_path, probe, self.segmenter.size_px, self._scratch_dir, 0) as clip:
            shown = self._shown(clip, sampling, mode)
            audio = self._listen(clip, mode, _Progress(None))
        chosen = self._look(shown, sampling, audio, instruction, mode, seed)
        # Several moments that fall on one frame are one keyframe there, too.
        frames = dict.fromkeys(sampling.frame_index_at(moment.start_s) for moment in chosen.answer.moments)
        return chosen, tuple(frames)

    def _sampling(self, probe: VideoProbe, mode: Mode) -> Sampling:
        """What System 1 is shown of the clip: frames of all of it, or in mode `aid` the first."""
        look = self._profile.system1
        return sample_uniformly(probe.frame_count, 1 if mode is Mode.AID else look.max_frames, look.nominal_fps)

    def _shown(
        self, clip: Clip, sampling: Sampling, mode: Mode, on_progress: Callable[[float], None] = lambda _: None
    ) -> NDArray[np.uint8]:
        """The sampled frames at the size at which the model is shown them; no more is decoded than the run needs."""
        if mode is Mode.AID:
            return np.stack([self.system1.shown(image) for image in clip.images(sampling.frame_indices).values()])
        return clip.sample(sampling, self.system1.shown, on_progress)

    def _listen(self, clip: Clip, mode: Mode, progress: _Progress) -> NDArray[Any] | None:
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

    def _look(
        self, frames: NDArray[Any], sampling: Sampling, audio: NDArray[Any] | None, instruction: str, mode: Mode,
        seed: int,
    ) -> System1Result:  # fmt: skip
        keyframes = self._settings.keyframes
        return self.system1.choose(frames, sampling, audio, instruction, mode, keyframes=keyframes, seed=seed)

    def _ground(self, chosen: System1Result, clip: Clip, sampling: Sampling, progress: _Progress) -> list[Looked]:
        """System 2 on every keyframe, in one batch; several moments that fall on one frame are one keyframe."""
        moments: dict[int, Moment] = {}
        for moment in chosen.answer.moments:
            frame_index = sampling.frame_index_at(moment.start_s)
            if frame_index in moments:
                progress.warnings.append(f"two moments fall on frame {frame_index}; the first was kept")
            else:
                moments[frame_index] = moment
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
            looked.append(Looked(frame_index, moment, tuple(kept)))
        return looked

    def _believe(self, decision: Decision, tracks: list[LinkedTrack], progress: _Progress) -> list[LinkedTrack]:
        tracks, prompts = [t for t in tracks if t.masks], decision.prompts
        keyframes = [k.frame_index for k in decision.looked]
        kept = corroborated(tracks, prompts, keyframes, self._settings.min_support)
        for track in tracks:
            if track not in kept:
                where = ", ".join(str(prompts[m].frame_index) for m in track.members)
                reason = "the other keyframes on which it can be seen don't name it"
                progress.warnings.append(f"the thing boxed on frame {where} was dropped: {reason}")
        return kept


def _prompt(carry: Carry) -> Prompt:
    if isinstance(carry.prompt, Mask):
        return MaskPrompt(carry.frame_index, carry.prompt)
    return BoxPrompt(carry.frame_index, carry.prompt)


def load_pipeline(
    profile: ModelProfile, settings: PipelineSettings, torch_threads: int | None = None,
    scratch_dir: Path | None = None, scratch_bytes: int = SCRATCH_BYTES, feature_cache_bytes: int = FEATURE_CACHE_BYTES,
) -> OmniPipeline:  # fmt: skip
    """Load the profile's three models into this process (seconds here, minutes at full size)."""
    import torch

    threads = torch_threads or profile.cpu_threads
    if threads is not None:
        torch.set_num_threads(threads)
    return OmniPipeline(profile, settings, scratch_dir, scratch_bytes, feature_cache_bytes)
