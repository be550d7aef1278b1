"""Masks of a 4K video: what plain interpolation gives, and no more than one of them at full size at a time."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from backend.domain.annotation import Mask
from backend.domain.masks import decode_mask, encode_mask
from backend.ports.pipeline import Estimate
from workers.pipeline import sizing
from workers.pipeline.sizing import mask_at, masks_at

WIDTH, HEIGHT = 3840, 2160
#: A quarter of the side of SAM2's picture at full size.
SIDE = 256


def blobs(seed: int, count: int = 3) -> torch.Tensor:
    """(h, w) logits: so many round or long hills at random places, from small ones to some that leave the picture,
    over background, each with a ragged edge."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    logits = np.full((SIDE, SIDE), -10.0, np.float32)
    for _ in range(count):
        (at_y, at_x), (tall, wide) = rng.uniform(0, SIDE, 2), rng.uniform(3, 40, 2)
        hill = 20 * np.exp(-(((y - at_y) / tall) ** 2) - ((x - at_x) / wide) ** 2) - 10
        logits = np.maximum(logits, hill)
    return torch.from_numpy(logits + rng.normal(0, 0.5, logits.shape).astype(np.float32))


def sized_plainly(logits: torch.Tensor) -> torch.Tensor:
    return F.interpolate(logits[None, None], (HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("seed", range(6))
def test_a_4k_mask_is_what_plain_interpolation_gives(seed: int) -> None:
    """To the pixel, but where the logit is so near to 0 that the sums of either are rounded to another side."""
    logits = blobs(seed)
    plain, found = sized_plainly(logits), mask_at(logits, HEIGHT, WIDTH)
    assert found is not None
    pixels = torch.from_numpy(decode_mask(found))
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    apart = pixels != (plain > 0)
    assert not (apart & (plain.abs() > 1e-5)).any()
    assert int(apart.sum()) <= 8
    assert found.area > 10_000
    assert found == encode_mask(pixels.numpy())


def test_of_several_rows_each_gets_its_own_mask_at_4k() -> None:
    rows = [7, 2, 5, 3]
    logits = torch.stack([blobs(10), torch.full((SIDE, SIDE), -3.0), blobs(11, 1), blobs(12, 12)])
    ious, object_scores = torch.tensor([[0.5], [0.75], [0.25], [1.5]]), torch.tensor([[0.0], [-9.0], [99.0], [-200.0]])
    found = masks_at((WIDTH, HEIGHT), 0, rows, 4, logits[:, None], ious, object_scores)
    assert [(one.detection, one.frame_index, one.estimate) for one in found] == [
        (7, 4, Estimate(0.5, 0.5)), (5, 4, Estimate(0.25, 1.0)), (3, 4, Estimate(1.0, 0.0)),
    ]  # fmt: skip
    for one, of in zip(found, logits[[0, 2, 3]], strict=True):
        assert one.mask == mask_at(of, HEIGHT, WIDTH)


class Alive(TorchFunctionMode):
    """Within it, the bytes of large tensors and arrays that live at once: now, and at most. Told by what dies, which
    here is at once: nothing has a cycle."""

    def __init__(self, at_least_bytes: int) -> None:
        super().__init__()
        self._at_least_bytes = at_least_bytes
        self.bytes, self.most_bytes, self.arrays, self.most_arrays = 0, 0, 0, 0

    def __torch_function__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.nbytes >= self._at_least_bytes and (not args or made is not args[0]):
            self.bytes += made.nbytes
            self.most_bytes = max(self.most_bytes, self.bytes)
            weakref.finalize(made, self._less, made.nbytes)
        return made

    def _less(self, size: int) -> None:
        self.bytes -= size

    def encode(self, pixels: NDArray[Any], *rest: Any) -> Mask:
        self.arrays += 1
        self.most_arrays = max(self.most_arrays, self.arrays)
        weakref.finalize(pixels, self._one_less)
        return encode_mask(pixels, *rest)

    def _one_less(self) -> None:
        self.arrays -= 1


def most_alive(rows: int, monkeypatch: pytest.MonkeyPatch) -> Alive:
    """What `masks_at` holds of so many things, each as large as the picture."""
    logits = blobs(20)[None, None].abs().expand(rows, 1, SIDE, SIDE)
    alive = Alive(WIDTH * HEIGHT // 2)
    monkeypatch.setattr(sizing, "encode_mask", alive.encode)
    with alive:
        found = masks_at((WIDTH, HEIGHT), 8, range(rows), 0, logits, torch.ones(rows, 1), torch.ones(rows, 1))
    assert [one.mask.area for one in found] == [WIDTH * HEIGHT] * rows
    return alive


def test_however_many_things_are_carried_one_4k_mask_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one, many = most_alive(1, monkeypatch), most_alive(12, monkeypatch)
    assert many.most_arrays == one.most_arrays == 1
    # The logits in float32 and what of them is above 0, and nothing of the rows before.
    assert one.most_bytes == WIDTH * HEIGHT * 5
    assert many.most_bytes == one.most_bytes
    assert (many.bytes, many.arrays) == (0, 0)
