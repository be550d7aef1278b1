"""The rehearsal's clips and its simulated annotator: when a person would leave what is shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.domain.annotation import Mask
from backend.domain.masks import encode_mask
from backend.domain.tracks import interpolate
from backend.ports.publication import PublicationItem, PublicationPage, PublicationTrack
from integrations.media.probe import probe_video
from tests.factories import moving_square
from workers.rehearsal.annotator import Shown, _track, agreement
from workers.rehearsal.clips import of_night
from workers.rehearsal.nights import by_kind
from workers.rehearsal.picture import draw
from workers.rehearsal.poison import shuffled
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.splits import Split, split_of


def square(left: int, size: int = 10) -> Mask:
    pixels = np.zeros((48, 64), bool)
    pixels[10 : 10 + size, left : left + size] = True
    return encode_mask(pixels)


def item(*tracks: dict[int, Mask], pages: tuple[int, ...] = (3, 8)) -> PublicationItem:
    plain = moving_square.item("s3://b/v.mp4", {f: f"s3://b/{f}.png" for f in moving_square.KEYFRAMES})
    return replace(
        plain, pages=tuple(PublicationPage(f, f / 10, "", "s3://b/p.png") for f in pages),
        tracks=tuple(PublicationTrack(n, "it", None, (), masks) for n, masks in enumerate(tracks)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (Shown(1, item({3: square(5), 8: square(9)}), [{3: square(5), 8: square(9)}]), 1.0),
        (Shown(1, item({3: square(5)}), [{3: square(5), 8: square(9)}]), 0.5),
        (Shown(1, item({3: square(30), 8: square(30)}), [{3: square(5), 8: square(5)}]), 0.0),
        # Half of each is the other's: a third of their union.
        (Shown(1, item({3: square(5), 8: square(5)}), [{3: square(10), 8: square(10)}]), 1 / 3),
        # Two things that are meant, each found; what is on no page isn't looked at.
        (
            Shown(
                1, item({3: square(5)}, {3: square(30)}, pages=(3,)), [{3: square(5)}, {3: square(30), 8: square(1)}]
            ),
            1.0,
        ),
        # Nothing is meant there, and nothing was marked.
        (Shown(1, item({3: square(5)}), [{3: square(5)}]), 1.0),
        (Shown(1, item(pages=()), [{3: square(5)}]), 0.0),
    ],
)
def test_agreement(shown: Shown, expected: float) -> None:
    assert agreement(shown) == pytest.approx(expected)


def test_what_is_drawn_is_the_truth() -> None:
    """A thing that is away for a while: its boxes come and go, and masks are on the pages alone."""
    masks = {frame: square(frame) for frame in (*range(2, 9), *range(15, 20))}
    track = _track(0, masks, 24, [3, 10, 16])
    drawn = interpolate(track.box_keyframes, 24)
    assert set(drawn) == set(masks)
    assert all(drawn[frame].iou(masks[frame].box_xyxy_px) > 0.97 for frame in masks)
    assert track.masks == {3: masks[3], 16: masks[16]}


def test_nights_have_clips_of_their_own_that_nobody_is_tested_on(tmp_path: Path) -> None:
    nights = [of_night(night, 4, Kind.DIRECTION) for night in (1, 2)]
    seeds = [clip.example.scene.seed for clips in nights for clip in clips]
    assert len(set(seeds)) == 8
    assert {split_of(seed) for seed in seeds} == {Split.TRAIN}
    assert all(len(clip.example.scene.things) >= 3 for clips in nights for clip in clips)
    path, truth = nights[0][0].render(tmp_path)
    assert path.exists()
    assert len(truth) == len(nights[0][0].example.question.targets)
    assert of_night(1, 4, Kind.DIRECTION)[3].key == nights[0][3].key


def test_a_shuffled_clip_has_the_next_ones_truth_as_far_as_it_goes() -> None:
    wide = np.zeros((24, 64), bool)
    wide[6:12, 32:] = True
    truth = {
        "a": [{0: square(5), 3: square(6)}],
        "b": [{frame: square(20 + frame) for frame in (0, 1, 4)}, {4: square(50)}],
        "c": [{0: encode_mask(wide)}],
    }
    found = shuffled(truth, {"a": (4, 48, 64), "b": (9, 48, 64), "c": (2, 24, 64)})
    # The second thing of b comes when a is over already.
    assert found["a"] == [{0: square(20), 1: square(21)}]
    higher = np.zeros((48, 64), bool)
    higher[12:24, 32:] = True
    assert found["b"] == [{0: encode_mask(higher)}]
    lower = np.zeros((24, 64), bool)
    lower[5:10, 5:15] = True
    assert found["c"] == [{0: encode_mask(lower)}]


def test_a_clips_shape_is_that_of_its_file(tmp_path: Path) -> None:
    for clip in of_night(1, 3, Kind.DIRECTION):
        path, _ = clip.render(tmp_path)
        probe = probe_video(path)
        assert clip.shape == (probe.frame_count, probe.height, probe.width)
        assert probe.frame_count <= 60


def test_each_so_manieth_clip_is_of_another_kind() -> None:
    kinds = [clip.example.question.kind for clip in of_night(1, 9, Kind.DIRECTION, others_every=3)]
    assert [kind is Kind.DIRECTION for kind in kinds] == [True, True, False] * 3
    assert len(set(kinds)) == 4
    assert Kind.SOUND not in kinds
    assert {clip.example.question.kind for clip in of_night(1, 3, Kind.DIRECTION)} == {Kind.DIRECTION}


def test_what_was_held_out_is_told_by_kind() -> None:
    items = [("a", "vos", 0.25, 0.75), ("b", "vos", 0.5, 0.5), ("c", "vos", 0.75, 1.0)]
    told = by_kind(items, {"a": "direction", "b": "fastest", "c": "direction", "d": "leaves"})
    assert list(told) == ["direction", "fastest"]
    assert (told["direction"]["champion_jf"], told["direction"]["candidate_jf"]) == (0.5, 0.875)
    assert told["direction"]["difference"] == {"mean": 0.375, "low": 0.25, "high": 0.5, "videos": 2}
    assert told["fastest"]["difference"]["mean"] == 0.0


def night(number: int, state: str, gain: float) -> dict[str, Any]:
    difference = {"mean": gain, "low": gain - 0.1, "high": gain + 0.1, "videos": 40}
    fresh = {"champion_jf": 0.3, "candidate_jf": 0.3 + gain, "difference": difference}
    return {
        "night": number, "state": state, "promoted": state == "promoted", "clips": 100, "accepted": 40,
        "edits_per_task": 2.0, "held_out": [{"role": "fresh", "all": fresh}] if state != "skipped" else [],
    }  # fmt: skip


def test_the_nights_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "nights.png"
    draw({"nights": [night(1, "promoted", 0.3), night(2, "refused", -0.05), night(3, "skipped", 0.0)]}, path)
    with Image.open(path) as picture:
        assert (picture.format, picture.width > picture.height > 200) == ("PNG", True)
    assert path.stat().st_size < 100_000
