"""What a model server is sent: pictures of the processor's own bytes, at sizes that a second resize leaves alone."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from backend.domain.errors import BadInput
from workers.pipeline.engines import media

# transformers, after `media` has made torchvision importable.
from transformers import Qwen2VLImageProcessor  # isort: skip

FULL = {"multiple_px": 28, "min_pixels": 3136, "max_pixels": 705_600}
SMALL = {"multiple_px": 28, "min_pixels": 3136, "max_pixels": 100_352}
FIXED = {"multiple_px": 16, "min_pixels": 9216, "max_pixels": 9216}


def noise(height: int, width: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.parametrize("bounds", [FULL, SMALL, FIXED], ids=["keyframe", "frame", "shapeworld"])
@pytest.mark.parametrize("size", [(1080, 1920), (480, 640), (384, 384), (30, 50), (17, 400)], ids=str)
def test_a_picture_is_resized_to_the_bytes_the_models_processor_makes(
    size: tuple[int, int], bounds: dict[str, int]
) -> None:
    picture = noise(*size)
    shown = media.smart_resized(picture, **bounds)
    patch_px = bounds["multiple_px"] // 2
    processor = Qwen2VLImageProcessor(patch_size=patch_px, merge_size=2)

    def seen(image: np.ndarray, least: int, most: int) -> dict[str, np.ndarray]:
        size = {"shortest_edge": least, "longest_edge": most}
        return processor(images=[image], size=size, return_tensors="np")

    here = seen(picture[0], bounds["min_pixels"], bounds["max_pixels"])
    # What a server is told of the size: neither less nor more than it gets.
    area = shown.shape[1] * shown.shape[2]
    there = seen(shown[0], area, area)
    assert shown.shape[1:3] == (here["image_grid_thw"][0, 1] * patch_px, here["image_grid_thw"][0, 2] * patch_px)
    np.testing.assert_array_equal(there["image_grid_thw"], here["image_grid_thw"])
    np.testing.assert_array_equal(there["pixel_values"], here["pixel_values"])


def test_the_papers_sizes_give_the_sizes_that_the_rule_says() -> None:
    assert media.smart_resized(noise(1080, 1920), **FULL).shape == (1, 616, 1120, 3)
    assert media.smart_resized(noise(1080, 1920), **SMALL).shape == (1, 224, 420, 3)


def test_frames_of_a_video_are_resized_as_each_of_them_alone() -> None:
    frames = noise(200, 300, count=3)
    together = media.smart_resized(frames, **SMALL)
    alone = [media.smart_resized(frame[None], **SMALL)[0] for frame in frames]
    np.testing.assert_array_equal(together, np.stack(alone))


def test_a_picture_that_the_rule_leaves_out_is_bad_input() -> None:
    with pytest.raises(BadInput, match="frames of 8000×16"):
        media.smart_resized(noise(16, 8000), **FULL)


def test_a_picture_is_packed_without_loss() -> None:
    [picture] = noise(56, 84)
    unpacked = Image.open(io.BytesIO(base64.b64decode(media.png_base64(picture))))
    np.testing.assert_array_equal(np.asarray(unpacked), picture)


def test_sound_is_packed_without_loss_even_beyond_full_scale() -> None:
    audio = np.array([0.0, 1e-7, -0.3, 0.999, 1.25, -1.5], np.float32)
    rate_hz, unpacked = wavfile.read(io.BytesIO(base64.b64decode(media.wav_base64(audio))))
    assert rate_hz == 16_000
    np.testing.assert_array_equal(unpacked, audio)


def test_tokens_are_counted_as_the_model_has_them() -> None:
    frames = np.zeros((5, 56, 84, 3), np.uint8)
    assert media.picture_tokens(frames, 28, video=True) == 3 * 2 * 3
    assert media.picture_tokens(frames[:1], 28, video=False) == 2 * 3
    assert media.audio_tokens(np.zeros(16_000 * 10, np.float32)) == 250
    assert media.audio_tokens(np.zeros(3, np.float32)) == 0
