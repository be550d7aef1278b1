"""The Thinkers at full size, built without memory: names and shapes of every tensor that their checkpoints must have.

Their sizes are those of the `config.json` of Qwen2.5-Omni 7B and 3B; Omni-R1 is the 7B's Thinker. What follows
from them is written down here a second time, beside transformers. SAM2 is in `test_full_size_sam2`.
"""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from backend.profiles import ModelProfile, load_profile
from workers.pipeline import weight_files
from workers.pipeline.engines.thinker import Qwen2_5OmniThinkerConfig, without_weights

GOLDEN = Path(__file__).parent.parent / "golden" / "thinkers"
#: By the name of the weights: the sizes they were made with, and the millions of parameters that come of them.
THINKERS = {
    "Haoz0206/Omni-R1": ("qwen2.5-omni-7b", 8932),
    "Qwen/Qwen2.5-Omni-7B": ("qwen2.5-omni-7b", 8932),
    "Qwen/Qwen2.5-Omni-3B": ("qwen2.5-omni-3b", 4703),
}
#: Tensors and parameters of each part, by the sizes they were made with.
PARTS = {
    "qwen2.5-omni-7b": {
        "audio_tower": (489, 639_647_232),
        "visual": (518, 676_550_144),
        "model": (338, 7_070_619_136),
        "lm_head": (1, 544_997_376),
    },
    "qwen2.5-omni-3b": {
        "audio_tower": (489, 637_676_544),
        "visual": (518, 668_684_288),
        "model": (434, 3_085_938_688),
        "lm_head": (1, 311_164_928),
    },
}
FULL_SIZE = ("omni-r1-7b", "qwen2.5-omni-7b", "qwen2.5-omni-3b")
Shapes = dict[str, tuple[int, ...]]


def affine(name: str, out: int, into: int, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def ears(c: dict[str, Any]) -> Shapes:
    width = c["d_model"]
    found: Shapes = {"audio_bos_eos_token.weight": (2, c["output_dim"])} | affine("proj", c["output_dim"], width)
    for name, into in (("conv1", c["num_mel_bins"]), ("conv2", width)):
        found |= {f"{name}.weight": (width, into, 3), f"{name}.bias": (width,)}
    norms = ["ln_post"]
    for n in range(c["encoder_layers"]):
        at = f"layers.{n}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= affine(f"{at}.self_attn.{name}", width, width, bias=name != "k_proj")
        found |= affine(f"{at}.fc1", c["encoder_ffn_dim"], width) | affine(f"{at}.fc2", width, c["encoder_ffn_dim"])
        norms += [f"{at}.self_attn_layer_norm", f"{at}.final_layer_norm"]
    return found | {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}


def eyes(c: dict[str, Any]) -> Shapes:
    width, inner, patch = c["hidden_size"], c["intermediate_size"], c["patch_size"]
    found: Shapes = {"patch_embed.proj.weight": (width, c["in_channels"], c["temporal_patch_size"], patch, patch)}
    for n in range(c["depth"]):
        at = f"blocks.{n}"
        for name in ("q", "k", "v", "proj"):
            found |= affine(f"{at}.attn.{name}", width, width)
        for name in ("gate_proj", "up_proj"):
            found |= affine(f"{at}.mlp.{name}", inner, width)
        found |= affine(f"{at}.mlp.down_proj", width, inner)
        found |= {f"{at}.norm1.weight": (width,), f"{at}.norm2.weight": (width,)}
    merged = width * c["spatial_merge_size"] ** 2
    found |= {"merger.ln_q.weight": (width,)} | affine("merger.mlp.0", merged, merged)
    return found | affine("merger.mlp.2", c["out_hidden_size"], merged)


def words(c: dict[str, Any]) -> Shapes:
    width, inner = c["hidden_size"], c["intermediate_size"]
    narrow = width // c["num_attention_heads"] * c["num_key_value_heads"]
    found: Shapes = {"embed_tokens.weight": (c["vocab_size"], width), "norm.weight": (width,)}
    for n in range(c["num_hidden_layers"]):
        at = f"layers.{n}"
        for name, out in (("q_proj", width), ("k_proj", narrow), ("v_proj", narrow)):
            found |= affine(f"{at}.self_attn.{name}", out, width)
        found |= affine(f"{at}.self_attn.o_proj", width, width, bias=False)
        for name, out, into in (("gate_proj", inner, width), ("up_proj", inner, width), ("down_proj", width, inner)):
            found |= affine(f"{at}.mlp.{name}", out, into, bias=False)
        found |= {f"{at}.input_layernorm.weight": (width,), f"{at}.post_attention_layernorm.weight": (width,)}
    return found


def thinker_shapes(config: dict[str, Any]) -> Shapes:
    text = config["text_config"]
    found: Shapes = {"lm_head.weight": (text["vocab_size"], text["hidden_size"])}
    parts = (
        ("audio_tower", ears(config["audio_config"])),
        ("visual", eyes(config["vision_config"])),
        ("model", words(text)),
    )
    return found | {f"{part}.{name}": shape for part, shapes in parts for name, shape in shapes.items()}


def millions(shapes: Shapes) -> int:
    return round(sum(map(math.prod, shapes.values())) / 1e6)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_a_full_size_thinker_loads_just_these_tensors(name: str) -> None:
    profile = load_profile(name)
    sizes, parameters = THINKERS[profile.system1.weights.name]
    config = json.loads((GOLDEN / f"{sizes}.json").read_text())
    model = without_weights(Qwen2_5OmniThinkerConfig(**config))
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    needed = weight_files.shapes(model)
    assert needed == thinker_shapes(config)
    assert millions(needed) == parameters
    tensors, numbers = Counter[str](), Counter[str]()
    for key, shape in needed.items():
        part = key.split(".")[0]
        tensors[part] += 1
        numbers[part] += math.prod(shape)
    assert {part: (tensors[part], numbers[part]) for part in tensors} == PARTS[sizes]


@pytest.mark.parametrize("name", FULL_SIZE)
def test_what_the_profile_shows_has_room_in_the_model(name: str) -> None:
    """Frames, sound and the answer together, at the model's own measures: see `engines.media`."""
    profile: ModelProfile = load_profile(name)
    config = json.loads((GOLDEN / f"{THINKERS[profile.system1.weights.name][0]}.json").read_text())
    look, vision = profile.system1, config["vision_config"]
    cell = vision["patch_size"] * vision["spatial_merge_size"]
    seen = look.max_frames // vision["temporal_patch_size"] * (look.max_pixels // cell**2)
    heard = round(look.audio_max_s * config["position_id_per_seconds"])
    said = look.max_instruction_chars + look.max_new_tokens
    assert seen == 1536
    assert seen + heard + said < config["text_config"]["max_position_embeddings"]
