"""A clip whose truth is known to the pixel: a bright square that crosses a dark frame, and its publication item."""

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from backend.domain.annotation import Box, VideoProbe
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode, RunStatus
from backend.domain.tracks import reduce_boxes
from backend.ports.publication import PublicationItem, PublicationPage, PublicationTrack

WIDTH, HEIGHT, SIDE = 640, 360, 70
FRAME_COUNT = 60
FPS = Fraction(25)
#: The square is there on these frames only.
VISIBLE = range(4, 52)
KEYFRAMES = (10, 30, 48)
SQUARE_RGB, DARK_RGB = (240, 240, 240), (24, 24, 32)


def truth(frame_index: int) -> Box:
    """The square's box. It turns in the middle, so that no single line fits."""
    x = 20 + 14 * min(frame_index, 30)
    y = 30 + 2 * frame_index + (6 * (frame_index - 30) if frame_index > 30 else 0)
    return Box(x, y, x + SIDE, y + SIDE)


def picture(frame_index: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:] = DARK_RGB
    image[mask(frame_index)] = SQUARE_RGB
    return image


def mask(frame_index: int) -> np.ndarray:
    """(H, W) bool."""
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    if frame_index in VISIBLE:
        box = truth(frame_index)
        pixels[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
    return pixels


def write_clip(path: Path, fps: Fraction = FPS) -> None:
    """H.264, yuv420p, constant rate, the index at the front: what a browser plays."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for frame_index in range(FRAME_COUNT):
            frame = av.VideoFrame.from_ndarray(picture(frame_index), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def png(frame_index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(frame_index)).save(buffer, "PNG")
    return buffer.getvalue()


def probe(fps: Fraction = FPS) -> VideoProbe:
    return VideoProbe(
        frame_count=FRAME_COUNT,
        width=WIDTH,
        height=HEIGHT,
        rotation_deg=0,
        duration_s=float(FRAME_COUNT / fps),
        has_audio=False,
        codec="h264",
        time_base_num=fps.denominator,
        time_base_den=fps.numerator,
        pts=np.arange(FRAME_COUNT, dtype=np.int64),
    )


def item(
    video_uri: str = "s3://bucket/clip.mp4",
    image_uris: dict[int, str] | None = None,
    *,
    run_id: int = 7,
    video_id: int = 1,
    instruction_id: int = 2,
    iou_floor: float = 0.9,
) -> PublicationItem:
    """The truth as a run's result: one track, three keyframe pages."""
    boxes = {frame: truth(frame) for frame in VISIBLE}
    uris = image_uris or {frame: f"s3://bucket/run{run_id}/{frame}.png" for frame in KEYFRAMES}
    track = PublicationTrack(
        index=0,
        label="the bright square",
        score=0.87,
        box_keyframes=tuple(reduce_boxes(boxes, FRAME_COUNT, iou_floor)),
        masks={frame: encode_mask(mask(frame)) for frame in KEYFRAMES},
    )
    return PublicationItem(
        run_id=run_id,
        video_id=video_id,
        instruction_id=instruction_id,
        instruction="the square that turns downwards",
        mode=Mode.VOS,
        video_uri=video_uri,
        probe=probe(),
        status=RunStatus.SUCCEEDED,
        outcome_code=None,
        reasoning="There is one bright square. It moves to the right, then turns downwards <and> leaves.\n"
        "So the square is the target.",
        pages=tuple(
            PublicationPage(frame, float(frame / FPS), f"the bright square at moment {n}", uris[frame])
            for n, frame in enumerate(KEYFRAMES)
        ),
        tracks=(track,),
        model_version="shapeworld@0123456789ab",
    )


def without_target(found: PublicationItem) -> PublicationItem:
    """The same run, had the model found nothing."""
    return replace(
        found, status=RunStatus.NO_TARGET, outcome_code="no_keyframes", reasoning="No such thing.", pages=(), tracks=()
    )
