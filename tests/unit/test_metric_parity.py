"""Our metrics against the same ones written down plainly, on random and on adversarial masks, to 1e-6."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.masks import encode_mask
from tests.factories import plain_metrics as plain
from workers.evaluation import bits, protocols
from workers.evaluation.metrics import Similarity, frame_scores, similarity

TOLERANCE = 1e-6


def blobs(draw: np.random.Generator, frames: int, height: int, width: int) -> np.ndarray:
    """Coarse blocks with specks and holes; some frames empty, some full."""
    block = int(draw.integers(1, 9))
    coarse = draw.random((frames, -(-height // block), -(-width // block))) < draw.random()
    masks = coarse.repeat(block, 1).repeat(block, 2)[:, :height, :width]
    masks = masks ^ (draw.random(masks.shape) < 0.02)
    for frame in range(frames):
        if (chance := draw.random()) < 0.3:
            masks[frame] = chance < 0.1
    return masks


def adversarial() -> Iterator[tuple[str, np.ndarray]]:
    """Single frames in which a rule of thumb goes wrong: borders, corners, words' ends, lines, dust."""
    for height, width in ((1, 1), (1, 70), (70, 1), (2, 2), (63, 64), (65, 128), (40, 129), (200, 300)):
        for name, at in {
            "first pixel": (0, 0), "last pixel": (-1, -1), "last row": (-1, slice(None)),
            "last column": (slice(None), -1), "first row": (0, slice(None)), "middle": (height // 2, width // 2),
            "column at a word's end": (slice(None), min(63, width - 1)), "all": (slice(None), slice(None)),
            "all but the last row": (slice(None, -1), slice(None)),
            "checkers": (slice(None, None, 2), slice(1, None, 2)),
        }.items():  # fmt: skip
            mask = np.zeros((height, width), bool)
            mask[at] = True
            yield f"{name} of {height}x{width}", mask
        yield f"nothing of {height}x{width}", np.zeros((height, width), bool)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 140), st.integers(1, 140), st.booleans())
def test_j_and_f_of_random_masks(seed: int, frames: int, height: int, width: int, by_columns: bool) -> None:
    draw = np.random.default_rng(seed)
    predicted, true = blobs(draw, frames, height, width), blobs(draw, frames, height, width)
    wanted_j = [plain.iou(p, t) for p, t in zip(predicted, true, strict=True)]
    wanted_f = [plain.boundary_f(p, t) for p, t in zip(predicted, true, strict=True)]
    if by_columns:  # as masks out of run lengths lie in memory
        predicted, true = (np.ascontiguousarray(m.transpose(0, 2, 1)).transpose(0, 2, 1) for m in (predicted, true))
    found = frame_scores(predicted, true)
    assert found.j == pytest.approx(wanted_j, abs=TOLERANCE)
    assert found.f == pytest.approx(wanted_f, abs=TOLERANCE)


def test_j_and_f_of_adversarial_masks() -> None:
    cases = list(adversarial())
    for name, predicted in cases:
        for other, true in cases:
            if predicted.shape == true.shape:
                found = frame_scores(predicted[None], true[None])
                assert found.j[0] == pytest.approx(plain.iou(predicted, true), abs=TOLERANCE), (name, other)
                assert found.f[0] == pytest.approx(plain.boundary_f(predicted, true), abs=TOLERANCE), (name, other)


