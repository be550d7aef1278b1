"""The layers of a Thinker gone through as its class does, but cheaply for training on a CPU in bfloat16.

Pictures of one size in one batch, rows padded on the right, no cache. The weights are read out of transformers' own
modules; a test holds that the numbers are those of its forward, and that the gradients are right.
"""

from typing import Any

import torch
from torch.nn.functional import linear, silu

from workers.shapeworld.training.attention import attend, turn

#: Patches of a side that become one token.
MERGE = 2


def see(visual: Any, patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The vision tower over pictures (or pieces of video) of one size, in one batch: (B, tokens, width).

    `patches` as from `pack_patches`, `grid` the (rows, columns) of patches. The patch convolution is the matrix product
    that it is, whose gradient is much cheaper. All layers see the whole picture.
    """
    hidden = linear(patches, visual.patch_embed.proj.weight.flatten(1))
    waves = visual.rotary_pos_emb(hidden, _patch_positions(grid, patches.device))
    for block in visual.blocks:
        attention = block.attn
        parts = (attention.q, attention.k, attention.v)
        hidden = hidden + attention.proj(_attend(parts, attention, norm(block.norm1, hidden), waves, None))
        hidden = hidden + _feed_forward(block.mlp, norm(block.norm2, hidden))
    tokens: torch.Tensor = visual.merger(hidden)
    return tokens.view(patches.shape[0], patches.shape[1] // MERGE**2, -1)


def _patch_positions(grid: tuple[int, int], device: torch.device) -> torch.Tensor:
    """(patches, 2) row and column of each patch, in the order of `pack_patches`."""
    rows, columns = grid
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1)
    place = place.view(rows // MERGE, MERGE, columns // MERGE, MERGE, 2).transpose(1, 2)
    return place.reshape(-1, 2).to(device)


def read(
    thinker: Any, embeddings: torch.Tensor, position_ids: torch.Tensor, said_from: int = 0
) -> tuple[torch.Tensor, ...]:
    """The language model over (B, L, width) with rope positions (3, B, L); rows may be padded on the right.

    Returns the hidden states before the first layer, after each but the last, and after the final norm. The last are
    those from position `said_from` on alone, (B, L - said_from, width): nothing is said before.
    """
    model, hidden = thinker.model, embeddings
    waves = model.rotary_emb(hidden, position_ids)
    states = []
    for layer in model.layers:
        states.append(hidden)
        attention, first = layer.self_attn, said_from if layer is model.layers[-1] else 0
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        attended = _attend(parts, attention, norm(layer.input_layernorm, hidden), waves, first)
        hidden = hidden[:, first:] + attention.o_proj(attended)
        hidden = hidden + _feed_forward(layer.mlp, norm(layer.post_attention_layernorm, hidden))
    return (*states, norm(model.norm, hidden))


def attention_log_shares(
    thinker: Any, layer: int, hidden: torch.Tensor, position_ids: torch.Tensor, heads: int, first: int
) -> torch.Tensor:
    """How the first `heads` of a layer of the language model share their attention: (B, heads, L - first, L)
    logarithms, float32, for the queries from position `first` on. `hidden` (B, L, width) as the layer gets it.

    For losses on attention itself, which `read` doesn't give out.
    """
    block = thinker.model.layers[layer]
    attention, states = block.self_attn, norm(block.input_layernorm, hidden)
    cos, sin = (wave.to(states.dtype)[:, None] for wave in thinker.model.rotary_emb(hidden, position_ids))

    def project(part: Any, some: torch.Tensor) -> torch.Tensor:
        channels = heads * attention.head_dim
        flat = linear(some, part.weight[:channels], part.bias[:channels])
        return flat.view(*some.shape[:2], heads, -1).transpose(1, 2)

    query = turn(project(attention.q_proj, states[:, first:]), cos[:, :, first:], sin[:, :, first:])
    key = turn(project(attention.k_proj, states), cos, sin)
    scores = (query * attention.scaling @ key.transpose(-1, -2)).float()
    later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(first + 1)
    shares: torch.Tensor = scores.masked_fill(later, -torch.inf).log_softmax(-1)
    return shares


def _attend(
    parts: tuple[Any, Any, Any], attention: Any, hidden: torch.Tensor, waves: tuple[torch.Tensor, torch.Tensor],
    first: int | None,
) -> torch.Tensor:  # fmt: skip
    """Attention up to its output projection; `first` as in `attend`. `parts`: query, key and value layers, which are
    one matrix product here. `waves`: cosines and sines of the positions, (L, channels) or (B, L, channels)."""
    weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
    together = linear(hidden, weight, bias).view(*hidden.shape[:2], 3, attention.num_heads, -1)
    return attend(together, *waves, attention.scaling, first)


def _feed_forward(mlp: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Qwen's gated layers, both of the first in one matrix product."""
    weight, bias = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]), mlp.gate_proj.bias
    if bias is not None:
        bias = torch.cat([bias, mlp.up_proj.bias])
    gate, up = linear(hidden, weight, bias).chunk(2, -1)
    result: torch.Tensor = mlp.down_proj(silu(gate) * up)
    return result


class _Norm(torch.autograd.Function):
    """Root mean square norm, all but the mean itself in the precision of `hidden`."""

    @staticmethod
    def forward(context: Any, hidden: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
        scale: torch.Tensor = (length.square() / hidden.shape[-1] + epsilon).rsqrt().to(hidden.dtype)
        unit: torch.Tensor = hidden * scale
        context.save_for_backward(unit, scale, weight)
        scaled: torch.Tensor = unit * weight.to(hidden.dtype)
        return scaled

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        unit, scale, weight = context.saved_tensors
        of_weight = (gradient * unit).flatten(0, -2).sum(0).to(weight.dtype)
        gradient = gradient * weight.to(gradient.dtype)
        mean = (gradient * unit).mean(-1, keepdim=True)
        return (gradient - unit * mean).mul_(scale), of_weight, None


def norm(module: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What the norm module makes of `hidden`, in its precision."""
    result: torch.Tensor = _normalise(hidden, module.weight, module.variance_epsilon)
    return result


_normalise: Any = _Norm.apply
