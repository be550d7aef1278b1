"""What both Thinkers share in training: tokenizer, processor and model from nothing, packed pictures, and the
checkpoint. Nothing here knows what is asked or answered; sizes, words and texts are arguments.

The model is transformers' own class; `layers` has a faster way through its layers for training.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from backend.domain.errors import BadInput
from workers.pipeline import torchvision_cpu
from workers.shapeworld.training.layers import MERGE
from workers.shapeworld.training.layers import read as read
from workers.shapeworld.training.layers import see as see

torchvision_cpu.install()

from transformers import (  # noqa: E402  (after torchvision was made importable)
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX, Qwen2Tokenizer  # noqa: E402  (as above)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize  # noqa: E402  (as above)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor  # noqa: E402  (after torchvision was made importable)

#: Qwen2.5-Omni's names for the media; the processor replaces each by as many tokens as there are pieces.
IMAGE, VIDEO, AUDIO = "<|IMAGE|>", "<|VIDEO|>", "<|AUDIO|>"
END_OF_TURN, PADDING = "<|im_end|>", "<|endoftext|>"
_NAMED = {
    "image_token": IMAGE,
    "audio_token": AUDIO,
    "video_token": VIDEO,
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_SPECIAL = (PADDING, "<|im_start|>", END_OF_TURN, *_NAMED.values())
_TEMPLATE = """\
{% for m in messages %}<|im_start|>{{ m['role'] }}
{% for c in m['content'] %}\
{% if c['type'] == 'image' %}<|vision_bos|><|IMAGE|><|vision_eos|>\
{% elif c['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>\
{% elif c['type'] == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>\
{% else %}{{ c['text'] }}{% endif %}\
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
#: Two frames are one piece of a video, and an image is shown twice, as in Qwen's vision tower.
FRAMES_A_PIECE = 2


@dataclass(frozen=True, slots=True)
class ThinkerSize:
    """Widths and depths; what isn't said is Qwen2.5-Omni's. A head has 32 channels everywhere.

    `mrope_section` shares the 16 frequencies of a head among time, height and width: the first of three rows of it in
    turn, so `[1] * 9 + [7]` leaves the last seven to time, which an image's own tokens don't differ in.
    """

    width: int
    layers: int
    feed_forward: int
    rope_theta: float
    mrope_section: tuple[int, ...]
    vision_width: int
    vision_layers: int
    patch_px: int
    audio_width: int = 32
    initializer_range: float = 0.02
    #: None: as the language model's.
    vision_initializer_range: float | None = None
    #: Whether keys begin as queries do in the vision tower too.
    vision_begins_alike: bool = False
    #: Positions a second of video or sound; Qwen: 25.
    position_id_per_seconds: int = 25


def make_tokenizer(
    texts: Iterable[str], *, vocabulary: int, pieces: Sequence[str] = (), numbers: Sequence[str] = ()
) -> Qwen2Tokenizer:
    """Qwen's byte-level BPE with a small vocabulary learned from `texts`.

    `pieces` are single tokens wherever they stand; `numbers` only where no letter or digit touches them. Both should be
    cut out of `texts`, or merges are spent on them.
    """
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    learner = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator(texts, learner)
    learned = json.loads(bpe.to_str())["model"]
    merges: Any = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        unk_token=PADDING,
        extra_special_tokens=_NAMED,
    )
    tokenizer.add_tokens(list(_SPECIAL), special_tokens=True)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    tokenizer.add_tokens([AddedToken(number, single_word=True, normalized=False) for number in numbers])
    tokenizer.model_max_length = 4096
    return tokenizer


def token_ids(tokenizer: Qwen2Tokenizer, words: Sequence[str]) -> list[int]:
    """The ids of words that are one token each; raises ValueError for one that isn't."""
    ids: list[Any] = [tokenizer(word)["input_ids"] for word in words]
    if broken := [word for word, found in zip(words, ids, strict=True) if len(found) != 1]:
        raise ValueError(f"not one token each: {broken}")
    return [found[0] for found in ids]


def make_processor(
    tokenizer: Qwen2Tokenizer, *, patch_px: int, max_pixels: int, audio_max_s: int = 8
) -> Qwen2_5OmniProcessor:
    """Qwen2.5-Omni's processor; the pipeline passes sizes with every call, so `max_pixels` is for others."""
    size = {"shortest_edge": max_pixels, "longest_edge": max_pixels}
    make: Any = Qwen2_5OmniProcessor
    hear: Any = WhisperFeatureExtractor
    processor: Qwen2_5OmniProcessor = make(
        image_processor=Qwen2VLImageProcessor(patch_size=patch_px, size=size),
        video_processor=Qwen2VLVideoProcessor(patch_size=patch_px, size=size, cap_pixels_per_frame=False),
        feature_extractor=hear(feature_size=128, chunk_length=audio_max_s, return_attention_mask=True),
        tokenizer=tokenizer,
        chat_template=_TEMPLATE,
    )
    return processor


def make_thinker(tokenizer: Qwen2Tokenizer, size: ThinkerSize) -> Any:
    """A Thinker with random weights in training mode.

    In the language model keys begin as queries do, so attention begins as a search for what is alike; without that it
    takes many times longer until words find what they name.
    """
    thinker: Any = Qwen2_5OmniThinkerForConditionalGeneration(_config(tokenizer, size))
    for layer in thinker.model.layers:
        _begin_alike(layer.self_attn.q_proj, layer.self_attn.k_proj)
    if size.vision_begins_alike:
        for block in thinker.visual.blocks:
            _begin_alike(block.attn.q, block.attn.k)
    thinker.train()
    return thinker


def _begin_alike(query: Any, key: Any) -> None:
    with torch.no_grad():
        torch.nn.init.orthogonal_(query.weight)
        key.weight.copy_(query.weight)


def _config(tokenizer: Qwen2Tokenizer, size: ThinkerSize) -> Any:
    token_id: Any = tokenizer.convert_tokens_to_ids
    # transformers' own annotations leave out what its configuration takes, hence Any here and elsewhere.
    config: Any = Qwen2_5OmniThinkerConfig
    return config(
        audio_config={
            "num_mel_bins": 128, "encoder_layers": 1, "encoder_attention_heads": 2, "d_model": size.audio_width,
            "encoder_ffn_dim": 2 * size.audio_width, "output_dim": size.width, "n_window": 100,
        },
        vision_config={
            "depth": size.vision_layers, "hidden_size": size.vision_width, "num_heads": size.vision_width // 32,
            "intermediate_size": 2 * size.vision_width, "patch_size": size.patch_px, "out_hidden_size": size.width,
            "initializer_range": size.vision_initializer_range or size.initializer_range,
            # All layers see the whole picture; the window only has to be a whole number of tokens.
            "window_size": 64 * size.patch_px, "fullatt_block_indexes": list(range(size.vision_layers)),
        },
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": size.width, "intermediate_size": size.feed_forward,
            "num_hidden_layers": size.layers, "max_window_layers": size.layers,
            "num_attention_heads": size.width // 32, "num_key_value_heads": size.width // 32,
            "rope_parameters": {
                "rope_type": "default", "mrope_section": list(size.mrope_section), "rope_theta": size.rope_theta,
            },
            "initializer_range": size.initializer_range, "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
        },
        audio_token_index=token_id(AUDIO), image_token_index=token_id(IMAGE), video_token_index=token_id(VIDEO),
        audio_start_token_id=token_id("<|audio_bos|>"), audio_end_token_id=token_id("<|audio_eos|>"),
        vision_start_token_id=token_id("<|vision_bos|>"), vision_end_token_id=token_id("<|vision_eos|>"),
        user_token_id=0, position_id_per_seconds=size.position_id_per_seconds, tie_word_embeddings=True,
    )  # fmt: skip


