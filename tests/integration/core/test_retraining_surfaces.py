"""Schedules and retrainings as people and programs ask for them: `premask retrain` and the API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from backend.api.app import create_app
from backend.bootstrap import Container
from backend.cli import retrain
from backend.settings import get_settings
from tests.factories import core

pytestmark = pytest.mark.stack


def run(*arguments: str) -> str:
    done = CliRunner().invoke(retrain.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_from_the_command_line(
    container: Container, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREMASK__DATABASE__URL", database_url)
    monkeypatch.setenv("PREMASK__BROKER__URL", core.dead_url())
    get_settings.cache_clear()
    core.make_project(container)
    config = tmp_path / "night.toml"
    config.write_text("[training]\nsteps = 7\n")
    told = run(
        "schedule", "cups", "0 2 * * *", "--time-zone", "Europe/Berlin", "--config", str(config),
        "--min-corrections", "50", "--budget-h", "6", "--notify", "mailto:ml@example.org", "--on-pass", "challenge",
    )  # fmt: skip
    assert told.startswith("cups is retrained next at 20")
    [made] = json.loads(run("schedules", "--json"))
    assert (made["cron"], made["time_zone"]) == ("0 2 * * *", "Europe/Berlin")
    wanted = {"min_corrections": 50, "budget_h": 6.0, "on_pass": "challenge", "notify": ["mailto:ml@example.org"]}
    assert made["plan"] | wanted | {"config": "[training]\nsteps = 7\n"} == made["plan"]
    asked = json.loads(run("now", "cups", "--min-corrections", "1", "--json"))
    assert (asked["state"], asked["plan"]["min_corrections"], asked["plan"]["on_pass"]) == ("queued", 1, "promote")
    number = str(asked["id"])
    assert "queued" in run("list", "--project", "cups")
    assert "queued" in run("show", number)
    assert json.loads(run("cancel", number, "--json"))["state"] == "cancelled"
    assert [row["state"] for row in json.loads(run("list", "--json"))] == ["cancelled"]
    assert "cups is retrained no more" in run("unschedule", "cups")
    assert json.loads(run("schedules", "--json")) == []


@pytest.fixture
def client(container: Container) -> Iterator[TestClient]:
    with TestClient(create_app(container), raise_server_exceptions=False) as made:
        yield made


def test_by_the_api(client: TestClient, container: Container) -> None:
    core.make_project(container)
    asked = {"cron": "30 3 * * 1-5", "time_zone": "America/New_York", "plan": {"min_corrections": 7}}
    made = client.put("/api/v1/projects/cups/retraining-schedule", json=asked)
    assert (made.status_code, made.json()["plan"]["min_corrections"]) == (200, 7)
    assert [one["cron"] for one in client.get("/api/v1/retraining-schedules").json()] == ["30 3 * * 1-5"]
    for wrong, said in (({"cron": "* * *"}, "five fields"), ({"time_zone": "Mars/Olympus"}, "no time zone")):
        refused = client.put("/api/v1/projects/cups/retraining-schedule", json=asked | wrong)
        assert refused.status_code == 422
        assert said in refused.json()["detail"]
    started = client.post("/api/v1/projects/cups/retrainings")
    assert (started.status_code, started.json()["plan"]["min_corrections"]) == (201, 7)
    number = started.json()["id"]
    again = client.post("/api/v1/projects/cups/retrainings")
    assert (again.status_code, "under way" in again.json()["detail"]) == (409, True)
    assert client.get(f"/api/v1/retrainings/{number}").json()["who"] == "api"
    assert client.post(f"/api/v1/retrainings/{number}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/api/v1/retrainings/{number}/cancel").status_code == 409
    assert [one["id"] for one in client.get("/api/v1/retrainings?project=cups").json()["items"]] == [number]
    assert client.get("/api/v1/retrainings/999").status_code == 404
    assert client.delete("/api/v1/projects/cups/retraining-schedule").status_code == 200
    assert client.delete("/api/v1/projects/cups/retraining-schedule").status_code == 404
