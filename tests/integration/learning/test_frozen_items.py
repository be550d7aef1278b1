"""Items of a frozen data set: read from its files, shown with the truth that people said."""

from hashlib import sha256
from pathlib import Path

import pytest

from backend.cli.train import _items
from backend.domain.datasets import DatasetItem, Split, TruthObject
from backend.domain.errors import BadInput
from backend.domain.runs import Mode
from backend.services.manifests import write_manifest
from backend.settings import TrainingSettings
from integrations.media.probe import probe_video
from tests.factories import dataset_items
from tests.factories.small_training import profile
from tests.factories.world import write_sample
from workers.learning.samples import Preparer
from workers.shapeworld.world.queries import Kind

SETTINGS = TrainingSettings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips of the world, one to learn from and one held out, with masks said of every second frame."""
    (tmp_path / "media").mkdir()
    for seed, split in ((0, Split.TRAIN), (50, Split.HOLDOUT)):
        clip = tmp_path / "clip.mp4"
        sample = write_sample(clip, Kind.ATTRIBUTE, 2, seed)
        digest = sha256(clip.read_bytes()).hexdigest()
        clip.rename(tmp_path / "media" / digest)
        probe = probe_video(tmp_path / "media" / digest)
        said = {n: mask for n, mask in sample.target.items() if n % 2 == 0}
        thing = TruthObject("it", {n: mask.box_xyxy_px for n, mask in sample.target.items()}, said)
        item: DatasetItem = dataset_items.item(
            media_sha256=digest, instruction=sample.instruction, mode=Mode.VOS, frame_count=probe.frame_count,
            width=probe.width, height=probe.height, duration_s=probe.duration_s, codec=probe.codec,
            time_base_num=probe.time_base_num, time_base_den=probe.time_base_den, pts=tuple(map(int, probe.pts)),
            objects=(thing,), box_frames=tuple(range(probe.frame_count)),
            mask_frames=tuple(range(0, probe.frame_count, 2)), propagated_frames=(), split=split,
        )  # fmt: skip
        (tmp_path / f"{split}.parquet").write_bytes(write_manifest([item]))
    return tmp_path


def test_what_was_frozen_is_shown_and_what_nobody_said_is_unknown(folder: Path) -> None:
    source, held_out = _items(str(folder), SETTINGS, None, None)
    preparer = Preparer(profile().system1, frames_min=16, frames_max=16, keyframes=4, seed=0)
    sample = preparer.draw(source, 3)
    shown = [round(n * (source.draw(0).footage.frame_count - 1) / 15) for n in range(16)]
    assert sample.truth.boxes_known == set(range(16))
    assert sample.truth.mask_known == {n for n, frame_index in enumerate(shown) if frame_index % 2 == 0}
    assert set(sample.truth.masks) <= sample.truth.mask_known
    assert sample.has_target
    assert [item.name for item in held_out] != [source.draw(0).name]


def test_what_is_missing_is_said(folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no items .*nowhere.*write shapeworld, or a folder with train.parquet"):
        _items(str(folder / "nowhere"), SETTINGS, None, None)
    with pytest.raises(BadInput, match="a data set is what it is"):
        _items(str(folder), SETTINGS, ["leaves"], None)
    for video in (folder / "media").iterdir():
        video.unlink()
    with pytest.raises(BadInput, match="lacks the video media/"):
        _items(str(folder), SETTINGS, None, None)
    (folder / "train.parquet").write_bytes(write_manifest([]))
    (folder / "holdout.parquet").write_bytes(write_manifest([]))
    with pytest.raises(BadInput, match="0 items to learn from and 0 held out"):
        _items(str(folder), SETTINGS, None, None)