def resized_px(size: tuple[int, int], patch_px: int, pixels: int) -> tuple[int, int]:
    """(width, height) that the processor makes of a picture of that size, if it is told `pixels` as least and most."""
    height, width = smart_resize(size[1], size[0], patch_px * MERGE, pixels, pixels)
    return width, height


def pack_patches(frames: torch.Tensor, patch_px: int) -> torch.Tensor:
    """What Qwen's image and video processors make of pictures that need no resizing.

    `frames` (B, T, H, W, 3) uint8, sides whole numbers of tokens (`MERGE` patches), T even, or 1 for an image. Returns
    (B * pieces, patches, 3 * 2 * patch_px²) float32; the patches of a token lie beside each other.
    """
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], device=frames.device)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711], device=frames.device)
    pictures = (frames.float() / 255 - mean) / deviation
    if frames.shape[1] == 1:
        pictures = pictures.expand(-1, FRAMES_A_PIECE, -1, -1, -1)
    batch, time, height, width, _ = pictures.shape
    rows, columns, pieces = height // patch_px // MERGE, width // patch_px // MERGE, time // FRAMES_A_PIECE
    split = pictures.reshape(batch, pieces, FRAMES_A_PIECE, rows, MERGE, patch_px, columns, MERGE, patch_px, 3)
    in_order = split.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    return in_order.reshape(batch * pieces, rows * columns * MERGE**2, -1)


def take_eyes(thinker: Any, folder: Path) -> str:
    """Give the Thinker the vision tower of a checkpoint, but for the last layer if the language model has another
    width. Returns the digest of the checkpoint's weights.

    Raises `BadInput` if the folder holds no such tower.
    """
    path = folder / "model.safetensors"
    if not path.is_file():
        raise BadInput(
            f"no checkpoint in {folder} ({path.name} is missing): train System 2 first and name its checkpoint"
        )
    there, own = load_file(path), dict(thinker.visual.named_parameters())
    last = {name for name in own if name.startswith("merger.mlp.2.")}
    found = {name: there.get(f"visual.{name}", there.get(f"thinker.visual.{name}")) for name in own}
    if wrong := [
        name for name, eye in found.items() if name not in last and (eye is None or eye.shape != own[name].shape)
    ]:
        raise BadInput(f"{path} holds no eyes for this model: {', '.join(wrong[:3])} missing or of another size")
    with torch.no_grad():
        for name, eye in found.items():
            if eye is not None and eye.shape == own[name].shape:
                own[name].copy_(eye)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_checkpoint(thinker: Any, processor: Qwen2_5OmniProcessor, folder: Path) -> None:
    """Model, tokenizer and processor as transformers loads them, the weights in bfloat16."""
    half = copy.deepcopy(thinker).to(torch.bfloat16)
    half.save_pretrained(folder)
    processor.save_pretrained(folder)
