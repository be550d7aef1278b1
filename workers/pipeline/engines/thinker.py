"""The Qwen2.5-Omni Thinker in this process: one model with its processor, generating greedily for one batch.

What it is shown is made by `presenting`, which training shares.
"""

from collections.abc import Sequence
from typing import Any

import torch

from backend.profiles import Weights
from workers.pipeline import torchvision_cpu, weight_files
from workers.pipeline.engines import Completion, Prompt
from workers.pipeline.engines.presenting import load_processor, present

torchvision_cpu.install()

from transformers import (  # noqa: E402  (after torchvision was made importable)
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from workers.pipeline.engines.towers import TowerMemory  # noqa: E402  (as above)


def without_weights(config: Any) -> Any:
    """The Thinker of that `Qwen2_5OmniThinkerConfig` with tensors that have a shape and no memory."""
    model: Any = Qwen2_5OmniThinkerForConditionalGeneration
    with torch.device("meta"):
        return model(config)


def load_model(weights: Weights, dtype: str) -> Any:
    """The Thinker on the CPU. Of weights that are stored in `dtype` no second copy comes to be: the tensors are the
    mapped files.

    Raises `Misconfigured` if the weights are not where they are said to be, or not those of a Thinker as its
    `config.json` describes it; then it says which file and which tensor.
    """
    folder = weight_files.thinker_folder(weights)
    # transformers' own annotations reject what its documentation shows, hence Any.
    loader: Any = Qwen2_5OmniThinkerForConditionalGeneration
    needed = weight_files.shapes(without_weights(Qwen2_5OmniThinkerConfig.from_pretrained(folder)))
    weight_files.require(needed, weight_files.of_thinker(folder), folder)
    return loader.from_pretrained(folder, dtype=getattr(torch, dtype))


class Thinker:
    def __init__(self, weights: Weights, dtype: str, device: str) -> None:
        self.device = torch.device(device)
        self.processor: Any = load_processor(weights)
        self.model = load_model(weights, dtype)
        self.model.to(self.device).eval()
        self.towers = TowerMemory(self.model)

    @property
    def sample_rate_hz(self) -> int:
        return int(self.processor.feature_extractor.sampling_rate)

    @property
    def size_multiple_px(self) -> int:
        pictures = self.processor.image_processor
        return int(pictures.patch_size * pictures.merge_size)

    def _encode(self, prompts: Sequence[Prompt], min_pixels: int, max_pixels: int, fps: float | None) -> Any:
        return present(self.processor, prompts, min_pixels=min_pixels, max_pixels=max_pixels, fps=fps)

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
