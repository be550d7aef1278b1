"""What a Thinker's towers made of pictures, videos and sounds, kept for when they are shown again.

Several instructions on one clip show System 1 the same frames and sound, and System 2 many of the same keyframes. What
is kept is found again by its content, so nobody has to say what belongs to what. Each picture and each video goes
through its tower alone, kept or not, so that what else is asked for beside it leaves no trace in the last bits.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

#: transformers' own annotations reject what its towers give, hence Any.
_Output: Any = BaseModelOutputWithPooling

#: 20 clips of 24 frames as the full-size model sees them, or 40 keyframes.
KEPT_BYTES = 256 * 2**20


class TowerMemory:
    """Puts itself before the towers of a Thinker model. Not thread safe, as the model isn't."""

    def __init__(self, model: Any, max_bytes: int = KEPT_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._video, self._image = model.get_video_features, model.get_image_features
        self._audio = model.get_audio_features
        model.get_video_features, model.get_image_features = self._of_videos, self._of_images
        model.get_audio_features = self._of_audio

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _of_videos(self, pixel_values_videos: torch.Tensor, video_grid_thw: torch.Tensor, **options: Any) -> Any:
        return self._one_by_one(b"video", self._video, pixel_values_videos, video_grid_thw, options)

    def _of_images(self, pixel_values: torch.Tensor, image_grid_thw: torch.Tensor, **options: Any) -> Any:
        return self._one_by_one(b"image", self._image, pixel_values, image_grid_thw, options)

    def _of_audio(
        self, input_features: torch.Tensor, feature_attention_mask: torch.Tensor, *lengths: Any, **options: Any
    ) -> Any:
        def listen() -> torch.Tensor:
            features: torch.Tensor = self._audio(
                input_features, feature_attention_mask, *lengths, **options
            ).last_hidden_state
            return features

        key = _key(b"audio", input_features, feature_attention_mask)
        return _Output(last_hidden_state=self._remembered(key, listen))

    def _one_by_one(
        self, kind: bytes, tower: Callable[..., Any], pixels: torch.Tensor, grids: torch.Tensor, options: dict[str, Any]
    ) -> Any:
        found = []
        for patches, grid in zip(torch.split(pixels, grids.prod(-1).tolist()), grids, strict=True):

            def look(patches: torch.Tensor = patches, grid: torch.Tensor = grid) -> torch.Tensor:
                [features] = tower(patches, grid[None], **options).pooler_output
                seen: torch.Tensor = features
                return seen

            found.append(self._remembered(_key(kind, patches, grid), look))
        return _Output(pooler_output=tuple(found))

    def _remembered(self, key: bytes, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = make()
        self._kept[key] = made
        self._bytes += made.nbytes
        while self._bytes > self._max_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made


def _key(kind: bytes, *tensors: torch.Tensor) -> bytes:
    sha = hashlib.sha256(kind)
    for tensor in tensors:
        sha.update(repr((tensor.dtype, tuple(tensor.shape))).encode())
        sha.update(tensor.contiguous().view(torch.uint8).cpu().numpy().data)
    return sha.digest()
