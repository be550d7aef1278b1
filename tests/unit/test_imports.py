"""Public sets are read as their authors lay them out, and their pictures bound into a video that shows the same."""

import json
import os
import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask
from backend.domain.runs import Mode
from integrations.imports.layouts import PublicLayout, read_public
from integrations.media.bind import bind_pictures
from integrations.media.decode import iter_frames, read_audio
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


def test_of_ref_youtube_vos_the_splits_without_public_masks_are_refused(tmp_path: Path) -> None:
    """As it is given out, with a `valid` whose expressions name no object."""
    root = public_sets.ref_youtube_vos(tmp_path)
    valid = {"videos": {"abd": {"expressions": {"0": {"exp": "the left one"}}, "frames": list(NAMES)}}}
    (root / "meta_expressions/valid").mkdir()
    (root / "meta_expressions/valid/meta_expressions.json").write_text(json.dumps(valid))
    (root / "valid/JPEGImages").mkdir(parents=True)
    assert [clip.name for clip in read_public(PublicLayout.REF_YOUTUBE_VOS, root)] == ["abc"]
    with pytest.raises(BadInput, match="has no masks of split 'valid'"):
        list(read_public(PublicLayout.REF_YOUTUBE_VOS, root, "valid"))


def test_of_revos_a_split_is_chosen(tmp_path: Path) -> None:
    root = public_sets.mevis(tmp_path, 1, "meta_expressions_train_.json", ".")
    told = json.loads((root / "meta_expressions_train_.json").read_text())
    told["videos"]["clip0"]["expressions"] = {"0": told["videos"]["clip0"]["expressions"]["1"]}
    (root / "meta_expressions_valid_.json").write_text(json.dumps(told))
    for split, expressions in ((None, 2), ("train", 2), ("valid", 1)):
        [clip] = read_public(PublicLayout.REVOS, root, split)
        assert len(clip.expressions) == expressions
    with pytest.raises(BadInput, match=r"meta_expressions_test_\.json"):
        list(read_public(PublicLayout.REVOS, root, "test"))


def test_refcocog_is_clips_of_one_picture(tmp_path: Path) -> None:
    root = public_sets.refcocog(tmp_path)
    one, other = read_public(PublicLayout.REFCOCOG, root)
    assert (one.name, one.mask_frames, [path.exists() for path in one.pictures]) == (
        "COCO_train2014_000000000000", (0,), [True],
    )  # fmt: skip
    left, sign, crowd = one.expressions
    assert (left.text, sign.text, crowd.text) == ("the left one", "a café sign", "all of them")
    assert (left.objects, left.objects[0].label, crowd.objects[0].label) == (sign.objects, "sign", "person")
    assert (decode_mask(left.objects[0].masks[0]) == pixels(0, 4)).all()
    assert crowd.objects[0].masks[0].area == 10
    assert other.expressions[0].objects[0].masks[0].width == public_sets.WIDTH + 1
    [value] = read_public(PublicLayout.REFCOCOG, root / "refcocog", "val")
    assert value.name.endswith("2")


def test_refcocog_of_the_other_division_and_what_is_wrong_is_told(tmp_path: Path) -> None:
    root = public_sets.refcocog(tmp_path, ("train",), "refs(google).p")
    assert len(list(read_public(PublicLayout.REFCOCOG, root))) == 1
    with pytest.raises(BadInput, match="nothing of split 'test'; it has train"):
        list(read_public(PublicLayout.REFCOCOG, root, "test"))
    (root / "images/mscoco/images/train2014").rename(root / "elsewhere")
    with pytest.raises(BadInput, match="train2014 are in none of"):
        list(read_public(PublicLayout.REFCOCOG, root))
    refs = root / "refcocog/refs(google).p"
    refs.write_bytes(pickle.dumps(_Bomb(tmp_path / "exploded")))
    with pytest.raises(BadInput, match=r"refs\(google\)\.p can't be read: it asks for"):
        list(read_public(PublicLayout.REFCOCOG, root))
    assert not (tmp_path / "exploded").exists()
    refs.write_bytes(pickle.dumps([{"split": "train"}])[:-4])
    with pytest.raises(BadInput, match=r"refs\(google\)\.p can't be read"):
        list(read_public(PublicLayout.REFCOCOG, root))
    refs.unlink()
    with pytest.raises(BadInput, match=r"neither refs\(umd\)\.p nor refs\(google\)\.p"):
        list(read_public(PublicLayout.REFCOCOG, root))


