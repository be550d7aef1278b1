"""Judging: what the completions of one group are worth, by the rewards and with what System 2 and SAM2 made of them.

R_K looks at all that a completion chose. Boxes and masks are those of the keyframes that the pipeline would go on with:
at most K0, one a frame. The union of all detections is what R_G compares (appendix B), without our identity across
keyframes. A sample of mode `aid` (the paper's RefAID) has one frame, and boxes alone are judged. Everything happens on
the resampled clip at source resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from backend.domain.runs import Mode
from backend.settings import RewardSettings
from workers.evaluation.metrics import Similarity, similarity
from workers.learning.downstream import Follows, Found, Keyframe
from workers.learning.items import Truth
from workers.learning.rewards import Reward, absent_reward, box_reward, format_reward, keyframe_reward, mask_reward
from workers.learning.samples import Sample
from workers.pipeline.parsing import parse_system1, parse_system1_of_image, read_system1


@dataclass(frozen=True, slots=True)
class Judged:
    """`answered`: whether System 2 and SAM2 were there, if they were asked. `moments`: how many it chose.
    `similarity`: J and F of the masks with the truth. `right`: whether all descriptions are the true words, and
    there are some; for a sample without a target, whether the completion says so. Both None where it isn't known."""

    reward: Reward
    moments: int
    answered: bool = True
    similarity: Similarity | None = None
    right: bool | None = None


class Judge:
    """Asks of System 2 and SAM2 what has a weight; with `masks`, for the masks whether or not they earn anything, and
    without, for nothing."""

    def __init__(
        self, downstream: Follows, weights: RewardSettings, keyframes: int, *, masks: bool | None = None
    ) -> None:
        self._downstream, self.weights, self._keyframes, self._masks = downstream, weights, keyframes, masks

    def _asked(self, mode: Mode) -> tuple[bool, bool]:
        """Whether System 2 is asked, and whether SAM2 is, too."""
        if mode is Mode.AID:
            return self._masks is None and bool(self.weights.aid), False
        segment = bool(self.weights.masks) if self._masks is None else self._masks
        return segment or (self._masks is None and bool(self.weights.boxes)), segment

    def judge(self, sample: Sample, completions: Sequence[str]) -> list[Judged]:
        """One of each completion, in order: one System 2 batch and one SAM2 pass for all of them."""
        chosen = [self._chosen(sample, completion) for completion in completions]
        found: list[Found] | None = None
        asked, segment = self._asked(sample.mode)
        if asked:
            found = self._downstream.follow(sample.frames.numpy(), chosen, segment=segment)
        became: Sequence[Found | None] = [None] * len(chosen) if found is None else found
        return [self._one(sample, *row) for row in zip(completions, chosen, became, strict=True)]

    def _chosen(self, sample: Sample, completion: str) -> list[Keyframe]:
        seconds = sample.sampling.nominal_duration_s
        if sample.mode is Mode.AID:
            answer = parse_system1_of_image(completion, seconds)
        else:
            answer = parse_system1(completion, seconds, self._keyframes)
        by_position: dict[int, str] = {}
        for moment in answer.moments:
            by_position.setdefault(sample.sampling.frame_index_at(moment.start_s), moment.description)
        return [Keyframe(position, description) for position, description in by_position.items()]

    def _one(self, sample: Sample, completion: str, chosen: list[Keyframe], found: Found | None) -> Judged:
        seconds, truth = sample.sampling.nominal_duration_s, sample.truth
        reading = read_system1(completion, seconds, timed=sample.mode is not Mode.AID)
        positions = [sample.sampling.frame_index_at(moment.start_s) for moment in reading.moments]
        # Masks are compared where the truth is known, counted through.
        known = {position: n for n, position in enumerate(sorted(truth.mask_known))}
        true = {known[position]: mask for position, mask in truth.masks.items()}
        tracks = None
        if found is not None and found.tracks is not None and known:
            tracks = [{known[n]: mask for n, mask in track.items() if n in known} for track in found.tracks]
        if sample.has_target and sample.mode is Mode.AID:
            aid = None if found is None else self._boxes(truth, chosen, found)
            worth = Reward(format_reward(completion, seconds, timed=False), 0.0, None, None, aid=aid)
        elif sample.has_target:
            boxes = None if found is None else self._boxes(truth, chosen, found)
            masks = None if tracks is None else mask_reward(tracks, true, len(known))
            keyframes = keyframe_reward(positions, truth.masks, self.weights, truth.mask_known)
            worth = Reward(format_reward(completion, seconds), keyframes, boxes, masks)
        else:
            # Whatever is found is invented: not even its form is paid for.
            worth = Reward(0.0, 0.0, 0.0, 0.0, absent_reward(completion, seconds))
        right = None
        if sample.description is not None:
            said = {moment.description for moment in reading.moments}
            right = said == {sample.description} if sample.has_target else reading.says_none
        alike = None if tracks is None else similarity(tracks, true, len(known))
        return Judged(worth, len(positions), found is not None or not self._asked(sample.mode)[0], alike, right)

    def _boxes(self, truth: Truth, chosen: list[Keyframe], found: Found) -> float | None:
        """R_A over the keyframes whose boxes are known; None if none are, 0 if there is no keyframe."""
        pairs = [
            (boxes, truth.boxes.get(keyframe.position, ()))
            for keyframe, boxes in zip(chosen, found.boxes, strict=True)
            if keyframe.position in truth.boxes_known
        ]
        if chosen and not pairs:
            return None
        return box_reward([ours for ours, _ in pairs], [theirs for _, theirs in pairs])
