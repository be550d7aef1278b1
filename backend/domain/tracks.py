"""Tracks as a labeling tool keeps them: few box keyframes, linear interpolation in between, and a flag for leaving.

`reduce_boxes` finds the fewest keyframes whose interpolation stays close to the dense boxes; `interpolate` is its
inverse. The fewer keyframes a labeler has to drag, the less a correction costs.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Box

#: A stretch is solved in windows of at most so many frames, whose ends are keyframes: it bounds time and memory on
#: videos of hours, for at most one keyframe more in every 4,096 frames.
WINDOW_FRAMES = 4096
#: The floor is held with this margin, so that rounding in another program's interpolation doesn't fall below it.
MARGIN = 1e-9
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_ROWS_AT_ONCE = 256
_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class BoxKeyframe:
    """A box at a frame. `visible=False` says that this is the last frame on which the thing is seen.

    That is Label Studio's sense of `enabled`: the box stands on frame `frame_index` itself and is hidden from the next
    frame until the next keyframe.
    """

    frame_index: int
    box: Box
    visible: bool


def reduce_boxes(
    boxes: Mapping[int, Box], frame_count: int, iou_floor: float, pinned: Collection[int] = ()
) -> list[BoxKeyframe]:
    """The fewest keyframes whose linear interpolation has IoU >= `iou_floor` with the dense box on every visible frame.

    `boxes` has an entry for each frame on which the thing is visible and no other. The first and the last frame of
    each visible stretch, and those of `pinned` in it, are always keyframes and carry the dense box exactly; between
    them the number of keyframes is minimal (per window of `WINDOW_FRAMES`). Raises `ValueError` for a frame outside
    the video or a floor outside (0, 1].
    """
    if not 0 < iou_floor <= 1:
        raise ValueError(f"iou_floor must be in (0, 1], not {iou_floor}")
    frames = sorted(boxes)
    if frames and not (frames[0] >= 0 and frames[-1] < frame_count):
        raise ValueError(f"frames {frames[0]}..{frames[-1]} are not all in a video of {frame_count} frames")
    keyframes = []
    for first, last in _stretches(frames):
        stretch = [boxes[frame] for frame in range(first, last + 1)]
        edges = np.array([(box.x1, box.y1, box.x2, box.y2) for box in stretch], dtype=np.float64)
        cuts = sorted({0, last - first, *(frame - first for frame in pinned if first < frame < last)})
        found = [[0]] if len(cuts) == 1 else [
            [start + position for position in _fewest_positions(edges[start : stop + 1], iou_floor)]
            for start, stop in pairwise(cuts)
        ]  # fmt: skip
        for position in dict.fromkeys(chain.from_iterable(found)):
            frame = first + position
            goes_on = frame < last or last == frame_count - 1
            keyframes.append(BoxKeyframe(frame, stretch[position], goes_on))
    return keyframes


def interpolate(keyframes: Sequence[BoxKeyframe], frame_count: int) -> dict[int, Box]:
    """The dense boxes that `keyframes` (in ascending frame order) mean, by frame index; hidden frames have no entry.

    Before the first keyframe the thing is hidden; after the last one it stays where it is, to the end of the video,
    unless that keyframe says it left.
    """
    dense: dict[int, Box] = {}
    for position, keyframe in enumerate(keyframes):
        dense[keyframe.frame_index] = keyframe.box
        if not keyframe.visible:
            continue
        following = keyframes[position + 1] if position + 1 < len(keyframes) else None
        stop = following.frame_index if following else frame_count
        for frame in range(keyframe.frame_index + 1, stop):
            dense[frame] = _between(keyframe, following, frame) if following else keyframe.box
    return dense


def _between(start: BoxKeyframe, end: BoxKeyframe, frame: int) -> Box:
    share = (frame - start.frame_index) / (end.frame_index - start.frame_index)
    a, b = start.box, end.box
    return Box(
        a.x1 + (b.x1 - a.x1) * share,
        a.y1 + (b.y1 - a.y1) * share,
        a.x2 + (b.x2 - a.x2) * share,
        a.y2 + (b.y2 - a.y2) * share,
    )


def _stretches(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last frame of each run of consecutive frames."""
    start = 0
    for position in range(1, len(frames) + 1):
        if position == len(frames) or frames[position] != frames[position - 1] + 1:
            yield frames[start], frames[position - 1]
            start = position


