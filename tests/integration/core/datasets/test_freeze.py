"""Data sets: the same query on the same reviews is the same data set, and nothing that was frozen changes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from backend.bootstrap import Container
from backend.domain.annotation import Box, VideoProbe
from backend.services import dataset_files, datasets
from backend.services.manifests import write_manifest
from backend.services.selection import FreezeQuery
from integrations.s3.store import make_client
from tests.conftest import S3
from tests.factories.frozen import freeze, items
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

pytestmark = pytest.mark.stack


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


def delete(container: Container, key: str) -> None:
    make_client(container.settings.storage).delete_object(Bucket=container.settings.storage.artifact_bucket, Key=key)
