"""The PTS table as bytes: zlib over little-endian int64, as it is stored beside the video. Seconds are made of it by
`backend.domain.frames.FrameClock`, and nowhere else."""

import zlib

import numpy as np
from numpy.typing import NDArray


def pack_pts(pts: NDArray[np.int64]) -> bytes:
    """Bytes of a (frame_count,) int64 table."""
    return zlib.compress(np.ascontiguousarray(pts, dtype="<i8").tobytes())


def unpack_pts(packed: bytes) -> NDArray[np.int64]:
    """The (frame_count,) int64 table that `pack_pts` packed."""
    return np.frombuffer(zlib.decompress(packed), dtype="<i8").astype(np.int64)
