"""Public sets are read as their authors lay them out, and their pictures bound into a video that shows the same."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask
from integrations.imports.layouts import PublicLayout, read_public
from integrations.media.bind import bind_pictures
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from tests.factories import public_sets
from tests.factories.public_sets import FRAMES, NAMES, pixels


@pytest.mark.parametrize(
    ("layout", "meta", "pictures"),
    [
        (PublicLayout.MEVIS, "meta_expressions.json", "JPEGImages"),
        (PublicLayout.REVOS, "meta_expressions_train_.json", "."),
    ],
)
def test_mevis_and_revos(tmp_path: Path, layout: PublicLayout, meta: str, pictures: str) -> None:
    one, other = read_public(layout, public_sets.mevis(tmp_path, 2, meta, pictures))
    assert (one.name, other.name) == ("clip0", "clip1")
    assert [path.name for path in one.pictures] == [f"{name}.jpg" for name in NAMES]
    assert all(path.exists() for path in one.pictures)
    left, both = one.expressions
    assert (left.text, len(left.objects), len(both.objects)) == ("the left one", 1, 2)
    assert one.mask_frames == (0, 1, 2, 3)
    for place in range(FRAMES):
        assert (decode_mask(left.objects[0].masks[place]) == pixels(place, 4)).all()
    assert sorted(both.objects[1].masks) == [1, 2, 3]


def test_ref_youtube_vos(tmp_path: Path) -> None:
    [clip] = read_public(PublicLayout.REF_YOUTUBE_VOS, public_sets.ref_youtube_vos(tmp_path))
    [expression] = clip.expressions
    [dog] = expression.objects
    assert (clip.name, clip.mask_frames, expression.text, dog.label) == ("abc", (0, 2, 3), "the right one", "dog")
    for place in clip.mask_frames:
        assert (decode_mask(dog.masks[place]) == pixels(place, 20)).all()
        assert dog.boxes[place].x1 == 20


def test_a_folder_that_is_laid_out_otherwise_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"can't be read as mevis: FileNotFoundError .*meta_expressions\.json"):
        list(read_public(PublicLayout.MEVIS, tmp_path))
    root = public_sets.mevis(tmp_path / "set", 1)
    masks = json.loads((root / "mask_dict.json").read_text())
    (root / "mask_dict.json").write_text(json.dumps(masks | {"0": masks["0"][:2]}))
    with pytest.raises(BadInput, match="'clip0' has another number of masks than of frames"):
        list(read_public(PublicLayout.MEVIS, root))


def test_bound_pictures_are_the_same_video_each_time_and_show_the_same(tmp_path: Path) -> None:
    public_sets.write_pictures(tmp_path / "a", 1)
    pictures = sorted((tmp_path / "a").iterdir())
    for name in ("one.mov", "two.mov"):
        bind_pictures(pictures, tmp_path / name, Fraction(6))
    assert (tmp_path / "one.mov").read_bytes() == (tmp_path / "two.mov").read_bytes()
    probe = probe_video(tmp_path / "one.mov")
    assert (probe.frame_count, probe.width, probe.codec) == (FRAMES, public_sets.WIDTH, "mjpeg")
    assert probe.clock.times_s() == pytest.approx(np.arange(FRAMES) / 6)
    for place, frame in iter_frames(tmp_path / "one.mov", probe):
        assert np.abs(frame.astype(int) - np.asarray(Image.open(pictures[place])).astype(int)).mean() < 2


def test_pictures_of_different_sizes_are_refused(tmp_path: Path) -> None:
    public_sets.write_pictures(tmp_path / "a", 1)
    pictures = sorted((tmp_path / "a").iterdir())
    Image.open(pictures[2]).resize((20, 20)).save(pictures[2])
    with pytest.raises(BadInput, match=f"{NAMES[2]}.jpg has 20×20 pixels"):
        bind_pictures(pictures, tmp_path / "out.mov", Fraction(6))
