"""Data sets: the same query on the same reviews is the same data set; nothing that was frozen changes; nobody trains on
what is held out."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pycocotools.coco import COCO
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli import datasets as command
from backend.cli.model_gate import _hold_out
from backend.cli.train import _items
from backend.db.repositories import datasets as repository
from backend.db.tables import Dataset, SourceVideo
from backend.domain.annotation import Box, VideoProbe
from backend.domain.datasets import DatasetItem, Split
from backend.domain.errors import BadInput, Conflict, NotFound
from backend.domain.holdout import side_of
from backend.domain.runs import Mode
from backend.services import dataset_files, datasets, sources
from backend.services.manifests import write_manifest
from backend.services.selection import FreezeQuery
from backend.settings import DatasetSettings, TrainingSettings
from integrations.s3.store import make_client
from tests.conftest import S3
from tests.factories import public_sets
from tests.factories.labeling_desk import BEGIN
from tests.factories.reviewed import (
    FRAMES,
    PAGES,
    ReviewedProject,
    make_container,
    moved,
    thing_at,
    without_track,
    write_scene,
)
from workers.evaluation.gate import Role
from workers.evaluation.suites import ItemSuite

pytestmark = pytest.mark.stack

CUPS = FreezeQuery(projects=("cups",))


@pytest.fixture
def container(database_url: str, s3: S3, prefix: str) -> Iterator[Container]:
    made = make_container(database_url, s3, prefix)
    yield made
    made.close()


@pytest.fixture
def project(container: Container, prefix: str, tmp_path: Path) -> ReviewedProject:
    return ReviewedProject(container, prefix, tmp_path).create("the cup")


def freeze(container: Container, query: FreezeQuery = CUPS) -> Dataset:
    return datasets.freeze(container.workshop, query)


def items(container: Container, dataset: Dataset, split: Split = Split.TRAIN) -> list[DatasetItem]:
    return list(dataset_files.read_items(container.store, container.settings.storage, dataset, split))


def test_what_was_reviewed_is_frozen_with_its_truth_and_its_media(
    container: Container, project: ReviewedProject
) -> None:
    [left], [edited], [empty], [skipped], [unseen] = (project.scene(seed) for seed in range(5))
    project.review(left)
    project.review(edited, moved(10))
    project.review(empty, without_track)
    project.review(skipped, skipped=True)
    dataset = freeze(container)
    found = {item.provenance.annotation_id: item for item in items(container, dataset)}
    assert sorted(found) == [run * 100 for run in (left, edited, empty)]
    kept = found[left * 100]
    assert kept.mask_frames == PAGES
    assert kept.propagated_frames == tuple(frame for frame in range(FRAMES) if frame not in PAGES)
    [cup] = kept.objects
    assert cup.boxes[5] == thing_at(5)
    assert sorted(cup.masks) == list(range(1, FRAMES - 1))
    [cup] = found[edited * 100].objects
    assert cup.boxes[5] == Box(24, 10, 40, 26)
    assert (cup.masks, found[edited * 100].mask_frames) == ({}, ())
    assert (found[empty * 100].objects, found[empty * 100].mask_frames) == ((), PAGES)
    assert (dataset.counts["left_out"], dataset.counts["train"]["items"]) == ({"skipped": 1}, 3)
    assert kept.provenance.source_uri.endswith("/cups/scene-0.mp4")
    assert dataset_files.problems(container.store, container.settings.storage, dataset, deep=True) == []
    assert unseen not in found


def test_dataset_json_says_what_was_asked_and_what_came_of_it(container: Container, project: ReviewedProject) -> None:
    project.review(project.scene(0)[0])
    dataset = freeze(container, FreezeQuery(projects=("cups",), seed=7))
    storage = container.settings.storage
    key = f"{storage.artifact_prefix}datasets/{dataset.digest}/dataset.json"
    path = project.folder / "dataset.json"
    container.store.download(container.store.head(storage.artifact_bucket, key), path)
    told = json.loads(path.read_text())
    assert (told["digest"], told["parent"], told["seed"], told["origin"]) == (dataset.digest, None, 7, "reviews")
    assert FreezeQuery.model_validate(told["query"]) == FreezeQuery(projects=("cups",), seed=7)
    assert told["counts"]["train"] == {
        "items": 1, "fresh": 1, "vos": 1, "avs": 0, "aid": 0, "videos": 1, "objects": 1, "empty": 0,
    }  # fmt: skip
    assert told["code_version"]


def test_the_same_query_is_the_same_data_set(container: Container, project: ReviewedProject) -> None:
    for seed in range(3):
        project.review(project.scene(seed)[0])
    dataset = freeze(container)
    again = freeze(container)
    assert (again.id, again.digest) == (dataset.id, dataset.digest)
    other = freeze(container, FreezeQuery(projects=("cups",), seed=1))
    assert other.digest != dataset.digest


def test_in_another_order_and_on_another_day_the_digest_is_the_same(
    container: Container, project: ReviewedProject, second_database_url: str, s3: S3, prefix: str, tmp_path: Path
) -> None:
    """Another database: ids begin elsewhere, videos and reviews came the other way round, and all of it long ago."""
    moments = [BEGIN + timedelta(days=seed) for seed in range(3)]
    for seed in range(3):
        project.review(project.scene(seed)[0], moved(seed), annotation_id=70 + seed, at=moments[seed])
    other = make_container(second_database_url, s3, prefix)
    ReviewedProject(other, prefix, tmp_path, "first").create("something else").video("x", tmp_path / "scene-1.mp4")
    again = ReviewedProject(other, prefix, tmp_path).create("the lid", "the cup")
    for seed in reversed(range(3)):
        lid, cup = again.scene(seed)
        again.review(cup, moved(seed), annotation_id=70 + seed, at=moments[seed])
        assert lid != cup
    with other.engine.begin() as connection:
        connection.execute(text("UPDATE reviews SET created_at = created_at - interval '40 days'"))
        connection.execute(text("UPDATE review_versions SET read_at = read_at - interval '40 days'"))
    one, two = freeze(container), freeze(other)
    assert one.digest == two.digest
    assert [item.item_id for item in items(container, one)] == [item.item_id for item in items(other, two)]
    other.close()


def test_the_newest_answer_to_a_question_counts(container: Container, project: ReviewedProject) -> None:
    [run] = project.scene(0)
    project.review(run, moved(2), annotator="1", annotation_id=1, at=BEGIN)
    project.review(run, moved(8), annotator="2", annotation_id=2, at=BEGIN + timedelta(hours=2))
    project.review(run, moved(4), annotator="3", annotation_id=3, at=BEGIN + timedelta(hours=1))
    [item] = items(container, freeze(container))
    assert (item.provenance.annotator, item.objects[0].boxes[1].x1) == ("2", thing_at(1).x1 + 8)
    project.review(run, annotator="2", annotation_id=2, at=BEGIN + timedelta(hours=3))
    [item] = items(container, freeze(container))
    assert item.objects[0].boxes[1] == thing_at(1)
    early = FreezeQuery(projects=("cups",), reviewed_until=BEGIN + timedelta(minutes=90))
    [item] = items(container, freeze(container, early))
    assert item.provenance.annotator == "3"
    project.delete(run, 2)
    [item] = items(container, freeze(container))
    assert item.provenance.annotator == "3"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE datasets SET code_version = 'x'",
        "DELETE FROM datasets",
        "TRUNCATE datasets CASCADE",
        "UPDATE dataset_items SET split = 'holdout'",
        "DELETE FROM dataset_items",
        "INSERT INTO dataset_items SELECT dataset_id, 99, repeat('b', 64), source_sha256, split, fresh, mode"
        " FROM dataset_items",
        "UPDATE source_videos SET split = 'holdout'",
        "DELETE FROM source_videos",
    ],
)
def test_nothing_that_was_frozen_can_be_changed(frozen: Container, statement: str) -> None:
    with pytest.raises(DBAPIError, match="is frozen"), frozen.engine.begin() as connection:
        connection.execute(text(statement))


@pytest.fixture(scope="module")
def frozen(
    module_database_url: str, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:  # fmt: skip
    """A container over a database with one data set."""
    prefix = "test-datasets-frozen/"
    made = make_container(module_database_url, s3, prefix)
    project = ReviewedProject(made, prefix, tmp_path_factory.mktemp("frozen")).create("the cup")
    project.review(project.scene(0)[0])
    freeze(made)
    yield made
    made.close()


def test_media_outlive_their_source_and_are_kept_once(container: Container, project: ReviewedProject) -> None:
    clip = write_scene(project.folder / "a.mp4", 1)
    runs = project.video("a", clip) + project.video("same-bytes", clip)
    for run in runs:
        project.review(run)
    store, storage = container.store, container.settings.storage
    dataset = freeze(container)
    [item] = items(container, dataset)
    assert dataset.counts["left_out"] == {"superseded": 1}
    kept = list(store.list(storage.artifact_bucket, f"{storage.artifact_prefix}media/"))
    assert [version.key for version in kept] == [item.media_key]
    for name in ("a", "same-bytes"):
        delete(container, f"{project.prefix}cups/{name}.mp4")
    dataset_files.fetch_media(store, storage, [item], project.folder / "media")
    assert (project.folder / "media" / item.media_sha256).read_bytes() == clip.read_bytes()

    def no_more(path: Path, probe: VideoProbe) -> np.ndarray:
        raise AssertionError(f"{path} is read again, of {probe.frame_count} frames")

    datasets.freeze(replace(container.workshop, hasher=no_more), FreezeQuery(projects=("cups",), seed=3))
    assert list(store.list(storage.artifact_bucket, f"{storage.artifact_prefix}media/")) == kept


def test_a_video_that_is_gone_before_it_was_kept_is_left_out_and_told(
    container: Container, project: ReviewedProject
) -> None:
    for seed in range(2):
        project.review(project.scene(seed)[0])
    delete(container, f"{project.prefix}cups/scene-0.mp4")
    dataset = freeze(container)
    assert (dataset.counts["items"], dataset.counts["left_out"]) == (1, {"media gone": 1})


def delete(container: Container, key: str) -> None:
    make_client(container.settings.storage).delete_object(Bucket=container.settings.storage.artifact_bucket, Key=key)


def test_verify_finds_what_was_changed_behind_our_back(container: Container, project: ReviewedProject) -> None:
    project.review(project.scene(0)[0])
    dataset = freeze(container)
    store, storage = container.store, container.settings.storage
    [item] = items(container, dataset)

    def problems() -> str:
        return " ".join(dataset_files.problems(store, storage, dataset, deep=True))

    assert problems() == ""
    body = (project.folder / "scene-0.mp4").read_bytes()
    store.put(storage.artifact_bucket, item.media_key, body[:-1] + b"x", "video/mp4")
    assert "other bytes than were frozen" in problems()
    delete(container, item.media_key)
    assert "was deleted" in problems()
    delete(container, f"{storage.artifact_prefix}datasets/{dataset.digest}/dataset.json")
    assert "dataset.json is gone" in problems()
    freeze(container)
    assert "dataset.json" not in problems()
    manifest = write_manifest([replace(item, instruction="the knife")])
    store.put(storage.artifact_bucket, dataset.files["train"]["key"], manifest, "x")
    assert "is not what was frozen" in problems()


def test_a_child_holds_what_is_new_and_a_share_of_what_was_there(
    container: Container, project: ReviewedProject
) -> None:
    for seed in range(3):
        project.review(project.scene(seed)[0])
    parent = freeze(container)
    runs = {seed: project.scene(seed)[0] for seed in (4, 5)}
    for run in runs.values():
        project.review(run)
    query = FreezeQuery(projects=("cups",), parent=parent.digest, replay_share=0.5)
    child = freeze(container, query)
    assert child.parent_digest == parent.digest
    found = items(container, child)
    assert sorted(item.provenance.annotation_id for item in found if item.fresh) == [r * 100 for r in runs.values()]
    replayed = {item.item_id for item in found if not item.fresh}
    assert len(replayed) == 2
    assert replayed < {item.item_id for item in items(container, parent)}
    assert freeze(container, query).id == child.id


def test_answers_that_were_taken_back_or_changed_are_not_replayed(
    container: Container, project: ReviewedProject
) -> None:
    runs = [project.scene(seed)[0] for seed in range(3)]
    for run in runs:
        project.review(run)
    parent = freeze(container)
    project.delete(runs[0])
    project.review(runs[1], moved(6))
    child = freeze(container, FreezeQuery(projects=("cups",), parent=parent.digest, replay_share=0.9))
    found = {item.provenance.annotation_id: item.fresh for item in items(container, child)}
    assert found == {runs[1] * 100: True, runs[2] * 100: False}


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


def sides(container: Container, dataset: Dataset) -> dict[Split, list[int]]:
    """The seeds of the videos on each side."""
    return {
        split: sorted(
            int(item.provenance.source_uri.rsplit("-", 1)[1].removesuffix(".mp4"))
            for item in items(container, dataset, split)
        )
        for split in (Split.TRAIN, Split.HOLDOUT)
    }


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


def test_nothing_reviewed_and_what_is_not_there_are_told(container: Container, project: ReviewedProject) -> None:
    with pytest.raises(BadInput, match=r"nothing to freeze \(none reviewed"):
        freeze(container)
    project.review(project.scene(0)[0], skipped=True)
    with pytest.raises(BadInput, match=r"nothing to freeze \(1 skipped"):
        freeze(container)
    with pytest.raises(NotFound, match="no project 'plates'"):
        freeze(container, FreezeQuery(projects=("cups", "plates")))
    project.review(project.scene(1)[0])
    with pytest.raises(NotFound, match="no data set"):
        freeze(container, FreezeQuery(projects=("cups",), parent="0" * 64))


def test_the_commands_and_the_api_tell_the_same(
    container: Container, project: ReviewedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.review(project.scene(0)[0])
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    monkeypatch.setattr(container.settings.local, "state_dir", project.folder / "state")

    def run(*words: str) -> str:
        return CliRunner().invoke(command.app, list(words), catch_exceptions=False).stdout

    with pytest.raises(NotFound, match="no data set has been frozen yet"):
        run("freeze", "cups", "--parent", "latest")
    made = json.loads(run("freeze", "cups", "--seed", "4", "--json"))
    digest = made["digest"]
    assert made["query"]["seed"] == 4
    assert json.loads(run("list", "--json")) == [made]
    assert json.loads(run("show", digest[:12], "--json")) == made
    client = TestClient(create_app(container))
    assert client.get(f"/api/v1/datasets/{digest}").json() == made
    assert client.get("/api/v1/datasets").json() == {"items": [made], "next_cursor": None}
    assert client.get("/api/v1/datasets/000000").status_code == 404
    assert digest[:12] in run("list")
    assert "Left out: nothing" in run("show", digest)
    assert "as it was frozen: 1 items" in run("verify", digest, "--deep")
    out = project.folder / "out"
    assert "1 items" in run("export", digest, "coco", str(out))
    assert len(COCO(str(out / "annotations.json")).getImgIds()) == FRAMES
    assert json.loads(run("show", "latest", "--json")) == made
    with pytest.raises(BadInput, match="nothing to freeze"):
        run("freeze", "cups", "--parent", "latest", "--replay-share", "0.5")
    with pytest.raises(BadInput, match="replay_share needs a parent"):
        run("freeze", "cups", "--replay-share", "0.5")


def test_a_public_set_is_a_data_set_that_others_go_on_from(
    container: Container, project: ReviewedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    root = public_sets.mevis(project.folder / "mevis")

    def run(*words: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(CliRunner().invoke(command.app, [*words, "--json"]).stdout)
        return told

    made = run("import", "mevis", str(root), "--fps", "5")
    counts = made["counts"]["train"]
    assert (made["origin"], counts["items"], counts["videos"]) == ("import:mevis", 4, 2)
    assert run("import", "mevis", str(root), "--fps", "5") == made
    with container.transaction() as session:
        dataset = repository.get(session, made["digest"])
    assert dataset_files.problems(container.store, container.settings.storage, dataset, deep=True) == []
    project.review(project.scene(0)[0])
    child = freeze(container, FreezeQuery(projects=("cups",), parent=made["digest"], replay_share=0.67))
    found = items(container, child)
    assert [item.provenance.origin for item in found if item.fresh] == ["review"]
    assert {item.provenance.source_uri for item in found if not item.fresh} <= {
        "public:mevis/clip0", "public:mevis/clip1",
    }  # fmt: skip
    assert len(found) == 3


@pytest.mark.parametrize(
    ("layout", "mode", "frames", "split", "holds"),
    [
        ("refcocog", Mode.VOS, 1, None, 6),
        ("ref-avs", Mode.AVS, public_sets.FRAMES, None, 3),
        ("ref-avs", Mode.AVS, public_sets.FRAMES, "test_n", 1),
    ],
)
def test_pictures_and_clips_that_sound_become_items(
    container: Container, project: ReviewedProject, monkeypatch: pytest.MonkeyPatch, layout: str, mode: Mode,
    frames: int, split: str | None, holds: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(command, "bootstrap", lambda: container)
    root = {"refcocog": public_sets.refcocog, "ref-avs": public_sets.ref_avs}[layout](project.folder / "set")
    words = ["import", layout, str(root), *(["--split", split] if split else []), "--json"]
    made: dict[str, Any] = json.loads(CliRunner().invoke(command.app, words).stdout)
    with container.transaction() as session:
        found = items(container, repository.get(session, made["digest"]))
    assert len(found) == holds
    assert {(item.mode, item.frame_count, item.has_audio) for item in found} == {(mode, frames, mode is Mode.AVS)}
    assert all(bool(item.objects) is (split is None) for item in found)
