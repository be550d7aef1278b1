"""Stacks of masks with 64 pixels in a word: boundaries, dilation by a disk, and counts of pixels, for many frames at
once.

A stack is (frames, rows, words) uint64; bit b of word w is the pixel 64 w + b of its row. Bits beyond the end of a row
are 0 but where a function says otherwise.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]

_WORD = 64
_ONE = np.uint64(1)
_REST = np.uint64(_WORD - 1)


def pack(masks: NDArray[np.bool_]) -> Bits:
    """(T, R, C) bool, fastest where the last axis is contiguous → (T, R, ceil(C / 64)) words."""
    octets = np.packbits(masks, axis=-1, bitorder="little")
    spare = -octets.shape[-1] % (_WORD // 8)
    if spare:
        octets = np.pad(octets, ((0, 0), (0, 0), (0, spare)))
    words: Bits = np.ascontiguousarray(octets).view("<u8").astype(np.uint64, copy=False)
    return words


def count(bits: Bits) -> NDArray[np.int64]:
    """(T,) pixels that are set in each frame."""
    found: NDArray[np.int64] = np.bitwise_count(bits).sum(axis=(-2, -1), dtype=np.int64)
    return found


def edges(bits: Bits, columns: int) -> Bits:
    """Pixels that differ from their right, lower or lower right neighbour; one pixel wide. `columns`: pixels of a row.

    At the last row only the right neighbour counts, at the last column only the lower one, at their corner none: the
    boundary of the DAVIS benchmark.
    """
    right, found = bits.copy(), np.zeros_like(bits)
    _move_to_earlier(right, np.empty_like(bits))
    upper, lower = bits[:, :-1], bits[:, 1:]
    down = upper ^ lower
    found[:, :-1] = (upper ^ right[:, :-1]) | down | (upper ^ right[:, 1:])
    found[:, -1] = bits[:, -1] ^ right[:, -1]
    word, last = (columns - 1) // _WORD, _ONE << np.uint64((columns - 1) % _WORD)
    found[..., word] &= ~last
    found[:, :-1, word] |= down[..., word] & last
    return found


def dilated(bits: Bits, radius_px: int) -> Bits:
    """Every pixel within `radius_px` (Euclidean) of a set one. Bits beyond the end of a row may be set."""
    reach, left, right, width = bits.copy(), bits.copy(), bits.copy(), 0
    out, spare, rows = np.zeros_like(bits), np.empty_like(bits), bits.shape[1]
    # Farthest rows first: their stretch of the disk is the shortest, and each row's contains the one before.
    for offset in range(radius_px, -1, -1):
        for _ in range(math.isqrt(radius_px**2 - offset**2) - width):
            _move_to_earlier(left, spare)
            _move_to_later(right, spare)
            width += 1
            reach |= left
            reach |= right
        if offset < rows:
            out[:, offset:] |= reach[:, : rows - offset]
            out[:, : rows - offset] |= reach[:, offset:]
    return out


def _move_to_earlier(bits: Bits, spare: Bits) -> None:
    """Each pixel takes the value of the one after it in its row, in place."""
    np.left_shift(bits, _REST, out=spare)
    np.right_shift(bits, _ONE, out=bits)
    bits[..., :-1] |= spare[..., 1:]


def _move_to_later(bits: Bits, spare: Bits) -> None:
    """Each pixel takes the value of the one before it in its row, in place."""
    np.right_shift(bits, _REST, out=spare)
    np.left_shift(bits, _ONE, out=bits)
    bits[..., 1:] |= spare[..., :-1]


def window(stacks: tuple[NDArray[Any], ...]) -> tuple[slice, slice]:
    """Rows and columns that hold every set pixel of the (T, R, C) stacks and one pixel more on each side, so that no
    boundary is cut; at least one pixel."""
    bounds = []
    shape = stacks[0].shape[1:]
    for axis, size in enumerate(shape):
        used = np.zeros(size, bool)
        for stack in stacks:
            used |= stack.any(axis=(0, 2 - axis))
        at = np.flatnonzero(used)
        bounds.append(slice(max(0, at[0] - 1), min(size, at[-1] + 2)) if at.size else slice(0, 1))
    return bounds[0], bounds[1]
