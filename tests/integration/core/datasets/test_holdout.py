"""Nobody trains on what is held out, nor on a copy of it."""

import hashlib
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from backend.bootstrap import Container
from backend.cli import datasets as command
from backend.cli.model_gate import _hold_out
from backend.cli.train import _items
from backend.db.tables import SourceVideo
from backend.domain.datasets import Split
from backend.domain.errors import BadInput, Conflict
from backend.domain.holdout import side_of
from backend.services import dataset_files, datasets, sources
from backend.services.selection import FreezeQuery
from backend.settings import DatasetSettings, TrainingSettings
from tests.conftest import S3
from tests.factories.frozen import CUPS, freeze, items, sides
from tests.factories.reviewed import FRAMES, PAGES, ReviewedProject, make_container, write_scene
from workers.evaluation.gate import Role
from workers.evaluation.suites import ItemSuite

pytestmark = pytest.mark.stack


def test_held_out_videos_and_their_twins_are_never_trained_on(
    database_url: str, s3: S3, prefix: str, tmp_path: Path
) -> None:
    """Two videos of each side; then a copy of each, whose own bytes may say another side."""
    container = make_container(database_url, s3, prefix, holdout_share=0.5)
    project = ReviewedProject(container, prefix, tmp_path).create("the cup")
    seeds: dict[Split, list[int]] = {Split.TRAIN: [], Split.HOLDOUT: []}
    for seed in range(100):
        path = write_scene(tmp_path / f"scene-{seed}.mp4", seed)
        seeds[side_of(hashlib.sha256(path.read_bytes()).hexdigest(), 0.5)].append(seed)
        if min(map(len, seeds.values())) == 2:
            break
    chosen = {split: found[:2] for split, found in seeds.items()}
    for seed in chain(*chosen.values()):
        project.review(project.scene(seed)[0])
    assert sides(container, freeze(container)) == chosen
    for seed in chain(*chosen.values()):
        copy = write_scene(tmp_path / f"copy-{seed}.mp4", seed, crf=30, width=96, height=72)
        project.review(project.video(f"copy-{seed}", copy)[0])
    both = {split: sorted(found * 2) for split, found in chosen.items()}
    assert sides(container, freeze(container)) == both
    container.close()


def test_a_fetched_data_set_is_trained_on_and_its_hold_out_measured(
    database_url: str, s3: S3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the readers of `premask train run --items FOLDER` and `premask models gate --fresh dataset:DIGEST`."""
    container = make_container(database_url, s3, prefix, holdout_share=0.5)
    project = ReviewedProject(container, prefix, tmp_path).create("the cup")
    scenes, dataset = iter(range(100)), None
    while dataset is None or 0 in (len(items(container, dataset, split)) for split in dataset_files.SPLITS):
        project.review(project.scene(next(scenes))[0])
        dataset = freeze(container)
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    folder = tmp_path / "fetched"
    for _ in range(2):
        told = CliRunner().invoke(command.app, ["fetch", "latest", str(folder)], catch_exceptions=False).stdout
        assert f"items of {dataset.digest[:12]}" in told
    source, held_out = _items(str(folder), TrainingSettings(), None, None)
    assert len(held_out) == len(items(container, dataset, Split.HOLDOUT))
    assert source.draw(0).footage.frame_count == FRAMES
    suite = _hold_out(container, f"dataset:{dataset.digest[:8]}", Role.FRESH)
    assert suite.name == f"dataset:{dataset.digest[:12]}, what is new"
    assert isinstance(suite, ItemSuite)
    assert len(suite.items) == len(held_out)
    assert suite.items[0].frames == PAGES
    with suite.items[0].open() as path:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == suite.items[0].source_id
    assert not path.exists()
    project.review(project.scene(next(scenes))[0])
    old = freeze(container, FreezeQuery(projects=("cups",), parent=dataset.digest, replay_share=0.5))
    if not any(item.fresh for item in items(container, old, Split.HOLDOUT)):
        with pytest.raises(BadInput, match="what is new: nothing is held out"):
            _hold_out(container, f"dataset:{old.digest}", Role.FRESH)
    both = _hold_out(container, f"dataset:{old.digest}", Role.REGRESSION)
    assert isinstance(both, ItemSuite)
    assert len(both.items) == len(items(container, old, Split.HOLDOUT))
    container.close()


def test_the_side_stays_when_the_share_is_changed(
    container: Container, project: ReviewedProject, s3: S3, prefix: str
) -> None:
    project.review(project.scene(0)[0])
    assert freeze(container).counts["train"]["items"] == 1
    other = make_container(container.settings.database.url.get_secret_value(), s3, prefix, holdout_share=1.0)
    project.review(project.scene(1)[0])
    dataset = freeze(other, FreezeQuery(projects=("cups",), seed=1))
    assert (dataset.counts["train"]["items"], dataset.counts["holdout"]["items"]) == (1, 1)
    other.close()


def test_contamination_stops_the_freeze_and_names_the_videos(container: Container, project: ReviewedProject) -> None:
    """Two videos that show the same were let onto both sides by a likeness that was set too strict."""
    project.review(project.scene(0)[0])
    freeze(container)
    strict = DatasetSettings(holdout_share=1.0, near_duplicate_bits=0, near_duplicate_share=1.0)
    workshop = replace(container.workshop, settings=strict)
    copy = write_scene(project.folder / "copy.mp4", 0, crf=40, width=96, height=72)
    project.review(project.video("copy", copy)[0])
    dataset = datasets.freeze(workshop, FreezeQuery(projects=("cups",), seed=1))
    assert (dataset.counts["train"]["items"], dataset.counts["holdout"]["items"]) == (1, 1)
    with pytest.raises(Conflict, match=r"cups/scene-0\.mp4 .* shows what .*cups/copy\.mp4"):
        freeze(container, FreezeQuery(projects=("cups",), seed=2))


def test_a_training_item_of_a_held_out_video_is_contamination(container: Container, project: ReviewedProject) -> None:
    project.review(project.scene(0)[0])
    [item] = items(container, freeze(container))
    other = replace(item, media_sha256="f" * 64)
    with container.transaction() as session, pytest.raises(Conflict, match="ffffffffffff is not on the training side"):
        sources.check_contamination(session, [item, other], container.settings.datasets)


def test_a_copy_between_both_sides_is_on_neither(container: Container, project: ReviewedProject) -> None:
    project.review(project.scene(0)[0])
    dataset = freeze(container)
    with container.transaction() as session:
        [row] = session.scalars(select(SourceVideo))
        session.add(
            SourceVideo(
                sha256="e" * 64, split="holdout", frame_hashes=row.frame_hashes, media_key="x", media_size_bytes=1,
                source_uri="s3://elsewhere/x.mp4",
            )
        )  # fmt: skip
    project.review(project.video("copy", write_scene(project.folder / "copy.mp4", 0, crf=30))[0])
    project.review(project.scene(1)[0])
    workshop = replace(container.workshop, settings=DatasetSettings(holdout_share=0.0))
    with pytest.raises(Conflict, match="scene-0"):
        datasets.freeze(workshop, CUPS)
    with container.transaction() as session:
        sides = dict(session.execute(select(SourceVideo.source_uri, SourceVideo.split)).all())
    assert sides[f"s3://{container.settings.storage.artifact_bucket}/{project.prefix}cups/copy.mp4"] == "neither"
    assert dataset.counts["items"] == 1
