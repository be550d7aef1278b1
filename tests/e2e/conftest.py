"""The whole product as its users run it: `premask up` as a process, videos put into its bucket, results read back."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backend.bootstrap import Container
from backend.settings import Settings
from integrations.local.state import StateDir, running_stack
from tests.conftest import ROOT, remove_refuge
from tests.factories.waiting import wait_for

#: Short, so that a lost worker is noticed within a test's patience.
OVERRIDES = {
    "PREMASK__WORKER__LEASE_S": "6",
    "PREMASK__WORKER__REAP_INTERVAL_S": "1",
    "PREMASK__WORKER__CHUNK_FRAMES": "16",
    "PREMASK__INGEST__RECONCILE_INTERVAL_S": "3",
}
START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class LiveStack:
    """A running stack. `environment` is what its own processes got; `container` sees the same services."""

    state_dir: Path
    environment: dict[str, str]
    urls: dict[str, str]
    login: dict[str, str]
    container: Container

    @property
    def bucket(self) -> str:
        return self.environment["PREMASK__STORAGE__ARTIFACT_BUCKET"]

    def premask(self, *arguments: str) -> Any:
        """A `premask` command with `--json`, and what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "backend.cli.main", *arguments, "--json"],
            env={**os.environ, **self.environment, **OVERRIDES},
            cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def put(self, path: Path, key: str) -> None:
        self.container.store.upload(self.bucket, key, path, "video/mp4")

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.urls["postgres"]) as connection:
            return connection.execute(sql, parameters).fetchall()

    def pid(self, service: str) -> int:
        description = running_stack(self.state_dir)
        assert description is not None
        return int(description["pids"][service])


@pytest.fixture(scope="session")
def live_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    state_dir = tmp_path_factory.mktemp("e2e") / "state"
    identity = StateDir(state_dir, well_known_ports=False).identity
    log = (state_dir.parent / "up.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.cli.main", "up", "--state-dir", str(state_dir)],
        env={**os.environ, **OVERRIDES}, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip

    def ready() -> dict[str, Any] | None:
        assert process.poll() is None, (state_dir.parent / "up.log").read_text()[-3000:]
        description = running_stack(state_dir)
        return description if description and "total" in description["seconds"] else None

    try:
        found = wait_for(ready, "premask up is ready", START_TIMEOUT_S)
        settings = Settings.model_validate(_nested(found["environment"]))
        container = Container(settings)
        yield LiveStack(state_dir, found["environment"], found["urls"], found["login"], container)
        container.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        log.close()
        remove_refuge(identity)


def _nested(environment: dict[str, str]) -> dict[str, dict[str, str]]:
    """PREMASK__GROUP__NAME=value as {"group": {"name": value}}: the settings, without touching this process's own."""
    groups: dict[str, dict[str, str]] = {}
    for name, value in environment.items():
        if name.startswith("PREMASK__"):
            _, group, field = name.lower().split("__", 2)
            groups.setdefault(group, {})[field] = value
    return groups
