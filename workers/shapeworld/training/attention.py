"""Attention for training on a CPU: from the projection of queries, keys and values to what each position attended.

One step forward and one backward, in which nothing is copied that needn't be: what autograd makes of the same in small
steps moves several times as much memory as the products themselves need.
"""

from typing import Any

import torch

#: Of attention; the exponential of it still leaves room for sums in bfloat16.
_SCORE_MAX = 60.0
#: Queries that attend together where none may see what comes after it.
_STRETCH = 128


def attend(
    together: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, scaling: float, first: int | None
) -> torch.Tensor:
    """softmax(scaling · query @ keyᵀ) @ value of `together` (B, L, 3, heads, channels), in which queries, keys and
    values lie side by side; as (B, L, heads · channels).

    `cos`, `sin`: (L, channels) or (B, L, channels) of the rotary positions. Everything is seen, or where `first` is
    given, what is not in the future, and only the positions from `first` on attend: (B, L - first, heads · channels).
    """
    # Beside (parts, B, heads, L, channels).
    cos, sin = (wave.to(together.dtype).view(-1, 1, *wave.shape[-2:]) for wave in (cos, sin))
    attended: torch.Tensor = _attend(together, cos, sin, scaling, first)
    return attended


def turn(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: each half of the channels turned against the other."""
    first, second = heads.chunk(2, -1)
    half = first.shape[-1]
    turned = heads * cos
    turned[..., :half].addcmul_(second, sin[..., :half], value=-1)
    turned[..., half:].addcmul_(first, sin[..., half:])
    return turned


class _Attention(torch.autograd.Function):
    """Exponentials are taken in place and divided by their sum only after the product with the values. Scores are cut
    off instead of shifted, far above what training reaches. What is in the future of a whole stretch of queries is not
    computed for them."""

    @staticmethod
    def forward(
        context: Any, together: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, scaling: float, first: int | None
    ) -> torch.Tensor:
        batch, length, _, count, channels = together.shape
        begin = first or 0
        parts = together.permute(2, 0, 3, 1, 4).contiguous()
        query, key = turn(parts[:2], cos, sin).flatten(1, 2)
        query, value = query[:, begin:] * scaling, parts[2].flatten(0, 1)
        stretches = _stretches(length, first)
        attended, kept = torch.empty_like(query), list[torch.Tensor]()
        for at, end in stretches:
            some = slice(at - begin, end - begin)
            weights = torch.bmm(query[:, some], key[:, :end].transpose(1, 2)).clamp_(max=_SCORE_MAX).exp_()
            if first is not None:
                weights[..., at:].tril_()
            share = 1 / weights.sum(-1, keepdim=True)
            torch.mul(torch.bmm(weights, value[:, :end]), share, out=attended[:, some])
            kept += [weights, share]
        context.save_for_backward(query, key, value, attended, cos, sin, *kept)
        context.stretches, context.scaling, context.shape = stretches, scaling, together.shape
        return attended.view(batch, count, -1, channels).transpose(1, 2).reshape(batch, -1, count * channels)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        query, key, value, attended, cos, sin, *kept = context.saved_tensors
        batch, length, _, count, channels = context.shape
        begin = context.stretches[0][0]
        gradient = gradient.view(batch, -1, count, channels).transpose(1, 2).reshape(query.shape)
        # What the division by the sum takes from each score.
        mean = (gradient * attended).sum(-1, keepdim=True)
        found = key.new_empty(3, *key.shape)
        of_query, of_key, of_value = found
        of_query[:, :begin] = 0
        # The last stretch first: it sees all keys, and so begins their sums.
        for (at, end), weights, share in reversed([*zip(context.stretches, kept[::2], kept[1::2], strict=True)]):
            some = slice(at - begin, end - begin)
            shared = gradient[:, some] * share
            scores = torch.bmm(shared, value[:, :end].transpose(1, 2)).sub_(mean[:, some] * share).mul_(weights)
            of_query[:, at:end] = torch.bmm(scores, key[:, :end])
            for sums, left, right in ((of_key, scores, query[:, some]), (of_value, weights, shared)):
                if end == length:
                    torch.bmm(left.transpose(1, 2), right, out=sums)
                else:
                    sums[:, :end].baddbmm_(left.transpose(1, 2), right)
        of_query.mul_(context.scaling)
        found = found.view(3, batch, count, length, channels)
        found[:2] = turn(found[:2], cos, -sin)
        return found.permute(1, 3, 0, 2, 4).contiguous(), None, None, None, None


_attend: Any = _Attention.apply


def _stretches(length: int, first: int | None) -> list[tuple[int, int]]:
    """Begin and end of the queries that attend together."""
    if first is None:
        return [(0, length)]
    return [(at, min(at + _STRETCH, length)) for at in range(first, length, _STRETCH)]
