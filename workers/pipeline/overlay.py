"""The result drawn over the video: masks tinted, boxes outlined, keyframes marked. For people, not for machines."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from backend.domain.annotation import Annotation, Keyframe
from backend.domain.masks import decode_mask
from integrations.media.decode import iter_frames

#: One colour a track, told apart also by people who see red and green alike (Okabe and Ito's palette).
PALETTE = [(0, 158, 115), (213, 94, 0), (86, 180, 233), (240, 228, 66), (204, 121, 167), (0, 114, 178), (230, 159, 0)]
_TINT = 0.45


def draw_frame(image: NDArray[Any], annotation: Annotation, frame_index: int) -> NDArray[Any]:
    """(H, W, 3) uint8 with the tracks of that frame drawn on it; a keyframe also shows its description and boxes."""
    canvas = image.astype(np.float32)
    for track in annotation.tracks:
        if frame_index in track.masks:
            inside = decode_mask(track.masks[frame_index])
            canvas[inside] += _TINT * (np.asarray(PALETTE[track.index % len(PALETTE)], np.float32) - canvas[inside])
    picture = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(10, image.shape[0] // 26))
    for track in annotation.tracks:
        seen = track.masks.get(frame_index)
        if (box := track.boxes.get(frame_index) if seen is None else seen.box_xyxy_px) is not None:
            color = PALETTE[track.index % len(PALETTE)]
            draw.rectangle((box.x1, box.y1, box.x2 - 1, box.y2 - 1), outline=color, width=2)
            draw.text(
                (box.x1 + 3, box.y1 + 1), track.label[:40], fill="white", font=font, stroke_width=1, stroke_fill="black"
            )
    keyframe = next((k for k in annotation.keyframes if k.frame_index == frame_index), None)
    if keyframe is not None:
        _mark_keyframe(draw, keyframe, font, image.shape[1])
    return np.asarray(picture)


def _mark_keyframe(
    draw: ImageDraw.ImageDraw, keyframe: Keyframe, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int
) -> None:
    for detection in keyframe.detections:
        box = detection.box_xyxy_px
        draw.rectangle((box.x1, box.y1, box.x2, box.y2), outline="white", width=1)
    text = f"keyframe {keyframe.position + 1}: {keyframe.description}"[: max(20, width // 8)]
    draw.text((4, 3), text, fill="white", font=font, stroke_width=1, stroke_fill="black")


def write_overlay(video_path: Path, annotation: Annotation, out_path: Path) -> None:
    """Write the annotated video as H.264 mp4 at the source's own times; frame i of the overlay is frame i of the
    source."""
    probe = annotation.probe
    width, height = probe.width + probe.width % 2, probe.height + probe.height % 2
    with av.open(str(out_path), "w") as container:
        rate = Fraction(probe.average_fps or 25).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        time_base = Fraction(probe.time_base_num, probe.time_base_den)
        stream.codec_context.time_base = time_base
        for frame_index, image in iter_frames(video_path, probe):
            drawn = draw_frame(image, annotation, frame_index)
            if (height, width) != drawn.shape[:2]:
                padding = ((0, height - drawn.shape[0]), (0, width - drawn.shape[1]), (0, 0))
                drawn = np.pad(drawn, padding, mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(drawn), format="rgb24")
            frame.pts, frame.time_base = int(probe.pts[frame_index] - probe.pts[0]), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
