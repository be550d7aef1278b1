"""SAM2.1 at full size, built without memory: names and shapes of every tensor that Meta's checkpoints must have.

Sizes are those of the configurations in Meta's `sam2` package; what follows from them is written down here a second
time. The millions of parameters are those of the table of checkpoints in its README (SAM 2.1, "Size (M)"), which cuts
them off after one decimal: the base plus, of 80,850,178, is published as 80.8. Counted are what is learned; a
checkpoint also holds the 2 × 128 drawn numbers of the prompt encoder's positions.
"""

import math
from collections import Counter
from itertools import accumulate, pairwise

import pytest
from accelerate import init_empty_weights

from backend.profiles import SEGMENTERS_DIR, load_profile
from workers.pipeline import weight_files
from workers.pipeline.sam2_model import build_model

Shapes = dict[str, tuple[int, ...]]
#: Width of the first stage, depths of the stages, side of the window that positions are learned in, and of the picture
#: they are learned for in patches; millions of parameters as published.
SIZES = {
    "sam2.1-tiny": (96, (1, 2, 7, 2), 8, 7, 38.9),
    "sam2.1-small": (96, (1, 2, 11, 2), 8, 7, 46.0),
    "sam2.1-base-plus": (112, (2, 3, 16, 3), 8, 14, 80.8),
    "sam2.1-large": (144, (2, 6, 36, 4), 8, 7, 224.4),
}
#: Tensors and parameters of the picture encoder.
ENCODERS = {
    "sam2.1-tiny": (162, 27_219_136),
    "sam2.1-small": (210, 34_316_992),
    "sam2.1-base-plus": (306, 69_106_816),
    "sam2.1-large": (594, 212_703_280),
}
#: Tensors and parameters of what is the same in every size.
SAME = {
    "maskmem_tpos_enc": (1, 448),
    "no_mem_embed": (1, 256),
    "no_mem_pos_enc": (1, 256),
    "no_obj_ptr": (1, 256),
    "no_obj_embed_spatial": (1, 64),
    "mask_downsample": (2, 17),
    "memory_attention": (106, 5_922_304),
    "memory_encoder": (40, 1_384_608),
    "sam_prompt_encoder": (17, 6_476),
    "sam_mask_decoder": (131, 4_215_109),
    "obj_ptr_proj": (6, 197_376),
    "obj_ptr_tpos_proj": (2, 16_448),
}
#: Channels of feature maps, of memories, within cross attention of the mask decoder, and of what is upscaled.
WIDE, MEMORY, NARROW = 256, 64, 128
#: Drawn once and never learned.
DRAWN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def affine(name: str, *shape: int) -> Shapes:
    """A weight of that shape and a bias for its first side: what a linear layer, a convolution and a norm have."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def within(place: str, *parts: Shapes) -> Shapes:
    return {f"{place}.{name}": shape for part in parts for name, shape in part.items()}


def layers(*sides: int) -> Shapes:
    """A perceptron's."""
    found = [affine(f"{n}", out, into) for n, (into, out) in enumerate(pairwise(sides))]
    return within("layers", *found)


def perceptron(name: str, *sides: int) -> Shapes:
    return within(name, layers(*sides))


def attention(name: str, inner: int = WIDE, read: int = WIDE) -> Shapes:
    projections = [affine("q_proj", inner, WIDE), affine("k_proj", inner, read), affine("v_proj", inner, read)]
    return within(name, *projections, affine("out_proj", WIDE, inner))


def downscaling(name: str, channels: tuple[int, ...], kernel: int) -> Shapes:
    """From one channel through those: convolutions, each with its norm and what is no tensor; then one without."""
    sides = (1, *channels)
    steps = [
        affine(f"{3 * n}", out, into, kernel, kernel) | affine(f"{3 * n + 1}", out)
        for n, (into, out) in enumerate(pairwise(sides))
    ]
    return within(name, *steps, affine(f"{3 * len(channels)}", WIDE, channels[-1], 1, 1))


def trunk(width: int, depths: tuple[int, ...], window: int, learned: int) -> Shapes:
    """Hiera: as wide again with every stage, and its first block brings what it gets to that width."""
    begins = set(accumulate(depths[:-1]))
    found: Shapes = {"pos_embed": (1, width, learned, learned), "pos_embed_window": (1, width, window, window)}
    found |= affine("patch_embed.proj", width, 3, 7, 7)
    into = out = width
    for n in range(sum(depths)):
        out = into * 2 if n in begins else into
        parts = [affine("norm1", into), affine("attn.qkv", 3 * out, into), affine("attn.proj", out, out)]
        parts += [affine("norm2", out), perceptron("mlp", out, 4 * out, out)]
        found |= within(f"blocks.{n}", *parts, affine("proj", out, into) if out != into else {})
        into = out
    return found


def encoder(width: int, depths: tuple[int, ...], window: int, learned: int) -> Shapes:
    necks = [affine(f"neck.convs.{n}.conv", WIDE, width * 2 ** (3 - n), 1, 1) for n in range(4)]
    return within("trunk", trunk(width, depths, window, learned)) | {k: v for neck in necks for k, v in neck.items()}


