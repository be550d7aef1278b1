"""Masks as Label Studio's bitmask regions carry them: an RGBA PNG in a data URL, whose alpha channel is the mask."""

import base64
import binascii
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from backend.domain.annotation import Mask
from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask, encode_mask

_PREFIX = "data:image/png;base64,"
#: The brush antialiases its edges: from here on a pixel belongs to the mask.
ALPHA_THRESHOLD = 128


def to_data_url(mask: Mask) -> str:
    """The mask at its own resolution, lossless."""
    rgba = np.zeros((mask.height, mask.width, 4), dtype=np.uint8)
    rgba[..., 3] = np.where(decode_mask(mask), 255, 0)
    buffer = io.BytesIO()
    Image.fromarray(rgba).save(buffer, "PNG", optimize=True)
    return _PREFIX + base64.b64encode(buffer.getvalue()).decode("ascii")


def from_data_url(url: str) -> Mask:
    """The mask a labeler left. Raises `BadInput` for anything but a PNG with an alpha channel."""
    if not url.startswith(_PREFIX):
        raise BadInput("a mask is not a PNG in a data URL", code="invalid_mask")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(url[len(_PREFIX) :], validate=True)), formats=["PNG"])
        alpha = np.asarray(image.getchannel("A"))
    except (binascii.Error, UnidentifiedImageError, ValueError, OSError) as error:
        raise BadInput(f"a mask's PNG can't be read: {error}", code="invalid_mask") from error
    return encode_mask(alpha >= ALPHA_THRESHOLD)
