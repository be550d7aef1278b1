"""`premask models`: a candidate is added, measured by the gate on real clips, and refused, promoted, taken back."""

import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli import models
from backend.cli.model_gate import REFUSED
from backend.settings import get_settings
from tests.conftest import S3
from tests.factories import core
from tests.factories.promoting import judged
from workers.shapeworld.world import export, levels, make
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def _environment(database_url: str, s3: S3, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = {
        **s3.environment(), "PREMASK__DATABASE__URL": database_url, "PREMASK__BROKER__URL": core.dead_url(),
        "PREMASK__STORAGE__ARTIFACT_PREFIX": prefix, "PREMASK__WORKER__WEIGHTS_DIR": str(tmp_path / "cache"),
        "PREMASK__GATE__MIN_VIDEOS": "2", "PREMASK__GATE__LATENCY_RATIO": "100", "PREMASK__REGISTRY__URL": f"sqlite:///{tmp_path}/mlflow.db",
    }  # fmt: skip
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PREMASK__LABEL_STUDIO__URL", raising=False)
    get_settings.cache_clear()


def run(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(models.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == status, done.output
    return done.stdout


@pytest.fixture
def candidate(container: Container, tmp_path: Path) -> str:
    """A version whose System 1 is the same but for a note beside it."""
    trained = tmp_path / "trained"
    shutil.copytree(container.profile.system1.weights.path, trained)
    (trained / "NOTE.md").write_text("night 1")
    made = json.loads(
        run("add", "--system1", str(trained), "--trained-on", "night 1", "--origin", '{"kl": 0.2}', "--json")
    )
    assert made["parent"] == container.profile.digest
    return str(made["digest"])


def test_a_version_is_promoted_shown_and_taken_back(container: Container, candidate: str) -> None:
    judged(container, candidate, container.profile.digest)
    run("challenge", candidate[:10], "--share", "0.5", "--why", "let us see")
    assert "challenger" in run("list")
    told = json.loads(run("promote", candidate[:10], "--why", "better at relations", "--who", "ada", "--json"))
    assert (told["version"], told["previous"], told["who"]) == (candidate, container.profile.digest, "ada")
    shown = json.loads(run("show", candidate, "--json"))
    assert (shown["aliases"], shown["origin"], len(shown["verdicts"])) == (["champion"], {"kl": 0.2}, 1)
    assert container.registry is not None
    assert "is shapeworld" not in run("rollback", "--why", "worse at sounds")
    actions = [row["action"] for row in json.loads(run("history", "--json"))]
    assert actions == ["rollback", "promote", "withdraw", "challenge"]
    assert "better at relations" in run("history")
    core.make_project(container)
    assert "pinned" in run("pin", "cups", candidate[:10])
    assert "follows" in run("follow", "cups")


def test_the_api_shows_models_promotions_and_verdicts(container: Container, candidate: str) -> None:
    verdict = judged(container, candidate, container.profile.digest, passed=False)
    with TestClient(create_app(container)) as client:
        listed = client.get("/api/v1/models").json()["items"]
        assert [row["digest"] for row in listed] == [candidate, container.profile.digest]
        shown = client.get(f"/api/v1/models/{candidate[:12]}").json()
        assert shown["verdicts"][0]["reasons"] == ["J&F changes by -0.1"]
        assert shown["profile"]["system1"]["weights"]["source"] == "stored"
        assert client.get(f"/api/v1/verdicts/{verdict.digest}").json()["body"]["passed"] is False
        assert client.get(f"/api/v1/verdicts/{verdict.digest}/page").json()["detail"].endswith("has no page")
        assert client.get("/api/v1/models/ffff").status_code == 404
        assert client.get(f"/api/v1/models/{candidate}/shadows").json()["pairs"] == []
        run("challenge", candidate, "--why", "let us see")
        [row] = client.get("/api/v1/promotions", params={"profile": "shapeworld"}).json()["items"]
        assert (row["alias"], row["version"], row["share"], row["why"]) == ("challenger", candidate, 0.1, "let us see")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two small clips in the layout of MeViS."""
    scenes = [make.make_scene(seed, Kind.ATTRIBUTE, levels.EASY) for seed in (0, 3)]
    named = [(f"clip{number}", example.scene, [example.question]) for number, example in enumerate(scenes)]
    export.export(tmp_path / "clips", named, 96, jpeg=False)
    return tmp_path / "clips"


@pytest.mark.slow
def test_the_gate_refuses_a_candidate_that_is_no_better(
    container: Container, candidate: str, clips: Path, tmp_path: Path
) -> None:
    page = tmp_path / "verdict.html"
    suites = ("--fresh", str(clips), "--regression", str(clips))
    told = json.loads(run("gate", candidate, *suites, "--page", str(page), "--json", status=REFUSED))
    assert not told["passed"]
    assert [c["name"] for c in told["checks"] if c["passed"] is False] == ["better on clips"]
    assert [c["value"] for c in told["checks"] if c["name"] == "KL"] == [0.2]
    compared = told["suites"][0]["whole"]
    assert compared["difference"]["mean"] == 0.0  # the same weights
    assert compared["candidate_jf"] > 0.3
    with TestClient(create_app(container)) as client:
        assert client.get(f"/api/v1/verdicts/{told['digest']}/page").text == page.read_text()
    assert "is refused" in page.read_text()
