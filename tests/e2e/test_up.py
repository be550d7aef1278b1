"""`premask up` as a person runs it: everything ready, commands beside it, a killed worker back, nothing left."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integrations.local.ports import is_free
from integrations.local.state import StateDir, running_stack
from tests.conftest import ROOT, remove_refuge
from tests.integration.local.processes import family, living, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.label_studio, pytest.mark.slow]

PREMASK = str(Path(sys.executable).parent / "premask")


@dataclass(frozen=True, slots=True)
class Up:
    launcher: "subprocess.Popen[str]"
    state_dir: Path

    def stack(self) -> dict[str, Any]:
        stack = running_stack(self.state_dir)
        assert stack is not None
        return stack

    def premask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command beside the stack, which has to find it by the state folder alone."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREMASK__")}
        environment["PREMASK__LOCAL__STATE_DIR"] = str(self.state_dir)
        return subprocess.run(
            [PREMASK, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    state_dir = tmp_path / "state"
    with (tmp_path / "output").open("w") as output:
        launcher = subprocess.Popen(
            [PREMASK, "up", "--state-dir", str(state_dir)],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        wait_until(lambda: running_stack(state_dir) or launcher.poll() is not None, "premask up ready", within_s=120)
        if launcher.poll() is not None:
            pytest.fail((tmp_path / "output").read_text())
        yield Up(launcher, state_dir)
    finally:
        if launcher.poll() is None:
            everybody = family(launcher.pid)
            launcher.kill()
            wait_until(lambda: not living(everybody), "all processes ended")
        launcher.wait()
        remove_refuge(StateDir(state_dir).identity)


def test_premask_up(up: Up) -> None:
    stack = up.stack()
    assert set(stack["pids"]) == {
        "postgres",
        "valkey",
        "s3",
        "label-studio",
        "api",
        "masks",
        "gpu",
        "io",
        "train",
        "beat",
    }

    with urllib.request.urlopen(f"{stack['urls']['api']}/healthz", timeout=10) as answer:
        assert json.load(answer)["status"] == "ok"
    token = stack["environment"]["PREMASK__LABEL_STUDIO__API_KEY"]
    whoami = urllib.request.Request(
        f"{stack['urls']['label_studio']}/api/current-user/whoami", headers={"Authorization": f"Token {token}"}
    )
    with urllib.request.urlopen(whoami, timeout=10) as answer:
        assert json.load(answer)["email"] == stack["login"]["username"]

    examined = up.premask("doctor", "--json")
    failed = [f for f in json.loads(examined.stdout)["findings"] if f["status"] == "failed"]
    assert (examined.returncode, failed) == (0, [])

    second = up.premask("up", "--state-dir", str(up.state_dir))
    assert second.returncode == 1
    assert second.stderr.startswith("premask: a stack is already running in")

    os.kill(stack["pids"]["gpu"], signal.SIGKILL)
    wait_until(lambda: up.stack()["pids"]["gpu"] != stack["pids"]["gpu"], "the GPU worker started again", within_s=30)

    everybody = family(up.launcher.pid)
    ports = json.loads((up.state_dir / "state.json").read_text())["ports"]
    up.launcher.send_signal(signal.SIGINT)
    assert up.launcher.wait(60) == 0
    assert living(everybody) == []
    assert [name for name, port in ports.items() if not is_free(port)] == []


def test_the_doctor_says_what_to_start_where_nothing_runs(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREMASK__")}
    # A port that nobody has: whatever else runs on this machine is not asked.
    environment |= {
        "PREMASK__LOCAL__STATE_DIR": str(tmp_path / "none"),
        "PREMASK__DATABASE__URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
    }
    command = [PREMASK, "doctor", "--json", "--only", "database", "--only", "python"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert [f["status"] for f in json.loads(done.stdout)["findings"]] == ["ok", "failed"]
    assert "premask up" in done.stderr


def test_help_is_there_at_once() -> None:
    """No library of the pipeline or the services is imported for a line of help."""
    program = (
        "import sys\n"
        "from backend.cli.main import main\n"
        "sys.argv = ['premask', '--help']\n"
        "try: main()\n"
        "finally: print(sorted({module.split('.')[0] for module in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Start everything on this machine" in done.stdout
    for heavy in ("torch", "transformers", "boto3", "sqlalchemy", "pydantic", "celery"):
        assert f"'{heavy}'" not in done.stderr
