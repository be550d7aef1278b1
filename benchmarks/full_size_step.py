"""What a GRPO step at full size takes, by arithmetic: `python -m benchmarks.full_size_step`.

Nothing is run and no weights are needed: the Thinker of Qwen2.5-Omni-7B and SAM2.1-large are built on the meta device,
parameters and adapters are counted there, and memory and time follow from the counts, the lengths that the settings
allow, and what an accelerator can do. The shares of its peak that are reached are assumptions, printed with the rest; a
measured step takes the place of this page where a GPU is at hand. The lower of two times is never taken for granted:
generation is bound by reading weights and cache, all else by arithmetic.

Formulas: a forward pass costs 2 operations for each parameter and token, and 2 · layers · width · length² for causal
attention; going back costs as much again for the inputs, once more for each trained weight, and once more where the
forward pass is made again for it (checkpointing). AdamW keeps two numbers of four bytes a trained weight, beside weight
and gradient. Another object costs SAM2 a quarter of a frame with one (assumed; its encoder is shared).
"""

import argparse
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from backend.profiles import ModelProfile, load_profile
from backend.settings import TrainingSettings
from workers.learning.run import LANGUAGE_LAYERS
from workers.pipeline.engines.thinker import Qwen2_5OmniThinkerConfig, without_weights
from workers.pipeline.sam2_model import build_model

