"""Pictures, frames and sound as an OpenAI-compatible server takes them, without loss.

Pictures are brought to the size that the model's own processor would give them, so that what the server sees, and with
it the frame of absolute coordinates, is known here. Nothing of the request's form is known here: see `openai`.
"""

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from backend.domain.errors import BadInput
from workers.pipeline import torchvision_cpu

torchvision_cpu.install()

from torchvision.transforms.v2 import functional as vision  # noqa: E402  (after it was made importable)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize  # noqa: E402  (after torchvision was made importable)

#: Qwen2.5-Omni hears 16 kHz mono: 100 spectrum frames a second, of which the audio tower makes 25 tokens.
SAMPLE_RATE_HZ = 16_000
_SPECTRUM_HOP = 160
#: Frames that become one layer of video tokens.
_FRAMES_A_LAYER = 2


def smart_resized(pictures: NDArray[Any], *, multiple_px: int, min_pixels: int, max_pixels: int) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8 RGB as (N, h, w, 3) by Qwen's rule: sides that are multiples of `multiple_px`, an area between
    the bounds where the aspect allows it. Resampled as transformers' processor does it, to the same bytes.

    Raises `BadInput` for pictures more than 200 times as long as wide, which the rule leaves out.
    """
    source_height, source_width = pictures.shape[1:3]
    try:
        height, width = smart_resize(
            source_height, source_width, factor=multiple_px, min_pixels=min_pixels, max_pixels=max_pixels
        )
    except ValueError as error:
        raise BadInput(f"frames of {source_width}×{source_height} can't be shown: {error}") from error
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    resized = vision.resize(tensor, [height, width], interpolation=vision.InterpolationMode.BICUBIC, antialias=True)
    shown: NDArray[np.uint8] = resized.permute(0, 2, 3, 1).contiguous().numpy()
    return shown


def png_base64(picture: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 RGB."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def wav_base64(audio: NDArray[Any]) -> str:
    """(samples,) mono at `SAMPLE_RATE_HZ`, as 32-bit float WAV: no rounding, and nothing beyond ±1 is clipped."""
    buffer = io.BytesIO()
    wavfile.write(buffer, SAMPLE_RATE_HZ, audio.astype(np.float32))
    return base64.b64encode(buffer.getvalue()).decode()


def picture_tokens(pictures: NDArray[np.uint8], multiple_px: int, *, video: bool) -> int:
    """How many tokens Qwen's vision tower makes of resized pictures, (N, h, w, 3)."""
    count, height, width = pictures.shape[:3]
    layers = -(-count // _FRAMES_A_LAYER) if video else count
    return int(layers * (height // multiple_px) * (width // multiple_px))


def audio_tokens(audio: NDArray[Any]) -> int:
    """How many tokens Qwen2.5-Omni's audio tower makes at least of (samples,) at `SAMPLE_RATE_HZ`."""
    halved = (audio.size // _SPECTRUM_HOP - 1) // 2 + 1
    return max(0, (halved - 2) // 2 + 1)
