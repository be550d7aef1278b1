"""Perceptual hashes of a video's frames (`imagehash`, pHash of 64 bits), to find the same pictures in other bytes."""

from pathlib import Path

import imagehash
import numpy as np
from PIL import Image

from backend.domain.annotation import VideoProbe
from backend.domain.frames import sample_uniformly
from backend.domain.holdout import FrameHashes
from integrations.media.decode import iter_frames

#: A clip cut out of another one still has frames that lie close to some of the other's.
FRAMES = 16
_SIDE = 8


def frame_hashes(path: Path, probe: VideoProbe) -> FrameHashes:
    """(frames,) uint64 of at most `FRAMES` frames, evenly spread. Raises `UnreadableVideo`."""
    wanted = set(sample_uniformly(probe.frame_count, FRAMES, nominal_fps=1.0).frame_indices)
    found = [
        imagehash.phash(Image.fromarray(image), hash_size=_SIDE).hash
        for frame_index, image in iter_frames(path, probe)
        if frame_index in wanted
    ]
    packed = np.packbits(np.stack(found).reshape(len(found), -1), axis=1)
    return packed.view(">u8").reshape(-1).astype(np.uint64)