class _Bomb:
    """Unpickled by the usual means it makes a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._path),)


def test_ref_avs_brings_its_sound(tmp_path: Path) -> None:
    root = public_sets.ref_avs(tmp_path)
    [clip] = read_public(PublicLayout.REF_AVS, root)
    assert (clip.name, clip.mode, clip.mask_frames) == ("-a_b_0_4000", Mode.AVS, (0, 1, 2))
    first, left, right = clip.expressions
    assert (first.text, left.text) == ("The object making a sound, first.", "The left one")
    assert (first.objects[0].label, right.objects[0].label) == ("cat", "hair-dryer")
    assert sorted(first.objects[0].masks) == sorted(right.objects[0].masks) == [0, 1, 2]
    for place in clip.mask_frames:
        assert (decode_mask(right.objects[0].masks[place]) == pixels(place, 20)).all()
    bind_pictures(clip.pictures, tmp_path / "one.mov", Fraction(1), clip.audio)
    bind_pictures(clip.pictures, tmp_path / "two.mov", Fraction(1), clip.audio)
    assert (tmp_path / "one.mov").read_bytes() == (tmp_path / "two.mov").read_bytes()
    probe = probe_video(tmp_path / "one.mov")
    assert (probe.frame_count, probe.has_audio, probe.duration_s) == (FRAMES, True, FRAMES)
    heard = read_audio(tmp_path / "one.mov", 16000, 60)
    assert (np.round(heard * 32768).astype(np.int16) == np.arange(FRAMES * 16000).astype(np.int16)).all()
    [nothing] = read_public(PublicLayout.REF_AVS, root, "test_n")
    assert (nothing.name, nothing.mask_frames) == ("null_c--a_b_0_4000", (0, 1, 2, 3))
    assert [one.objects for one in nothing.expressions] == [()]


def test_what_is_wrong_in_ref_avs_is_told(tmp_path: Path) -> None:
    root = public_sets.ref_avs(tmp_path)
    clip = root / "media/-a_b_0_4000"

    def told(match: str, split: str | None = None) -> None:
        with pytest.raises(BadInput, match=match):
            list(read_public(PublicLayout.REF_AVS, root, split))

    told("nothing of split 'test_s'; it has test_n, train", "test_s")
    Image.new("L", (5, 5)).save(root / "gt_mask/-a_b_0_4000/fid_2/00001.png")
    told("00001.png is 5×5, its clip 40×30")
    (root / "gt_mask/-a_b_0_4000/fid_2").rename(root / "fid_2")
    told("no frame whose masks are known")
    (clip / "audio.wav").write_bytes(b"no sound")
    with pytest.raises(BadInput, match=r"the sound .*audio\.wav can't be read"):
        bind_pictures([clip / "frames/0.jpg"], tmp_path / "out.mov", Fraction(1), clip / "audio.wav")
    (clip / "audio.wav").unlink()
    told("has no sound")
    (clip / "frames/1.jpg").unlink()
    told("hasn't the pictures 0.jpg, 1.jpg and so on")
    (root / "metadata.csv").write_text("vid,uid\n")
    told("has no column exp, fid, split")


def test_a_split_is_asked_of_sets_that_have_several_in_one_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mevis has a folder for each split: name that of valid"):
        list(read_public(PublicLayout.MEVIS, public_sets.mevis(tmp_path), "valid"))


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
