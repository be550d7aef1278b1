"""Carrying: each detection as far as it is needed, and which of them are one thing. [Ours]

A track shows on a frame what its member with the nearest keyframe sees (`linking`), so where neighbouring keyframes
name a thing, neither has to be carried past the other. Each detection is carried to the keyframes beside its own, where
they are compared; one that they don't confirm is carried over the whole clip. The tracks are those of carrying
everything everywhere, wherever these comparisons tell what comparing on all keyframes would.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

from backend.ports import Checkpoints
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.linking import LinkedTrack, link
from workers.pipeline.scratch import ScratchCheckpoints
from workers.pipeline.segmenter import BoxPrompt, Propagation, Segmenter

#: Of the progress, the share of the first round; few clips need another.
_FIRST_ROUND = 0.9


def carry(
    segmenter: Segmenter, frames: FrameStore, prompts: Sequence[BoxPrompt], source_size: tuple[int, int],
    link_iou: float, on_progress: Callable[[float], None] = lambda _: None, checkpoints: Checkpoints | None = None,
) -> tuple[list[Propagation], list[LinkedTrack]]:  # fmt: skip
    """The propagation of each prompt, and the tracks, which are complete on all frames. `source_size`: (width, height)
    of the masks. With `checkpoints` it goes on from where they end."""
    count = frames.frame_count
    kept = checkpoints or ScratchCheckpoints()
    spans = spans_between(prompts, count)
    found = segmenter.propagate(
        frames, prompts, source_size, lambda share: on_progress(_FIRST_ROUND * share), spans, kept
    )
    round_index = 0
    while True:
        tracks = link(prompts, found, link_iou)
        if not (alone := unconfirmed(prompts, spans, tracks, count)):
            on_progress(1.0)
            return found, tracks
        for row in alone:
            spans[row] = range(count)
        round_index += 1
        again = segmenter.propagate(
            frames, [prompts[row] for row in alone], source_size, checkpoints=kept, round_index=round_index
        )
        for row, propagation in zip(alone, again, strict=True):
            found[row] = propagation


def spans_between(prompts: Sequence[BoxPrompt], frame_count: int) -> list[range]:
    """From the keyframe before to the keyframe after each prompt's own; the first and last reach the clip's ends."""
    keyframes = sorted({prompt.frame_index for prompt in prompts})
    spans = []
    for prompt in prompts:
        position = keyframes.index(prompt.frame_index)
        begin = keyframes[position - 1] if position else 0
        end = keyframes[position + 1] + 1 if position + 1 < len(keyframes) else frame_count
        spans.append(range(begin, end))
    return spans


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
