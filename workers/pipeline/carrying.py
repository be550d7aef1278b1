"""Carrying: each detection as far as it is needed, and which of them are one thing. [Ours]

A track shows on a frame what its member with the nearest keyframe sees (`linking`), so where neighbouring keyframes
name a thing, neither has to be carried past the other. Each detection is carried forward to the keyframe after its own,
where it is compared with what was boxed there, and back to the middle between its own and the one before, as far as it
speaks for its track; one that is not confirmed so is carried over the whole clip. The tracks are those of carrying
everything everywhere, wherever these comparisons tell what comparing on all keyframes would.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from backend.domain.annotation import Box
from backend.ports.pipeline import Checkpoints
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.linking import LinkedTrack, link
from workers.pipeline.scratch import ScratchCheckpoints
from workers.pipeline.segmenter import BoxPrompt, Propagation, Segmenter

#: Detections that went as one batch, by frame, span and boxes: another batch would be rounded otherwise.
Known = dict[tuple[int, range, tuple[Box, ...]], list[Propagation]]
#: Of longer clips nothing is kept in memory for other instructions: their masks may be many.
_KNOWN_FRAMES = 3_000
#: Of the progress, the share of the first round; few clips need another.
_FIRST_ROUND = 0.9


class Carrying:
    """Detections of one clip on their way through it; more may be added when it is known what the first became.

    `source_size`: (width, height) of the masks. With `checkpoints` it goes on from where they end; `first_round` counts
    on from what of the same clip was carried before. `known`: what of the clip was carried for other instructions;
    it is the same to the bit, and isn't carried again. With `remember` what is carried here is added to it.
    """

    def __init__(
        self, segmenter: Segmenter, frames: FrameStore, source_size: tuple[int, int], link_iou: float,
        checkpoints: Checkpoints | None = None, first_round: int = 0, known: Known | None = None,
        remember: bool = False,
    ) -> None:  # fmt: skip
        self._known, self._remember = {} if known is None else known, remember
        self._segmenter, self._frames, self._source_size, self._link_iou = segmenter, frames, source_size, link_iou
        self._checkpoints = checkpoints or ScratchCheckpoints()
        self._spans: list[range] = []
        self._compared: list[int] = []
        self.prompts: list[BoxPrompt] = []
        self.propagations: list[Propagation] = []
        self.next_round = first_round

    def add(
        self, prompts: Sequence[BoxPrompt], on_progress: Callable[[float], None] = lambda _: None
    ) -> list[LinkedTrack]:
        """The tracks with these, complete on all frames. What is added later is carried to the nearest frames of the
        first, and compared with others on those alone: on its own frame something is thought to be wrong."""
        begin = len(self.prompts)
        spans = self._spans_of(prompts)
        self._compared = self._compared or sorted({prompt.frame_index for prompt in prompts})
        self.prompts += prompts
        self._spans += spans
        self.propagations += [Propagation()] * len(prompts)
        self._carry(range(begin, len(self.prompts)), lambda share: on_progress(_FIRST_ROUND * share))
        while True:
            tracks = link(self.prompts, self.propagations, self._link_iou, self._compared)
            if not (alone := unconfirmed(self.prompts, self._spans, tracks, self._frames.frame_count)):
                on_progress(1.0)
                return tracks
            for row in alone:
                self._spans[row] = range(self._frames.frame_count)
            self._carry(alone)

    def _spans_of(self, prompts: Sequence[BoxPrompt]) -> list[range]:
        count = self._frames.frame_count
        if not self._compared:
            return spans_between(prompts, count)
        return [_to_nearest(self._compared, prompt.frame_index, count) for prompt in prompts]

    def _carry(self, rows: Sequence[int], on_progress: Callable[[float], None] = lambda _: None) -> None:
        batches: dict[tuple[int, range], list[int]] = {}
        for row in rows:
            batches.setdefault((self.prompts[row].frame_index, self._spans[row]), []).append(row)
        keys = {
            (*place, tuple(self.prompts[row].box_xyxy_px for row in batch)): batch for place, batch in batches.items()
        }
        missing = sorted(row for key, batch in keys.items() if key not in self._known for row in batch)
        found = self._segmenter.propagate(
            self._frames, [self.prompts[row] for row in missing], self._source_size, on_progress,
            [self._spans[row] for row in missing], self._checkpoints, self.next_round,
        )  # fmt: skip
        self.next_round += 1
        for row, propagation in zip(missing, found, strict=True):
            self.propagations[row] = propagation
        for key, batch in keys.items():
            if key in self._known:
                for row, propagation in zip(batch, self._known[key], strict=True):
                    self.propagations[row] = propagation
            elif self._remember and self._frames.frame_count <= _KNOWN_FRAMES:
                self._known[key] = [_copied(self.propagations[row]) for row in batch]


def _copied(propagation: Propagation) -> Propagation:
    """In memory: the masks of a run lie where they go when it ends."""
    masks, estimates = dict(propagation.masks.items()), dict(propagation.estimates.items())
    return Propagation(masks, estimates, propagation.span)


def spans_between(prompts: Sequence[BoxPrompt], frame_count: int) -> list[range]:
    """From the middle between each prompt's keyframe and the one before, to the keyframe after; the first and last
    reach the clip's ends."""
    keyframes = sorted({prompt.frame_index for prompt in prompts})
    spans = []
    for prompt in prompts:
        position = keyframes.index(prompt.frame_index)
        begin = (keyframes[position - 1] + keyframes[position]) // 2 if position else 0
        end = keyframes[position + 1] + 1 if position + 1 < len(keyframes) else frame_count
        spans.append(range(begin, end))
    return spans


def _to_nearest(frames: Sequence[int], frame_index: int, frame_count: int) -> range:
    """From the last of those frames before that one to the first after it, or to the clip's ends."""
    before, after = [i for i in frames if i < frame_index], [i for i in frames if i > frame_index]
    return range(max(before, default=0), min(after, default=frame_count - 1) + 1)


def unconfirmed(
    prompts: Sequence[BoxPrompt], spans: Sequence[range], tracks: Sequence[LinkedTrack], frame_count: int
) -> list[int]:
    """The members of tracks that were not carried to all frames on which they speak for their track."""
    found = []
    for track in tracks:
        members = sorted(track.members, key=lambda member: prompts[member].frame_index)
        keyframes = [prompts[member].frame_index for member in members]
        middles = [(a + b) // 2 for a, b in pairwise(keyframes)]
        for member, begin, end in zip(members, [0, *middles], [*middles, frame_count - 1], strict=True):
            if begin not in spans[member] or end not in spans[member]:
                found.append(member)
    return sorted(found)
