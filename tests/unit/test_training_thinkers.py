"""The faster way through a Thinker in training is the class's own forward; its tokens and optimizers are as said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from backend.domain.errors import BadInput
from workers.shapeworld.training import layers, thinkers
from workers.shapeworld.training.attention import attend
from workers.shapeworld.training.optimizers import make_optimizers
from workers.shapeworld.training.thinkers import (
    ThinkerSize,
    make_processor,
    make_thinker,
    make_tokenizer,
    pack_patches,
    read,
    save_checkpoint,
    see,
)

SIZE = ThinkerSize(
    width=64, layers=2, feed_forward=96, rope_theta=1000.0, mrope_section=(*[1] * 9, 7), vision_width=64,
    vision_layers=2, patch_px=8, vision_begins_alike=True,
)  # fmt: skip
TEXTS = ["Locate the red circle", "the blue star", "user\nassistant\n"] * 20


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    numbers = [str(number) for number in range(30)]
    return make_tokenizer(TEXTS, vocabulary=300, pieces=['[{"bbox_2d": ['], numbers=numbers)


@pytest.fixture
def thinker(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    return make_thinker(tokenizer, SIZE)


def encode(processor: Any, frames: np.ndarray[Any, Any], medium: str) -> Any:
    """What the pipeline's processor makes of one picture or video that needs no resizing, after some words."""
    content = [{"type": "text", "text": "Locate the red circle"}, {"type": medium, medium: "it"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    pixels = frames.shape[1] * frames.shape[2]
    size = {"shortest_edge": pixels, "longest_edge": pixels}
    if medium == "image":
        return processor(text=[text], images=[frames[0]], images_kwargs={"size": size}, return_tensors="pt")
    videos = [torch.from_numpy(frames).permute(0, 3, 1, 2)]
    options = {"fps": 4.0, "do_sample_frames": False, "size": size}
    return processor(text=[text], videos=videos, videos_kwargs=options, return_tensors="pt")


@pytest.mark.parametrize(("medium", "frame_count"), [("image", 1), ("video", 4)])
def test_pictures_are_packed_and_seen_as_by_the_real_classes(
    tokenizer: Any, thinker: Any, medium: str, frame_count: int
) -> None:
    processor = make_processor(tokenizer, patch_px=8, max_pixels=96 * 64)
    frames = np.random.default_rng(0).integers(0, 256, (frame_count, 64, 96, 3), np.uint8)
    encoded = encode(processor, frames, medium)
    suffix, pieces = ("", 1) if medium == "image" else ("_videos", 2)
    patches = pack_patches(torch.from_numpy(frames)[None], 8)
    assert patches.shape[0] == pieces
    assert torch.allclose(patches.flatten(0, 1), encoded[f"pixel_values{suffix}"], atol=1e-5)
    grid = encoded[f"{medium}_grid_thw"]
    real = thinker.visual(encoded[f"pixel_values{suffix}"], grid_thw=grid).pooler_output
    assert torch.allclose(see(thinker.visual, patches, (8, 12)).flatten(0, 1), real, atol=1e-5)


def test_reading_is_the_real_forward(tokenizer: Any, thinker: Any) -> None:
    processor = make_processor(tokenizer, patch_px=8, max_pixels=96 * 64)
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    encoded = encode(processor, frames, "image")
    positions, _ = thinker.get_rope_index(
        encoded["input_ids"], image_grid_thw=encoded["image_grid_thw"], attention_mask=encoded["attention_mask"]
    )
    tokens = see(thinker.visual, pack_patches(torch.from_numpy(frames)[None], 8), (8, 12))
    embedded = thinker.get_input_embeddings()(encoded["input_ids"])
    at_picture = encoded["input_ids"] == tokenizer.convert_tokens_to_ids(thinkers.IMAGE)
    states = read(thinker, embedded.masked_scatter(at_picture[..., None], tokens), positions)
    assert len(states) == SIZE.layers + 1
    thinker.eval()
    assert torch.allclose(thinker.lm_head(states[-1]), thinker(**encoded).logits, atol=1e-4)


def test_shares_of_attention_are_those_of_the_real_forward(tokenizer: Any, thinker: Any) -> None:
    ids = torch.tensor([tokenizer("Locate the red circle Locate the blue star")["input_ids"]])
    positions = torch.arange(ids.shape[1]).expand(3, *ids.shape)
    states = read(thinker, thinker.get_input_embeddings()(ids), positions)
    thinker.eval().set_attn_implementation("eager")
    real = thinker(input_ids=ids, output_attentions=True).attentions[1]
    for heads, first in ((1, 3), (2, 0)):
        mine = layers.attention_log_shares(thinker, 1, states[1], positions, heads, first).exp()
        assert torch.allclose(mine, real[:, :heads, first:], atol=1e-5)


@pytest.mark.parametrize("first", [0, 1, 4, 8])
def test_what_is_said_from_a_position_on_is_the_end_of_the_whole_reading(
    tokenizer: Any, thinker: Any, first: int
) -> None:
    ids = torch.tensor([tokenizer("Locate the red circle Locate the blue star")["input_ids"]] * 2)
    assert ids.shape[1] > 8
    positions = torch.arange(ids.shape[1]).expand(3, *ids.shape)
    embedded = thinker.get_input_embeddings()(ids).detach().requires_grad_()
    whole, late = read(thinker, embedded, positions), read(thinker, embedded, positions, first)
    for one, other in zip(whole[:-1], late[:-1], strict=True):
        assert torch.equal(one, other)
    assert late[-1].shape[1] == ids.shape[1] - first
    assert torch.allclose(whole[-1][:, first:], late[-1], atol=1e-5)
    gradient = torch.randn_like(late[-1])
    [real] = torch.autograd.grad(whole[-1][:, first:], embedded, gradient)
    [mine] = torch.autograd.grad(late[-1], embedded, gradient)
    assert torch.allclose(mine, real, atol=1e-4)


@pytest.mark.parametrize("first", [None, 0, 1, 169, 299])
@pytest.mark.parametrize(("batch", "waves"), [(2, 1), (3, 3)])
def test_attention_and_its_gradient_are_those_of_the_softmax(first: int | None, batch: int, waves: int) -> None:
    """Also of the last positions alone, and of more queries than attend together."""
    torch.manual_seed(0)
    length, heads, channels = 300, 2, 8
    together = torch.randn(batch, length, 3, heads, channels, requires_grad=True)
    angle = 9 * torch.rand(waves, length, channels // 2).repeat(1, 1, 2)
    real = _softmax_attention(together, angle, 0.3, first)
    mine = attend(together, angle.cos(), angle.sin(), 0.3, first)
    assert torch.allclose(mine, real, atol=1e-5)
    gradient = torch.randn_like(real)
    [expected] = torch.autograd.grad(real, together, gradient)
    [found] = torch.autograd.grad(mine, together, gradient)
    assert torch.allclose(found, expected, atol=1e-4)


def _softmax_attention(together: torch.Tensor, angle: torch.Tensor, scaling: float, first: int | None) -> torch.Tensor:
    """The same by torch's own attention, each pair of channels turned as a complex number."""
    query, key, value = together.permute(2, 0, 3, 1, 4)
    turns = torch.polar(torch.ones(()), angle.chunk(2, -1)[0])[:, None]
    query, key = (
        torch.view_as_real(torch.complex(*part.chunk(2, -1)) * turns).movedim(-1, -2).flatten(-2)
        for part in (query, key)
    )
    length = together.shape[1]
    seen = None if first is None else torch.ones(length, length, dtype=torch.bool).tril()[first:]
    real = torch.nn.functional.scaled_dot_product_attention(query[:, :, first or 0 :], key, value, seen, scale=scaling)
    return real.transpose(1, 2).flatten(2)


def test_the_norm_and_its_gradient_are_those_of_the_class(thinker: Any) -> None:
    module = thinker.model.norm
    with torch.no_grad():
        module.weight.uniform_(0.5, 1.5)
    hidden = (3 * torch.randn(2, 5, SIZE.width)).requires_grad_()
    mine, real = layers.norm(module, hidden), module(hidden)
    assert torch.allclose(mine, real, atol=1e-5)
    gradient = torch.randn_like(real)
    inputs = (hidden, module.weight)
    for one, other in zip(
        torch.autograd.grad(mine, inputs, gradient), torch.autograd.grad(real, inputs, gradient), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-4)


def test_pieces_are_one_token_anywhere_and_numbers_only_alone(tokenizer: Any) -> None:
    words = [tokenizer.decode([i]) for i in tokenizer('[{"bbox_2d": [12, 3, 123')["input_ids"]]
    assert words[:2] == ['[{"bbox_2d": [', "12"]
    assert words[-3:] == ["1", "2", "3"]
    with pytest.raises(ValueError, match="purple"):
        thinkers.token_ids(tokenizer, ["purple"])


def test_every_parameter_that_learns_is_in_one_optimizer(thinker: Any) -> None:
    heads = torch.nn.Linear(4, 4)
    thinker.audio_tower.requires_grad_(False)
    optimizers = make_optimizers(thinker, heads, muon_scale=3.0)
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    learning = {id(p) for p in [*thinker.parameters(), *heads.parameters()] if p.requires_grad}
    assert len(held) == len(set(held))
    assert set(held) == learning
    muon = optimizers[1].param_groups[0]
    assert muon["scale"] == 3.0
    assert thinker.get_input_embeddings().weight.data_ptr() not in {p.data_ptr() for p in muon["params"]}


def test_a_checkpoint_is_half_precision_and_the_training_goes_on(tokenizer: Any, thinker: Any, tmp_path: Any) -> None:
    save_checkpoint(thinker, make_processor(tokenizer, patch_px=8, max_pixels=96 * 64), tmp_path)
    loaded = type(thinker).from_pretrained(tmp_path, dtype="auto")
    assert loaded.dtype == torch.bfloat16
    assert thinker.dtype == torch.float32
    assert torch.allclose(loaded.lm_head.weight.float(), thinker.lm_head.weight, rtol=1e-2, atol=1e-4)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "processor_config.json"} <= names


def test_eyes_are_those_of_the_checkpoint_but_for_a_last_layer_of_another_width(
    tokenizer: Any, thinker: Any, tmp_path: Any
) -> None:
    with torch.no_grad():
        for weight in thinker.visual.parameters():
            weight.add_(1)
    save_checkpoint(thinker, make_processor(tokenizer, patch_px=8, max_pixels=96 * 64), tmp_path)
    other = make_thinker(tokenizer, replace(SIZE, width=96))
    before = {name: weight.clone() for name, weight in other.named_parameters()}
    assert len(thinkers.take_eyes(other, tmp_path)) == 64
    given = dict(thinker.visual.named_parameters())
    for name, weight in other.named_parameters():
        seeing = name.startswith("visual.") and not name.startswith("visual.merger.mlp.2.")
        expected = given[name.removeprefix("visual.")] if seeing else before[name]
        assert torch.allclose(weight, expected, rtol=1e-2, atol=1e-3), name


def test_eyes_that_do_not_fit_are_refused(tokenizer: Any, thinker: Any, tmp_path: Any) -> None:
    with pytest.raises(BadInput, match="train System 2 first"):
        thinkers.take_eyes(thinker, tmp_path)
    save_checkpoint(thinker, make_processor(tokenizer, patch_px=8, max_pixels=96 * 64), tmp_path)
    with pytest.raises(BadInput, match="no eyes for this model"):
        thinkers.take_eyes(make_thinker(tokenizer, replace(SIZE, vision_width=32)), tmp_path)