def test_a_clip_of_any_length_in_run_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the frames are cut into chunks and blocks."""
    draw = np.random.default_rng(0)
    predicted, true = blobs(draw, 23, 90, 70), blobs(draw, 23, 90, 70)
    wanted = frame_scores(predicted, true).mean()
    halves = [{i: encode_mask(m & (np.arange(70) % 2 == part)) for i, m in enumerate(predicted)} for part in (0, 1)]
    truth = {i: encode_mask(m) for i, m in enumerate(true) if m.any()}
    for chunk_px, block_px in ((1 << 24, 1 << 20), (90 * 70 * 4, 90 * 70 * 3), (1, 1)):
        monkeypatch.setattr("workers.evaluation.metrics._CHUNK_PX", chunk_px)
        monkeypatch.setattr("workers.evaluation.metrics._BLOCK_PX", block_px)
        found = similarity(halves, truth, 23)
        assert (found.j, found.f) == pytest.approx((wanted.j, wanted.f), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 200), st.integers(1, 200), st.integers(0, 70))
@settings(max_examples=25)
def test_dilation_reaches_what_lies_within_the_radius(seed: int, rows: int, columns: int, radius_px: int) -> None:
    draw = np.random.default_rng(seed)
    mask = draw.random((rows, columns)) < 0.003
    grown = bits.dilated(bits.pack(mask[None], radius_px), radius_px)
    within = np.zeros((rows, columns), bool)
    y, x = np.mgrid[:rows, :columns]
    for row, column in np.argwhere(mask):
        within |= (y - row) ** 2 + (x - column) ** 2 <= radius_px**2
    assert bits.count(grown & bits.pack(np.ones_like(mask)[None], radius_px))[0] == within.sum()
    assert bits.count(grown & bits.pack(within[None], radius_px))[0] == within.sum()


@pytest.mark.parametrize("frames", [3, 4, 7, 60])
def test_davis_leaves_out_the_ends_and_averages_over_objects(frames: int) -> None:
    draw = np.random.default_rng(frames)
    objects = [(blobs(draw, frames, 50, 60), blobs(draw, frames, 50, 60)) for _ in range(3)]
    found = protocols.davis(objects)
    for name, measure in (("j", plain.iou), ("f", plain.boundary_f)):
        each = [
            plain.statistics([measure(p, t) for p, t in zip(pred[1:-1], true[1:-1], strict=True)])
            for pred, true in objects
        ]
        ours = getattr(found, name)
        assert (ours.mean, ours.recall, ours.decay) == pytest.approx(np.mean(each, axis=0), abs=TOLERANCE)
    assert found.jf == (found.j.mean + found.f.mean) / 2
    with pytest.raises(ValueError, match="first and the last"):
        protocols.davis([(np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool))])


def test_every_expression_and_every_half_counts_once() -> None:
    referring = [Similarity(0.2, 0.4), Similarity(0.4, 0.6), Similarity(0.6, 0.8)]
    overall = protocols.revos_overall(referring, [Similarity(1.0, 0.0)])
    assert (overall.j, overall.f) == pytest.approx((0.7, 0.3))
    assert protocols.over_expressions(referring).jf == pytest.approx(0.5)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_robustness_counts_what_is_predicted_beside_the_target(seed: int) -> None:
    draw = np.random.default_rng(seed)
    predicted, other, true = (blobs(draw, 4, 30, 40) for _ in range(3))
    foreground = true | other
    found = protocols.robustness(predicted, true, foreground)
    assert found == pytest.approx(plain.robustness(predicted, true, foreground), abs=TOLERANCE)
    absent = np.zeros_like(true)
    assert (protocols.robustness(absent, absent, foreground) == 1).all()
    assert (protocols.robustness(np.ones_like(true), absent, absent) == 0).all()


def probabilities(draw: np.random.Generator, shape: tuple[int, ...], kind: str) -> np.ndarray:
    smooth = draw.random(shape).astype(np.float32)
    steps = torch.linspace(0, 1 - 1e-10, 255).numpy()
    return {
        "smooth": smooth, "binary": (smooth > 0.7).astype(np.float32), "certain": np.ones(shape, np.float32),
        # Just on the thresholds, where one rounding more or less moves a pixel.
        "on the thresholds": steps[draw.integers(0, 255, shape)], "half": np.full(shape, 0.5, np.float32),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["smooth", "binary", "certain", "on the thresholds", "half"])
@pytest.mark.parametrize("empty", ["no", "some", "all"])
def test_ref_avs(kind: str, empty: str) -> None:
    draw = np.random.default_rng(7)
    shape = (4, 33, 47)
    true = draw.random(shape) < 0.2
    true[{"no": slice(0), "some": slice(1, 3), "all": slice(None)}[empty]] = False
    guess = probabilities(draw, shape, kind)
    found = protocols.ref_avs(guess, true)
    assert found.j == pytest.approx(plain.ref_avs_j(guess, true), abs=TOLERANCE)
    assert found.f == pytest.approx(plain.ref_avs_f(guess, true), abs=TOLERANCE)


def test_the_thresholds_are_the_tool_s_to_the_bit() -> None:
    assert (protocols._thresholds() == torch.linspace(0, 1 - 1e-10, 255).numpy()).all()


def test_the_null_set_wants_nothing() -> None:
    masks = np.random.default_rng(3).random((5, 20, 30)) < 0.1
    assert protocols.null_s(masks) == pytest.approx(plain.null_s(masks), abs=TOLERANCE)
    assert protocols.null_s(np.zeros((2, 4, 4), bool)) == 0.0
