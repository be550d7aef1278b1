"""The Qwen2.5-Omni Thinker in this process: one model with its processor, generating greedily for one batch.

What it is shown is made by `presenting`, which training shares.
"""

from collections.abc import Sequence
from typing import Any

import torch

from backend.domain.errors import Misconfigured
from backend.profiles import Weights
from workers.pipeline import torchvision_cpu, weight_files
from workers.pipeline.engines import Completion, Prompt
from workers.pipeline.engines.presenting import load_processor, present

torchvision_cpu.install()

from transformers import (  # noqa: E402  (after torchvision was made importable)
    LogitsProcessor,
    LogitsProcessorList,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from workers.pipeline.engines.towers import TowerMemory  # noqa: E402  (as above)


def without_weights(config: Any) -> Any:
    """The Thinker of that `Qwen2_5OmniThinkerConfig` with tensors that have a shape and no memory."""
    model: Any = Qwen2_5OmniThinkerForConditionalGeneration
    with torch.device("meta"):
        return model(config)


def load_model(weights: Weights, dtype: str, attention: str = "sdpa") -> Any:
    """The Thinker on the CPU. Of weights that are stored in `dtype` no second copy comes to be: the tensors are the
    mapped files.

    Raises `Misconfigured` if the weights are not where they are said to be, or not those of a Thinker as its
    `config.json` describes it; then it says which file and which tensor. Or if its `attention` is not installed.
    """
    folder = weight_files.thinker_folder(weights)
    # transformers' own annotations reject what its documentation shows, hence Any.
    loader: Any = Qwen2_5OmniThinkerForConditionalGeneration
    needed = weight_files.shapes(without_weights(Qwen2_5OmniThinkerConfig.from_pretrained(folder)))
    weight_files.require(needed, weight_files.of_thinker(folder), folder)
    try:
        return loader.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation=attention)
    except ImportError as error:
        raise Misconfigured(f"the model profile's attention = {attention!r} can't be had here: {error}") from error


class _Chosen(LogitsProcessor):
    """Log-probabilities of the tokens, noted as they are chosen. To keep the logits until the end takes 600 KB a token
    and row at full size, some gigabytes for a batch of System 2."""

    def __init__(self) -> None:
        self._next: torch.Tensor | None = None
        self._noted = list[torch.Tensor]()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._note(input_ids)
        self._next = scores.float().log_softmax(-1)
        return scores

    def _note(self, token_ids: torch.Tensor) -> None:
        if self._next is not None:
            self._noted.append(self._next.gather(-1, token_ids[:, -1:])[:, 0])

    def log_probabilities(self, token_ids: torch.Tensor) -> torch.Tensor:
        """(rows, tokens written); `token_ids`: all of them, which end generation."""
        self._note(token_ids)
        return torch.stack(self._noted, 1)


class Thinker:
    def __init__(self, weights: Weights, dtype: str, device: str, attention: str = "sdpa") -> None:
        self.device = torch.device(device)
        self.processor: Any = load_processor(weights)
        self.model = load_model(weights, dtype, attention)
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
        chosen = _Chosen()
        written = self.model.generate(
            **batch, max_new_tokens=max_new_tokens, do_sample=False, logits_processor=LogitsProcessorList([chosen])
        )
        generated = written[:, batch["input_ids"].shape[1] :]
        log_probabilities = chosen.log_probabilities(written)
        tokenizer = self.processor.tokenizer
        real = generated != tokenizer.pad_token_id
        confidence = ((log_probabilities * real).sum(1) / real.sum(1).clamp(min=1)).exp().tolist()
        lowest = (log_probabilities * real).amin(1).exp().tolist()
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
        patch = self.processor.image_processor.patch_size
        grids = iter(batch["image_grid_thw"].tolist() if "image_grid_thw" in batch else [])
        sizes: list[tuple[int, int] | None] = [(w * patch, h * patch) for _, h, w in grids]
        sizes = sizes or [None] * len(texts)
        return [Completion(*row) for row in zip(texts, confidence, lowest, sizes, strict=True)]
