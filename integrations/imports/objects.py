"""What a public set says of one thing."""

from collections.abc import Sequence

from backend.domain.annotation import Mask
from backend.domain.datasets import TruthObject


def truth_object(label: str, found: Sequence[Mask | None]) -> TruthObject:
    """The thing with its mask on each frame of the clip, None where it isn't seen; its boxes are those of the masks."""
    masks = {place: mask for place, mask in enumerate(found) if mask is not None and mask.area}
    return TruthObject(label, {place: mask.box_xyxy_px for place, mask in masks.items()}, masks)
