"""The Qwen2.5-Omni Thinker in this process: one model with its processor, generating greedily for one batch.

The processor's defaults override what the checkpoint's own image and video processors say about sizes, so size, rate
and sampling are passed with every call, and the number of media tokens is checked: transformers has dropped audio
silently before.
"""

from collections.abc import Sequence
from typing import Any

import torch

from backend.profiles import Weights
from workers.pipeline import torchvision_cpu
from workers.pipeline.engines import Completion, Prompt

torchvision_cpu.install()

from transformers import (  # noqa: E402  (after torchvision was made importable)
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerForConditionalGeneration,
)


class Thinker:
    def __init__(self, weights: Weights, dtype: str, device: str) -> None:
        source = str(weights.path) if weights.source == "path" else weights.name
        options: dict[str, Any] = {} if weights.source == "path" else {"revision": weights.revision or "main"}
        self.device = torch.device(device)
        # transformers' own annotations reject what its documentation shows, hence Any.
        self.processor: Any = Qwen2_5OmniProcessor.from_pretrained(source, **options)
        self.processor.tokenizer.padding_side = "left"
        loader: Any = Qwen2_5OmniThinkerForConditionalGeneration
        self.model = loader.from_pretrained(source, dtype=getattr(torch, dtype), **options)
        self.model.to(self.device).eval()

    @property
    def sample_rate_hz(self) -> int:
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def size_multiple_px(self) -> int:
        pictures = self.processor.image_processor
        return int(pictures.patch_size * pictures.merge_size)

    def _encode(self, prompts: Sequence[Prompt], min_pixels: int, max_pixels: int, fps: float | None) -> Any:
        text = [
            self.processor.apply_chat_template(
                [{"role": "user", "content": list(p.content)}], tokenize=False, add_generation_prompt=True
            )
            for p in prompts
        ]
        size = {"shortest_edge": min_pixels, "longest_edge": max_pixels}
        media: dict[str, Any] = {}
        if videos := [torch.from_numpy(p.video).permute(0, 3, 1, 2) for p in prompts if p.video is not None]:
            resize = not any(p.video_is_sized for p in prompts)
            sizing = {"size": size, "do_resize": resize}
            media |= {"videos": videos, "videos_kwargs": {"fps": fps, "do_sample_frames": False, **sizing}}
        if images := [p.image for p in prompts if p.image is not None]:
            media |= {"images": images, "images_kwargs": {"size": size}}
        if audio := [p.audio for p in prompts if p.audio is not None]:
            media["audio"] = audio
        batch = self.processor(text=text, return_tensors="pt", padding=True, **media)
        self._check_media_tokens(batch)
        return batch

    def _check_media_tokens(self, batch: Any) -> None:
        """The processor must have left a token for every piece of every medium, or the model would not perceive it."""
        merge = self.processor.image_processor.merge_size**2
        grids = {self.processor.video_token: "video_grid_thw", self.processor.image_token: "image_grid_thw"}
        expected = {token: int(batch[grid].prod(-1).sum()) // merge for token, grid in grids.items() if grid in batch}
        if "feature_attention_mask" in batch:
            lengths = (batch["feature_attention_mask"].sum(-1) - 1) // 2 + 1
            expected[self.processor.audio_token] = int(((lengths - 2) // 2 + 1).sum())
        for token, count in expected.items():
            found = int((batch["input_ids"] == self.processor.tokenizer.convert_tokens_to_ids(token)).sum())
            if found != count:
                raise RuntimeError(f"the processor made {found} {token} tokens for {count} pieces of media")

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        min_pixels: int,
        max_pixels: int,
        max_new_tokens: int,
        fps: float | None = None,
    ) -> list[Completion]:
        """Greedy completions, one a prompt, in order; all prompts hold the same media. `fps`: the nominal rate at
        which video frames are presented."""
        batch = self._encode(prompts, min_pixels, max_pixels, fps).to(self.device)
        for name in ("pixel_values", "pixel_values_videos", "input_features"):
            if name in batch:
                batch[name] = batch[name].to(self.model.dtype)
        output = self.model.generate(
            **batch,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        generated = output.sequences[:, batch["input_ids"].shape[1] :]
        logits = torch.stack(output.logits, 1).float()
        log_probabilities = logits.log_softmax(-1).gather(-1, generated[..., None])[..., 0]
        tokenizer = self.processor.tokenizer
        real = generated != tokenizer.pad_token_id
        confidence = ((log_probabilities * real).sum(1) / real.sum(1).clamp(min=1)).exp().tolist()
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
        patch = self.processor.image_processor.patch_size
        grids = iter(batch["image_grid_thw"].tolist() if "image_grid_thw" in batch else [])
        sizes: list[tuple[int, int] | None] = [(w * patch, h * patch) for _, h, w in grids]
        sizes = sizes or [None] * len(texts)
        return [Completion(*row) for row in zip(texts, confidence, sizes, strict=True)]
