"""`premask projects|videos|runs|db`: tables, JSON, one line and status 1 for what can't be."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from backend.bootstrap import Container
from backend.cli import projects, runs, videos
from backend.services import videos as video_service
from backend.settings import get_settings
from tests.conftest import ROOT
from tests.factories import core

pytestmark = pytest.mark.stack


@pytest.fixture(autouse=True)
def _environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREMASK__DATABASE__URL", database_url)
    monkeypatch.setenv("PREMASK__BROKER__URL", core.dead_url())
    monkeypatch.delenv("PREMASK__LABEL_STUDIO__URL", raising=False)
    get_settings.cache_clear()


def _run(app: object, *arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_project_from_the_command_line(container: Container) -> None:
    made = json.loads(
        _run(projects.app, "create", "cups", "--source", "s3://premask/in/", "--instruction", "the [red] cup", "--json")
    )
    assert (made["name"], made["sources"][0]["prefix"]) == ("cups", "in/")
    core.take_in(container, core.version("in/a.mp4"))
    _run(projects.app, "add-instruction", "cups", "what makes the sound", "--mode", "avs")
    _run(projects.app, "add-source", "cups", "s3://other/")
    shown = json.loads(_run(projects.app, "show", "cups", "--json"))
    assert [row["mode"] for row in shown["instructions"]] == ["vos", "avs"]
    assert "the [red] cup" in _run(projects.app, "list")
    listed = json.loads(_run(runs.app, "list", "--project", "cups", "--json"))
    assert {run["instruction"] for run in listed} == {"the [red] cup", "what makes the sound"}


def test_videos_and_runs_are_listed_shown_cancelled_and_retried(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    bad = core.take_in(container, core.version("in/bad.mp4"))
    assert bad.video_id is not None
    with container.transaction() as session:
        video_service.record_unreadable(session, bad.video_id, "unreadable_video", "the file is a poem")
    assert "the file is a poem" in _run(videos.app, "list")
    assert json.loads(_run(videos.app, "show", "1", "--json"))["frame_count"] == 300
    assert "the file is a poem" in _run(runs.app, "list", "--status", "failed")
    assert json.loads(_run(runs.app, "show", str(run_id), "--json"))["status"] == "queued"
    assert "cancelled" in _run(runs.app, "cancel", str(run_id))
    assert "queued" in _run(runs.app, "retry", str(run_id))
    _run(runs.app, "cancel", str(run_id))
    assert "in/a.mp4" in _run(runs.app, "watch", "--until-done")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("runs", "show", "12345"), "there is no run 12345"),
        (("projects", "show", "none"), "there is no project 'none'"),
        (("projects", "connect", "none"), "no labeling tool is configured"),
    ],
)
def test_what_can_not_be_is_one_line_and_status_1(arguments: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "backend.cli.main", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip().count("\n") == 0
    assert said in done.stderr


def test_db_check_and_upgrade_say_so() -> None:
    for arguments in (("db", "upgrade"), ("db", "check")):
        command = [sys.executable, "-m", "backend.cli.main", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "schema" in done.stdout
