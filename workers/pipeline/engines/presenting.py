"""What a Thinker is shown: prompts with their media as the tensors its model takes. No model is needed for it.

The processor's defaults override what the checkpoint's own image and video processors say about sizes, so size, rate
and sampling are passed with every call, and the number of media tokens is checked: transformers has dropped audio
silently before.
"""

from collections.abc import Sequence
from typing import Any

import torch

from backend.domain.errors import Misconfigured
from backend.profiles import Weights
from workers.pipeline import torchvision_cpu
from workers.pipeline.engines import Prompt

torchvision_cpu.install()

from transformers import Qwen2_5OmniProcessor  # noqa: E402  (after torchvision was made importable)


def located(weights: Weights) -> tuple[str, dict[str, Any]]:
    """Where transformers finds the weights, and with which options. Raises `Misconfigured` if they are not there."""
    if weights.source == "path":
        return str(weights.path), {}
    if weights.source == "stored":
        raise Misconfigured(f"the weights {weights.name} must be fetched before they can be loaded")
    return weights.name, {"revision": weights.revision or "main"}


def load_processor(weights: Weights) -> Any:
    """The processor that goes with the weights; it pads on the left."""
    source, options = located(weights)
    processor: Any = Qwen2_5OmniProcessor.from_pretrained(source, **options)
    processor.tokenizer.padding_side = "left"
    return processor


def present(
    processor: Any, prompts: Sequence[Prompt], *, min_pixels: int, max_pixels: int, fps: float | None = None
) -> Any:
    """The prompts as one padded batch of tensors (`input_ids`, `attention_mask` and those of the media, in the order
    of the prompts); all prompts hold the same media."""
    text = [
        processor.apply_chat_template(
            [{"role": "user", "content": list(p.content)}], tokenize=False, add_generation_prompt=True
        )
        for p in prompts
    ]
    size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
    media: dict[str, Any] = {}
    if videos := [torch.from_numpy(p.video).permute(0, 3, 1, 2) for p in prompts if p.video is not None]:
        sizing = {"size": size, "do_resize": not any(p.video_is_sized for p in prompts)}
        media |= {"videos": videos, "videos_kwargs": {"fps": fps, "do_sample_frames": False, **sizing}}
    if images := [p.image for p in prompts if p.image is not None]:
        media |= {"images": images, "images_kwargs": {"size": size}}
    if audio := [p.audio for p in prompts if p.audio is not None]:
        media["audio"] = audio
    batch = processor(text=text, return_tensors="pt", padding=True, **media)
    _check_media_tokens(processor, batch)
    return batch


def _check_media_tokens(processor: Any, batch: Any) -> None:
    """The processor must have left a token for every piece of every medium, or the model would not perceive it."""
    merge = processor.image_processor.merge_size**2
    grids = {processor.video_token: "video_grid_thw", processor.image_token: "image_grid_thw"}
    expected = {token: int(batch[grid].prod(-1).sum()) // merge for token, grid in grids.items() if grid in batch}
    if "feature_attention_mask" in batch:
        lengths = (batch["feature_attention_mask"].sum(-1) - 1) // 2 + 1
        expected[processor.audio_token] = int(((lengths - 2) // 2 + 1).sum())
    for token, count in expected.items():
        found = int((batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids(token)).sum())
        if found != count:
            raise RuntimeError(f"the processor made {found} {token} tokens for {count} pieces of media")
