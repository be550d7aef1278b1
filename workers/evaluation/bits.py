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


def pack(masks: NDArray[np.bool_], room_px: int = 1) -> Bits:
    """(T, R, C) bool, fastest where the last axis is contiguous → (T, R, W) words, W as small as leaves `room_px` bits
    behind the pixels of each row."""
    octets = np.packbits(masks, axis=-1, bitorder="little")
    frames, rows, columns = masks.shape
    words = np.zeros((frames, rows, -(-(columns + room_px) // _WORD)), np.uint64)
    # Words are little-endian on every machine that this runs on.
    words.view(np.uint8)[..., : octets.shape[-1]] = octets
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
    right, found = np.right_shift(bits, _ONE), np.zeros_like(bits)
    right.reshape(-1)[:-1] |= np.left_shift(bits, _REST).reshape(-1)[1:]
    # What came from the next row is none of this one's.
    right[..., -1] &= ~(_ONE << _REST)
    upper, lower = bits[:, :-1], bits[:, 1:]
    down = upper ^ lower
    found[:, :-1] = (upper ^ right[:, :-1]) | down | (upper ^ right[:, 1:])
    found[:, -1] = bits[:, -1] ^ right[:, -1]
    word, last = (columns - 1) // _WORD, _ONE << np.uint64((columns - 1) % _WORD)
    found[..., word] &= ~last
    found[:, :-1, word] |= down[..., word] & last
    return found


def dilated(bits: Bits, radius_px: int) -> Bits:
    """Every pixel within `radius_px` (Euclidean) of a set one. Bits beyond the end of a row may be set; each row must
    have room there for so many (`pack`)."""
    reach, out, rows, width = bits.copy(), np.zeros_like(bits), bits.shape[1], 0
    spare = np.empty_like(bits.reshape(-1))
    # Farthest rows first: their stretch of the disk is the shortest, and each row's contains the one before.
    for offset in range(radius_px, -1, -1):
        wanted = math.isqrt(radius_px**2 - offset**2)
        while width < wanted:
            # A stretch moved by no more than its length leaves no gap.
            step = min(wanted - width, 2 * width + 1, _WORD - 1)
            _widen(reach, step, spare)
            width += step
        if offset < rows:
            out[:, offset:] |= reach[:, : rows - offset]
            if offset:
                out[:, : rows - offset] |= reach[:, offset:]
    return out


def _widen(bits: Bits, step_px: int, spare: Bits) -> None:
    """Each set pixel is joined by those `step_px` (< 64) before and after it, in place. All rows are one stretch of
    words, which is several times as fast as a row at a time; what leaves a row falls into the room behind it."""
    flat, step, rest = bits.reshape(-1), np.uint64(step_px), np.uint64(_WORD - step_px)
    was = flat.copy()
    flat |= np.left_shift(was, step, out=spare)
    flat |= np.right_shift(was, step, out=spare)
    np.right_shift(was, rest, out=spare)
    flat[1:] |= spare[:-1]
    np.left_shift(was, rest, out=spare)
    flat[:-1] |= spare[1:]


def window(stacks: tuple[NDArray[Any], ...]) -> tuple[slice, slice]:
    """Rows and columns that hold every set pixel of the (T, R, C) stacks and one pixel more on each side, so that no
    boundary is cut; at least one pixel."""
    used = np.logical_or.reduce([stack.any(axis=0) for stack in stacks])
    bounds = []
    for axis, size in enumerate(used.shape):
        at = np.flatnonzero(used.any(axis=1 - axis))
        bounds.append(slice(max(0, at[0] - 1), min(size, at[-1] + 2)) if at.size else slice(0, 1))
    return bounds[0], bounds[1]
