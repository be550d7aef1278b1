"""Windows: the parts of a long video that people work on one by one.

They divide the video: each frame is in exactly one, so that nothing can be said of a frame in two places. Frames keep
their numbers in the whole video; what a player of one window counts by is `integrations.label_studio`'s concern.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from backend.domain.annotation import Box
from backend.domain.frames import FrameClock
from backend.domain.tracks import BoxKeyframe, interpolate


@dataclass(frozen=True, slots=True)
class Window:
    """Frames `first_frame` to `first_frame + frame_count - 1` of a video."""

    first_frame: int
    frame_count: int

    @property
    def stop(self) -> int:
        return self.first_frame + self.frame_count

    @property
    def frames(self) -> range:
        return range(self.first_frame, self.stop)


def window_from(first_frame: int | None, frame_count: int | None) -> Window | None:
    """As it is stored, in two fields that are null for the whole video."""
    return None if first_frame is None or frame_count is None else Window(first_frame, frame_count)


def stored_as(window: Window | None) -> dict[str, int | None]:
    """Those two fields, by name."""
    first, count = (None, None) if window is None else (window.first_frame, window.frame_count)
    return {"window_first_frame": first, "window_frame_count": count}


def windows_of(clock: FrameClock, longest_s: float) -> tuple[Window, ...]:
    """As few parts of about the same time as there must be for none to be longer than `longest_s` (but for one frame);
    none at all for a video that is no longer. The same for the same video, whenever it is asked. A frame that is shown
    for longer than that is in a window with those before it.
    """
    times_s = clock.times_s()
    if longest_s <= 0 or clock.duration_s <= longest_s or len(times_s) < 2:
        return ()
    count = -int(-clock.duration_s // longest_s)
    borders = (clock.duration_s * number / count for number in range(1, count))
    starts = sorted({0, *(int(found) for found in times_s.searchsorted([border - 1e-6 for border in borders]))})
    starts = [start for start in starts if start < len(times_s)]
    ends = [*starts[1:], len(times_s)]
    return tuple(Window(start, end - start) for start, end in zip(starts, ends, strict=True))


def clipped(keyframes: Sequence[BoxKeyframe], frames: range) -> tuple[BoxKeyframe, ...]:
    """Keyframes that mean within `frames` what these mean there, and nothing outside: at the first and the last of
    them there is a keyframe wherever the thing is seen. `frames` ascend by one."""
    inside = [keyframe for keyframe in keyframes if keyframe.frame_index in frames]
    present = {keyframe.frame_index for keyframe in inside}
    edges = {frame for frame in (frames.start, frames.stop - 1) if frame not in present and frame in frames}
    if edges:
        seen = _boxes_at(keyframes, edges)
        inside += [BoxKeyframe(frame, box, visible=True) for frame, box in seen.items()]
    inside.sort(key=lambda keyframe: keyframe.frame_index)
    return tuple(
        replace(keyframe, visible=False) if keyframe.frame_index == frames.stop - 1 else keyframe for keyframe in inside
    )


def _boxes_at(keyframes: Sequence[BoxKeyframe], frames: Iterable[int]) -> dict[int, Box]:
    """The boxes on those of the frames on which the thing is seen."""
    found = {}
    for frame in frames:
        before = [keyframe for keyframe in keyframes if keyframe.frame_index <= frame][-1:]
        after = [keyframe for keyframe in keyframes if keyframe.frame_index > frame][:1]
        # Two keyframes say all there is to say of the frames between them.
        box = interpolate([*before, *after], frame + 1).get(frame) if before else None
        if box is not None:
            found[frame] = box
    return found


def joined(parts: Iterable[Sequence[BoxKeyframe]], frame_count: int) -> list[BoxKeyframe]:
    """Keyframes of stretches that follow each other (as `clipped` makes them), as those of one whole: a thing that is
    seen on both sides of a border goes on over it."""
    whole = [keyframe for part in parts for keyframe in part]
    following = {keyframe.frame_index for keyframe in whole}
    return [
        replace(k, visible=True)
        if not k.visible and (k.frame_index + 1 in following or k.frame_index == frame_count - 1)
        else k
        for k in whole
    ]
