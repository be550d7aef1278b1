"""Items of data sets for tests: one made by hand, and a strategy for any."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from backend.domain.annotation import Box, Mask
from backend.domain.datasets import DatasetItem, Provenance, Split, TruthObject
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode

WIDTH, HEIGHT, FRAMES = 8, 6, 5


def box() -> Box:
    return Box(1, 1, 4, 3)


def mask_at(x: int = 1, *, width: int = WIDTH, height: int = HEIGHT) -> Mask:
    """Three by two pixels, from column `x` and row 1 on."""
    pixels = np.zeros((height, width), bool)
    pixels[1:3, x : x + 3] = True
    return encode_mask(pixels)


def item(**more: Any) -> DatasetItem:
    """A thing that is seen on frames 1 to 3 of five, with masks seen on frame 2 and propagated to frame 3."""
    thing = TruthObject("cup", {frame: box() for frame in (1, 2, 3)}, {2: mask_at(), 3: mask_at(2)})
    values: dict[str, Any] = {
        "media_sha256": "a" * 64, "media_key": "artifacts/media/aa/" + "a" * 64, "media_size_bytes": 1234,
        "instruction": "the cup", "mode": Mode.VOS, "frame_count": FRAMES, "width": WIDTH, "height": HEIGHT,
        "rotation_deg": 0, "duration_s": 0.2, "has_audio": False, "codec": "h264", "time_base_num": 1,
        "time_base_den": 25, "pts": tuple(range(7, 7 + FRAMES)), "objects": (thing,),
        "box_frames": tuple(range(FRAMES)), "mask_frames": (0, 2), "propagated_frames": (3,), "split": Split.TRAIN,
        "fresh": True, "provenance": Provenance("review", "s3://premask/in/a.mp4"),
    }  # fmt: skip
    return DatasetItem(**{**values, **more})


@st.composite
def items(draw: st.DrawFn) -> DatasetItem:
    """Any item, small."""
    count, width, height = draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 9))
    frames = range(count)
    boxed = draw(_some(frames))
    masked = draw(_some(frames))
    propagated = draw(_some([frame for frame in frames if frame not in masked]))
    objects = draw(st.lists(_objects(boxed, masked + propagated, width, height), max_size=3))
    text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
    maybe = st.none() | text
    return item(
        media_sha256=draw(st.text("0123456789abcdef", min_size=64, max_size=64)), instruction=draw(text),
        mode=draw(st.sampled_from(Mode)), frame_count=count, width=width, height=height,
        rotation_deg=draw(st.sampled_from([0, 90, 180, 270])), duration_s=draw(st.floats(0, 1e6)),
        has_audio=draw(st.booleans()), codec=draw(text), time_base_den=draw(st.integers(1, 10**6)),
        pts=tuple(sorted(draw(st.sets(st.integers(-(2**62), 2**62), min_size=count, max_size=count)))),
        objects=tuple(objects), box_frames=boxed, mask_frames=masked, propagated_frames=propagated,
        split=draw(st.sampled_from(Split)), fresh=draw(st.booleans()),
        provenance=Provenance("review", draw(text), *(draw(maybe) for _ in range(4)), draw(st.sampled_from([None, 7]))),
    )  # fmt: skip


def _some(frames: Any) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(st.sampled_from(list(frames)) if frames else st.nothing()).map(lambda found: tuple(sorted(found)))


@st.composite
def _objects(draw: st.DrawFn, boxed: tuple[int, ...], masked: tuple[int, ...], width: int, height: int) -> TruthObject:
    corner = st.floats(-1e4, 1e4, allow_nan=False)
    boxes = {frame: Box(*(draw(corner) for _ in range(4))) for frame in draw(_some(boxed))}
    masks = {}
    for frame in draw(_some(masked)):
        bits = draw(st.integers(1, 2 ** (width * height) - 1))
        flat = [bool(bits >> place & 1) for place in range(width * height)]
        masks[frame] = encode_mask(np.array(flat).reshape(height, width))
    return TruthObject(draw(st.text(max_size=8).filter(lambda text: text.isprintable())), boxes, masks)
