"""The Omni-R1 pipeline at inference: sample, look (System 1), ground (System 2), carry (SAM2), link.

Reads as the method does; the parts live beside this module. It differs from the paper in what the paper leaves open:
identity across keyframes (`linking`), a streaming segmenter, and honest ends where the model finds nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from backend.domain.annotation import Annotation, Mask, VideoProbe
from backend.domain.corrected import Carry
from backend.domain.runs import Mode, Stage
from backend.ports.pipeline import Checkpoints, StageListener
from backend.profiles import ModelProfile
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from workers.pipeline.assembling import Found, assemble, each_alone
from workers.pipeline.carrying import Carrying
from workers.pipeline.clip import SCRATCH_BYTES, Clip, LastClip
from workers.pipeline.decision import Decision, Origin
from workers.pipeline.feedback import in_words, worth
from workers.pipeline.linking import LinkedTrack, corroborated
from workers.pipeline.looking import Looking
from workers.pipeline.progress import Progress
from workers.pipeline.reanchoring import doubtful
from workers.pipeline.scratch import ScratchCheckpoints
from workers.pipeline.segmenter import FEATURE_CACHE_BYTES, BoxPrompt, MaskPrompt, Prompt, Segmenter
from workers.pipeline.system1 import System1Result


class OmniPipeline:
    """One loaded set of models. Not thread safe: a worker process has one and runs one clip at a time."""

    def __init__(
        self, profile: ModelProfile, settings: PipelineSettings, scratch_dir: Path | None = None,
        scratch_bytes: int = SCRATCH_BYTES, feature_cache_bytes: int = FEATURE_CACHE_BYTES,
    ) -> None:  # fmt: skip
        self._profile, self._settings = profile, settings
        self._scratch_dir, self._scratch_bytes = scratch_dir, scratch_bytes
        self._looking = Looking(profile, settings)
        self.system1, self.system2 = self._looking.system1, self._looking.system2
        self.segmenter = Segmenter(profile.segmenter, profile.device, feature_cache_bytes)
        self._confidence = None if profile.confidence is None else profile.confidence.functions()
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
        progress = Progress(on_stage)
        kept = checkpoints or ScratchCheckpoints(self._scratch_dir)

        def open_clip() -> Clip:
            with progress.stage(Stage.DECODE):
                known = probe or probe_video(video_path, self._settings)
                return Clip.open(video_path, known, self.segmenter.size_px, self._scratch_dir, self._scratch_bytes)

        with self._last_clip.use(video_path, keep, open_clip) as clip:
            self.segmenter.keep(clip.small)
            # An answer of which nothing is carried costs the encoding for nothing; all others have it beside decoding
            # and both systems.
            clip.on_stored = self.segmenter.encode_stored
            if (remembered := kept.decision()) is not None:
                decision = Decision.from_bytes(remembered)
                progress.go_on(decision)
            else:
                decision = self._looking.decide(clip, instruction, mode, seed, progress)
                kept.decide(decision.to_bytes())
            if mode is Mode.AID:
                images = clip.images([k.frame_index for k in decision.looked])
                found = Found(clip.probe, decision, each_alone(decision), [], images)
            else:
                found = self._follow(_Asked(clip, instruction, mode, seed, kept, keep, progress), decision)
        return assemble(found, self._profile, self._confidence, seed, progress.timings_s, progress.warnings)

    def _follow(self, asked: "_Asked", decision: Decision) -> Found:
        """Boxes to tracks, with second looks where they are wanted."""
        with asked.progress.stage(Stage.SEGMENT):
            asked.clip.need_all()
        asked.progress.warnings += asked.clip.warnings
        carrying = self._carrying(asked, 0)
        found = self._carried(asked, carrying, decision, decision.prompts)
        if self._settings.feedback.rounds:
            found, carrying = self._asked_again(asked, found, carrying)
        if self._settings.reanchoring.frames:
            found = self._reanchored(asked, found, carrying)
        return found

    def _carrying(self, asked: "_Asked", first_round: int) -> Carrying:
        size = (asked.clip.probe.width, asked.clip.probe.height)
        return Carrying(
            self.segmenter, asked.clip.small, size, self._settings.link_iou, asked.kept, first_round,
            asked.clip.carried, asked.keep,
        )  # fmt: skip

    def _carried(
        self, asked: "_Asked", carrying: Carrying, decision: Decision, prompts: Sequence[BoxPrompt]
    ) -> Found:  # fmt: skip
        """What the decision comes to, its prompts being those carried so far and these."""
        clip, progress = asked.clip, asked.progress
        images = clip.images([k.frame_index for k in decision.looked])
        with progress.stage(Stage.SEGMENT):
            tracks = carrying.add(prompts, lambda share: progress.tell(Stage.SEGMENT, share))
        with progress.stage(Stage.LINK):
            linked = self._believe(decision, tracks, progress)
        return Found(clip.probe, decision, linked, carrying.propagations, images)

    def _asked_again(self, asked: "_Asked", found: Found, carrying: Carrying) -> tuple[Found, Carrying]:
        """The same, or what a second answer of System 1 led to, if that is worth more."""
        progress, confidence = asked.progress, self._confidence
        first, answer = worth(found, confidence), found.decision.chosen.answer
        if first > self._settings.feedback.below or answer.says_none:
            return found, carrying
        seen, said = in_words(found.decision.looked), progress.warnings
        progress.warnings = []
        decision = self._looking.decide(asked.clip, asked.instruction, asked.mode, asked.seed, progress, seen)
        again = self._carrying(asked, carrying.next_round)
        other = self._carried(asked, again, decision, decision.prompts)
        second = worth(other, confidence)
        better = second > first
        # What was said on the way to the answer that is dropped is of no use.
        progress.warnings = progress.warnings if better else said
        progress.warnings.append(
            f"System 1 was asked twice ({first:.2f}, then {second:.2f});"
            f" the {'second' if better else 'first'} answer was kept"
        )
        # What is carried from here on is a round of its own: under the number of one that was dropped, a worker that
        # goes on would take turns in beginning the two anew.
        carrying.next_round = again.next_round
        return (other, again) if better else (found, carrying)

    def _reanchored(self, asked: "_Asked", found: Found, carrying: Carrying) -> Found:
        """The same, or with what System 2 found on frames where a track was in doubt."""
        sampling = self._looking.sampling(asked.clip.probe, asked.mode)
        moments = doubtful(found, sampling, self._settings.reanchoring, self._confidence)
        if not moments:
            return found
        with asked.progress.stage(Stage.SYSTEM2):
            looked = self._looking.ground(moments, Origin.REANCHORED, asked.clip, asked.progress)
        decision = replace(found.decision, looked=(*found.decision.looked, *looked))
        where = ", ".join(str(frame_index) for frame_index in moments)
        asked.progress.warnings.append(f"System 2 was asked again where a track was in doubt, on frame {where}")
        return self._carried(asked, carrying, decision, decision.prompts[len(carrying.prompts) :])

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
        with Clip.open(video_path, probe, self.segmenter.size_px, self._scratch_dir, 0) as clip:
            return self._looking.choose(clip, instruction, mode, seed=seed)

    def decide(
        self, video_path: Path, instruction: str, mode: Mode, *, seed: int = 0, probe: VideoProbe | None = None
    ) -> Decision:
        """What `annotate` comes to before anything is carried; of the video no more is decoded than that takes."""
        self._profile.check_instruction(instruction)
        known = probe or probe_video(video_path, self._settings)
        with Clip.open(video_path, known, self.segmenter.size_px, self._scratch_dir, 0) as clip:
            return self._looking.decide(clip, instruction, mode, seed, Progress(None))

    def _believe(self, decision: Decision, tracks: list[LinkedTrack], progress: Progress) -> list[LinkedTrack]:
        tracks, prompts = [t for t in tracks if t.masks], decision.prompts
        keyframes = [k.frame_index for k in decision.looked]
        kept = corroborated(tracks, prompts, keyframes, self._settings.min_support)
        for track in tracks:
            if track not in kept:
                where = ", ".join(str(prompts[m].frame_index) for m in track.members)
                reason = "the other keyframes on which it can be seen don't name it"
                progress.warnings.append(f"the thing boxed on frame {where} was dropped: {reason}")
        return kept


@dataclass(frozen=True, slots=True)
class _Asked:
    """A run under way."""

    clip: Clip
    instruction: str
    mode: Mode
    seed: int
    kept: Checkpoints
    keep: bool
    progress: Progress


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