_CONFIGS = Path("tests/golden/thinkers")
_GB = 1e9
_HALF, _FULL = 2, 4  # bytes of a number
#: Of a frame's time with one object, that each further one takes (assumed).
_OBJECT_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Peak of dense bf16 products and of memory, bytes, and the shares of both that are reached (assumed)."""

    name: str
    operations_per_s: float
    bytes_per_s: float
    memory_gb: float
    arithmetic_share: float
    reading_share: float


#: Nvidia's data sheet of the H100 SXM: 989 TFLOP/s dense bf16, 3.35 TB/s, 80 GB.
H100 = Accelerator("H100 SXM", 989e12, 3.35e12, 80.0, 0.4, 0.6)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens: of the video, of System 1's prompt with it, of its completion; of a keyframe, of System 2's prompt with
    it, and of its answer. `detections`: objects that SAM2 carries at one time."""

    seen: int
    prompt: int
    completion: int
    looked_at: int
    picture: int
    boxes: int
    frames: int
    keyframes: int
    detections: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of the whole, the language model and the vision tower, and those trained; layers, width and vocabulary
    of the language model; bytes that its cache takes for a token."""

    thinker: int
    language: int
    eyes: int
    trained: int
    segmenter: int
    layers: int
    width: int
    vocabulary: int
    cache_bytes: int


def sizes(profile: ModelProfile, config: dict[str, Any], rank: int) -> Sizes:
    """Counted on models without weights."""
    model = without_weights(Qwen2_5OmniThinkerConfig(**config))
    parameters = sum(p.numel() for p in model.parameters())
    language, eyes = (
        sum(p.numel() for name, p in model.named_parameters() if name.startswith(parts))
        for parts in (("model.", "lm_head."), ("visual.",))
    )
    adapters = adapter_parameters(model, rank)
    with init_empty_weights():
        segmenter: torch.nn.Module = build_model(profile.segmenter, "meta")
    text = config["text_config"]
    head = text["hidden_size"] // text["num_attention_heads"]
    return Sizes(
        parameters, language, eyes, adapters or language, sum(p.numel() for p in segmenter.parameters()),
        text["num_hidden_layers"], text["hidden_size"], text["vocab_size"],
        2 * text["num_hidden_layers"] * text["num_key_value_heads"] * head * _HALF,
    )  # fmt: skip


def adapter_parameters(model: torch.nn.Module, rank: int) -> int:
    """An adapter is two matrices, from the layer's input to the rank and from there to its output."""
    return sum(
        rank * (layer.in_features + layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and re.fullmatch(LANGUAGE_LAYERS, name)
    )


def memory_gb(size: Sizes, long: Lengths, settings: TrainingSettings) -> dict[str, float]:
    """What lies on the device at once, and the two peaks: of writing a group, and of a micro-batch of the loss."""
    whole, rows = long.prompt + long.completion, settings.micro_batch
    # A checkpoint a layer, and one layer's inner products made again at a time (its feed-forward is the widest part).
    saved = rows * whole * size.width * size.layers * _HALF
    again = rows * whole * size.width * 16 * _HALF
    # bf16 logits, their float copy, log-softmax and gradient.
    logits = rows * long.completion * size.vocabulary * (_HALF + 3 * _FULL)
    # Without adapters the reference is a model of its own, and the policy's weights are among those trained.
    fixed = {
        "System 1, frozen (without adapters: the reference)": size.thinker * _HALF,
        "what is trained: weight, gradient, AdamW": size.trained * 4 * _FULL,
        "System 2, frozen, a model of its own": size.thinker * _HALF,
        "SAM2": size.segmenter * _FULL,
    }
    peaks = {
        "writing: cache of a group": settings.group_size * whole * size.cache_bytes,
        "loss: layers' outputs kept": saved, "loss: one layer again": again, "loss: logits": logits,
    }  # fmt: skip
    found = {name: value / _GB for name, value in (fixed | peaks).items()}
    on_it = sum(fixed.values())
    found["peak"] = (on_it + max(peaks["writing: cache of a group"], saved + again + logits)) / _GB
    return found


def operations(size: Sizes, tokens: int, length: int, passes: float = 1.0) -> float:
    """Of forward passes over so many tokens in sequences of that length."""
    attention = 2 * size.layers * size.width * length * tokens
    return passes * (2 * size.language * tokens + attention)


def seconds(
    size: Sizes, long: Lengths, settings: TrainingSettings, on: Accelerator, frames_per_s: float
) -> dict[str, float]:
    """Of one prompt's group on one accelerator. `frames_per_s`: SAM2's, with one object."""
    rate, reading = on.operations_per_s * on.arithmetic_share, on.bytes_per_s * on.reading_share
    group, whole = settings.group_size, long.prompt + long.completion
    # Again and back; with all weights trained, what they are to become as well.
    passes = 3.0 if settings.lora_rank else 4.0
    mean_cache = group * (long.prompt + long.completion / 2) * size.cache_bytes
    scored = group * whole
    looks = group * long.keyframes

    def seen(tokens: int) -> float:
        """The vision tower looks at four patches for each token that it hands on."""
        return 2 * size.eyes * 4 * tokens

    return {
        "System 1 reads the clip": (operations(size, long.prompt, long.prompt) + seen(long.seen)) / rate,
        "System 1 writes the group": long.completion * (size.language * _HALF + mean_cache) / reading,
        "System 2 reads the keyframes": looks
        * (operations(size, long.picture, long.picture) + seen(long.looked_at))
        / rate,
        "System 2 writes the boxes": long.boxes * size.language * _HALF * -(-looks // 8) / reading,
        "SAM2 carries the group": long.frames * 2 * (1 + _OBJECT_SHARE * (long.detections - 1)) / frames_per_s,
        "loss: reference, forward": operations(size, scored, whole) / rate,
        "loss: policy, forward, again and back": operations(size, scored, whole, passes) / rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, default=64, help="of the adapters; 0: all weights of the language model")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--completion", type=int, default=300, help="tokens that System 1 writes on average")
    parser.add_argument("--detections", type=int, default=8, help="different boxes of a group that SAM2 carries")
    parser.add_argument("--frames-per-s", type=float, default=39.5, help="of SAM2.1-large, as Meta measured it")
    asked = parser.parse_args()
    profile = load_profile("omni-r1-7b")
    config = json.loads((_CONFIGS / "qwen2.5-omni-7b.json").read_text())
    one, two = profile.system1, profile.system2
    cell = (config["vision_config"]["patch_size"] * config["vision_config"]["spatial_merge_size"]) ** 2
    video = one.max_frames // config["vision_config"]["temporal_patch_size"] * (one.max_pixels // cell)
    picture = two.max_pixels // cell
    # The prompts have about 200 and 25 words, the instruction and the frame around them some more: 350 and 80 tokens.
    long = Lengths(
        video, video + 350, asked.completion, picture, picture + 80, 60, one.max_frames, 4, asked.detections
    )  # fmt: skip
    settings = TrainingSettings(lora_rank=asked.rank, micro_batch=asked.micro_batch, gradient_checkpointing=True)
    size = sizes(profile, config, asked.rank)
    memory, took = memory_gb(size, long, settings), seconds(size, long, settings, H100, asked.frames_per_s)
    for name, value in memory.items():
        print(f"{name:<52}{value:8.1f} GB")
    for name, value in took.items():
        print(f"{name:<52}{value:8.2f} s")
    whole = sum(took.values())
    print(f"{'one group on one ' + H100.name:<52}{whole:8.2f} s")
    print(json.dumps({
        "benchmark": "full_size_step", "measured": False, "accelerator": asdict(H100), "sizes": asdict(size),
        "lengths": asdict(long), "memory_gb": memory, "seconds": took, "seconds_per_group": whole,
        "fits": memory["peak"] < H100.memory_gb,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