def _fewest_positions(edges: Floats, iou_floor: float) -> list[int]:
    """Positions of the keyframes of one stretch; `edges` (n, 4) holds x1, y1, x2, y2 of each frame."""
    last = len(edges) - 1
    if last == 0 or _holds(edges, 0, last, iou_floor):
        return list(dict.fromkeys((0, last)))
    positions = [0]
    for start in range(0, last, WINDOW_FRAMES):
        end = min(start + WINDOW_FRAMES, last)
        path = _shortest_path(edges[start : end + 1], iou_floor)
        positions += [start + step for step in path[1:]]
    return positions


def _shortest_path(edges: Floats, iou_floor: float) -> list[int]:
    """Breadth-first search from the first frame to the last; i → j is an edge if interpolating between them holds.

    Whether i → j holds is not monotone in j, so a greedy choice is not minimal; the search is. Each frame is reached
    once, from a frame of the level before, so that few of the n² pairs are looked at.
    """
    last = len(edges) - 1
    if _holds(edges, 0, last, iou_floor):
        return [0, last]
    below, above = _edge_tolerances(edges, iou_floor)
    parent = np.full(len(edges), -1)
    parent[0] = 0
    level = np.array([0])
    while parent[last] < 0:
        reached_before = parent >= 0
        # From the farthest back: what the farthest frame reaches need not be tried from the others.
        for block_end in range(len(level), 0, -_ROWS_AT_ONCE):
            rows = level[max(0, block_end - _ROWS_AT_ONCE) : block_end]
            rows = _rows_that_may_advance(edges, below, above, rows, parent)
            for source, target in _candidates(edges, below, above, rows, parent < 0, iou_floor):
                if parent[target] < 0 and _holds(edges, source, target, iou_floor):
                    parent[target] = source
        level = np.flatnonzero((parent >= 0) & ~reached_before)
    path = [last]
    while path[-1] != 0:
        path.append(int(parent[path[-1]]))
    return path[::-1]


def _holds(edges: Floats, i: int, j: int, iou_floor: float) -> bool:
    """Whether interpolating from i to j keeps the floor on all frames between."""
    share = (np.arange(i + 1, j) - i) / (j - i)
    line = edges[i] + (edges[j] - edges[i]) * share[:, None]
    return bool((_iou(line, edges[i + 1 : j]) >= min(1.0, iou_floor + MARGIN)).all())


def _iou(a: Floats, b: Floats) -> Floats:
    """IoU of boxes (..., 4) pair by pair; 0 where both are empty."""
    width = np.maximum(np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]), 0)
    height = np.maximum(np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]), 0)
    intersection = width * height
    area_a = np.maximum(a[..., 2] - a[..., 0], 0) * np.maximum(a[..., 3] - a[..., 1], 0)
    area_b = np.maximum(b[..., 2] - b[..., 0], 0) * np.maximum(b[..., 3] - b[..., 1], 0)
    union = area_a + area_b - intersection
    ratio: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return ratio


def _holds_at(edges: Floats, source: Ints, target: Ints, shares: Floats, iou_floor: float) -> Flags:
    """For each pair whether the floor is kept on the frames that lie these shares of the way from source to target."""
    frames = source[:, None] + ((target - source)[:, None] * shares).astype(int)
    way = ((frames - source[:, None]) / (target - source)[:, None])[..., None]
    line = edges[source][:, None] + (edges[target] - edges[source])[:, None] * way
    kept: Flags = (frames == source[:, None]) | (_iou(line, edges[frames]) >= min(1.0, iou_floor + MARGIN))
    everywhere: Flags = np.logical_and.reduce(kept, axis=1)
    return everywhere