def memory_attention() -> Shapes:
    """Four layers that look at the frame itself and at its memories."""
    looks = [attention("self_attn"), attention("cross_attn_image", read=MEMORY)]
    steps = [affine("linear1", 2048, WIDE), affine("linear2", WIDE, 2048)]
    norms = [affine(f"norm{n}", WIDE) for n in (1, 2, 3)]
    return affine("norm", WIDE) | {
        k: v for n in range(4) for k, v in within(f"layers.{n}", *looks, *steps, *norms).items()
    }


def memory_encoder() -> Shapes:
    found = within("mask_downsampler", downscaling("encoder", (4, 16, 64, 256), 3))
    for n in range(2):
        parts: list[Shapes] = [{"gamma": (WIDE,)}, affine("dwconv", WIDE, 1, 7, 7), affine("norm", WIDE)]
        parts += [affine("pwconv1", 4 * WIDE, WIDE), affine("pwconv2", WIDE, 4 * WIDE)]
        found |= within(f"fuser.layers.{n}", *parts)
    return found | affine("pix_feat_proj", WIDE, WIDE, 1, 1) | affine("out_proj", MEMORY, WIDE, 1, 1)


def prompt_encoder() -> Shapes:
    words = [*(f"point_embeddings.{n}" for n in range(4)), "not_a_point_embed", "no_mask_embed"]
    found: Shapes = {"pe_layer.positional_encoding_gaussian_matrix": (2, WIDE // 2)}
    found |= {f"{word}.weight": (1, WIDE) for word in words}
    return found | downscaling("mask_downscaling", (4, 16), 2)


def mask_decoder() -> Shapes:
    found: Shapes = {
        "iou_token.weight": (1, WIDE),
        "mask_tokens.weight": (4, WIDE),
        "obj_score_token.weight": (1, WIDE),
    }
    for n in range(2):
        ways = [attention(f"cross_attn_{way}", NARROW) for way in ("token_to_image", "image_to_token")]
        norms = [affine(f"norm{i}", WIDE) for i in (1, 2, 3, 4)]
        parts = [attention("self_attn"), *ways, *norms, perceptron("mlp", WIDE, 2048, WIDE)]
        found |= within(f"transformer.layers.{n}", *parts)
    last = attention("final_attn_token_to_image", NARROW)
    found |= within("transformer", last, affine("norm_final_attn", WIDE))
    # Transposed convolutions count what they take first.
    found |= {"output_upscaling.0.weight": (WIDE, 64, 2, 2), "output_upscaling.0.bias": (64,)}
    found |= {"output_upscaling.3.weight": (64, 32, 2, 2), "output_upscaling.3.bias": (32,)}
    found |= affine("output_upscaling.1", 64) | affine("conv_s0", 32, WIDE, 1, 1) | affine("conv_s1", 64, WIDE, 1, 1)
    for n in range(4):
        found |= perceptron(f"output_hypernetworks_mlps.{n}", WIDE, WIDE, WIDE, 32)
    found |= perceptron("iou_prediction_head", WIDE, WIDE, WIDE, 4)
    return found | perceptron("pred_obj_score_head", WIDE, WIDE, WIDE, 1)


def sam2_shapes(name: str) -> Shapes:
    """Six memories and the prompted frame's, two words for no memory, a pointer and a place for what isn't seen."""
    found: Shapes = {
        "maskmem_tpos_enc": (7, 1, 1, MEMORY),
        "no_obj_ptr": (1, WIDE),
        "no_obj_embed_spatial": (1, MEMORY),
    }
    found |= {"no_mem_embed": (1, 1, WIDE), "no_mem_pos_enc": (1, 1, WIDE)}
    parts = {
        "image_encoder": encoder(*SIZES[name][:4]),
        "memory_attention": memory_attention(),
        "memory_encoder": memory_encoder(),
        "sam_prompt_encoder": prompt_encoder(),
        "sam_mask_decoder": mask_decoder(),
        "obj_ptr_proj": layers(*[WIDE] * 4),
    }
    for place, shapes in parts.items():
        found |= within(place, shapes)
    return found | affine("mask_downsample", 1, 1, 4, 4) | affine("obj_ptr_tpos_proj", MEMORY, WIDE)


def built(name: str) -> Shapes:
    with init_empty_weights():
        model = build_model(load_profile(f"omni-r1-7b+{name}").segmenter, "meta")
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.image_size == 1024
    return weight_files.shapes(model)


def test_every_size_is_shipped() -> None:
    assert {path.stem for path in SEGMENTERS_DIR.glob("*.toml")} == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_full_size_sam2_loads_just_these_tensors(name: str) -> None:
    assert built(name) == sam2_shapes(name)


@pytest.mark.parametrize("name", SIZES)
def test_a_full_size_sam2_has_as_many_parameters_as_published(name: str) -> None:
    *_, millions = SIZES[name]
    needed = built(name)
    learned = sum(math.prod(shape) for key, shape in needed.items() if key != DRAWN)
    assert learned // 100_000 == round(millions * 10)
    assert needed[DRAWN] == (2, 128)


@pytest.mark.parametrize("name", SIZES)
def test_each_part_of_a_full_size_sam2_has_so_many_tensors_and_parameters(name: str) -> None:
    tensors, parameters = Counter[str](), Counter[str]()
    for key, shape in built(name).items():
        part = key.split(".")[0]
        tensors[part] += 1
        parameters[part] += math.prod(shape)
    assert {part: (tensors[part], parameters[part]) for part in tensors} == SAME | {"image_encoder": ENCODERS[name]}
