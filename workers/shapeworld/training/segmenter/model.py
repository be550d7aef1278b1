"""The segmenter before it has learned anything: Meta's classes as the profile sizes them, begun near what they need.

Begun at random, the decoder doesn't find what a box means and memory attention doesn't find what it remembers. Queries
and keys of the decoder's cross attentions therefore begin as the same orthogonal map, so that a corner looks at its own
place, and memory attention begins with looking at the same place in the frame before.
"""

from typing import Any

import torch

from backend.profiles import SegmenterProfile
from workers.pipeline.sam2_model import build_model

_TIED_GAIN = 2.0
#: Equal constant biases of rotated queries and keys make attention fall with the distance in the picture.
_ROTARY_BIAS = 1.2
#: Object score's first bias: things are there until it is learned when they aren't.
_SCORE_BIAS = 2.0


def new_model(profile: SegmenterProfile, device: str) -> Any:
    """The model of the profile without its weights, on float32, ready to be trained.

    It stays in evaluation mode: it has no dropout, and so the memory of a prompted frame is made in training as later.
    """
    model: Any = build_model(profile, device)
    transformer = model.sam_mask_decoder.transformer
    for layer in transformer.layers:
        _tie(layer.cross_attn_token_to_image)
        _tie(layer.cross_attn_image_to_token)
    _tie(transformer.final_attn_token_to_image)
    for layer in model.memory_attention.layers:
        torch.nn.init.constant_(layer.cross_attn_image.q_proj.bias, _ROTARY_BIAS)
        torch.nn.init.constant_(layer.cross_attn_image.k_proj.bias, _ROTARY_BIAS)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, _SCORE_BIAS)
    return model


def set_side(model: Any, side_px: int) -> None:
    """Let the model look at pictures of another side (a multiple of its stride); no weight depends on it."""
    cells = side_px // model.backbone_stride
    model.image_size, model.sam_image_embedding_size = side_px, cells
    prompts = model.sam_prompt_encoder
    prompts.image_embedding_size, prompts.input_image_size = (cells, cells), (side_px, side_px)
    prompts.mask_input_size = (4 * cells, 4 * cells)


def _tie(attention: Any) -> None:
    with torch.no_grad():
        torch.nn.init.orthogonal_(attention.q_proj.weight, gain=_TIED_GAIN)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        attention.q_proj.bias.zero_()
        attention.k_proj.bias.zero_()
