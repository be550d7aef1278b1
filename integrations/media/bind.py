"""A folder of JPEG pictures bound into one video file, each picture as it is: nothing is encoded anew."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from backend.domain.errors import BadInput


def bind_pictures(pictures: Sequence[Path], to: Path, fps: Fraction) -> None:
    """Write a QuickTime file with one JPEG a frame; the same pictures are the same bytes. Raises `BadInput`."""
    size: tuple[int, int] | None = None
    with av.open(str(to), "w", format="mov", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mjpeg", rate=fps)
        for place, path in enumerate(pictures):
            with Image.open(path, formats=["JPEG"]) as picture:
                found = picture.size
            if size is None:
                size, stream.width, stream.height, stream.pix_fmt = found, *found, "yuvj420p"
                stream.codec_context.time_base = 1 / fps
            if found != size:
                raise BadInput(f"{path} has {found[0]}×{found[1]} pixels, the pictures before {size[0]}×{size[1]}")
            packet = av.Packet(path.read_bytes())
            packet.stream, packet.time_base = stream, 1 / fps
            packet.pts = packet.dts = place
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