def _edge_tolerances(edges: Floats, iou_floor: float) -> tuple[Floats, Floats]:
    """How far an edge alone may lie below and above the dense one, (n, 4) each.

    A necessary condition: with IoU >= t an edge lies at most (1 - t) of the side's length inside the box and (1/t - 1)
    of it outside.
    """
    side = np.tile(edges[:, 2:] - edges[:, :2], 2)
    inside, outside = side * (1 - iou_floor), side * (1 / iou_floor - 1)
    near = np.array([True, True, False, False])
    slack = 1e-9 * (1 + np.abs(edges))
    return np.where(near, outside, inside) + slack, np.where(near, inside, outside) + slack


def _cone(edges: Floats, below: Floats, above: Floats, rows: Ints, frames: Ints) -> tuple[Floats, Floats, Floats]:
    """Slopes (r, f, 4) of the lines from each of `rows` to `frames` (r, f): lowest allowed, exact, highest allowed."""
    distance = (frames - rows[:, None])[..., None].astype(np.float64)
    rise = edges[frames] - edges[rows][:, None]
    return (rise - below[frames]) / distance, rise / distance, (rise + above[frames]) / distance


def _rows_that_may_advance(edges: Floats, below: Floats, above: Floats, rows: Ints, parent: Ints) -> Ints:
    """Drop rows from which no line gets past some of the frames up to the first one not reached yet."""
    unreached = np.flatnonzero(parent < 0)
    if not len(unreached):
        return rows[:0]
    first = int(unreached[0])
    sure = rows[rows >= first - 1]
    rows = rows[rows < first - 1]
    share = np.linspace(0, 1, _SAMPLES)
    frames = np.round(rows[:, None] + 1 + share * (first - rows[:, None] - 1)).astype(int)
    frames = np.concatenate([frames, np.full((len(rows), 1), first - 1)], axis=1)
    lowest, _, highest = _cone(edges, below, above, rows, frames)
    passes = (lowest.max(axis=1) <= highest.min(axis=1)).all(axis=1)
    return np.concatenate([rows[passes], sure])


def _candidates(
    edges: Floats, below: Floats, above: Floats, rows: Ints, wanted: Flags, iou_floor: float
) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i in `rows`, j > i in `wanted`, that pass the necessary conditions: nearest i first for each j.

    For each edge of the box the slopes allowed by the frames so far form a cone; where it is empty no farther j is
    possible.
    """
    pairs: list[tuple[Ints, Ints]] = []
    low: Floats = np.full((len(rows), 1, 4), -np.inf)
    high: Floats = np.full((len(rows), 1, 4), np.inf)
    offset, width = 1, 32
    while len(rows):
        frames = rows[:, None] + np.arange(offset, offset + width)
        inside = frames < len(edges)
        lowest, slope, highest = _cone(edges, below, above, rows, np.minimum(frames, len(edges) - 1))
        lows = np.maximum.accumulate(np.concatenate([low, lowest], axis=1), axis=1)
        highs = np.minimum.accumulate(np.concatenate([high, highest], axis=1), axis=1)
        possible = ((lows[:, :-1] <= slope) & (slope <= highs[:, :-1])).all(axis=2) & inside
        row, column = np.nonzero(possible)
        is_wanted = wanted[frames[row, column]]
        pairs.append((rows[row[is_wanted]], frames[row, column][is_wanted]))
        alive = (lows[:, -1] <= highs[:, -1]).all(axis=1) & inside[:, -1]
        rows, low, high = rows[alive], lows[alive, -1:], highs[alive, -1:]
        offset, width = offset + width, min(width * 2, 1024)
    if not pairs:
        return
    source = np.concatenate([pair[0] for pair in pairs])
    target = np.concatenate([pair[1] for pair in pairs])
    # A few frames of each tell most of the pairs that fail, for all pairs at once: the middle one, then some more.
    for shares in ((0.5,), (0.125, 0.25, 0.375, 0.625, 0.75, 0.875)):
        passes = _holds_at(edges, source, target, np.array(shares), iou_floor)
        source, target = source[passes], target[passes]
    order = np.lexsort((-source, target))
    yield from zip(source[order].tolist(), target[order].tolist(), strict=True)
