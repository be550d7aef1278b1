"""Data sets as commands, over the API and from public ones."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pycocotools.coco import COCO
from typer.testing import CliRunner

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli import datasets as command
from backend.db.repositories import datasets as repository
from backend.domain.errors import BadInput, NotFound
from backend.domain.runs import Mode
from backend.services import dataset_files
from backend.services.selection import FreezeQuery
from tests.factories import public_sets
from tests.factories.frozen import freeze, items
from tests.factories.reviewed import FRAMES, ReviewedProject

pytestmark = pytest.mark.stack


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
