"""scripts/bootstrap.py: which torch is taken, what pip's settings become for uv, when there is nothing to do."""

import importlib.util
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT


@pytest.fixture
def bootstrap(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("PIP_FIND_LINKS", "PIP_CERT", "PIP_INDEX_URL", "UV_FIND_LINKS", "SSL_CERT_FILE", "UV_DEFAULT_INDEX"):
        monkeypatch.delenv(name, raising=False)
    # pip's own files are the machine's.
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def commands(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands it would run; the index of CPU builds is out of reach."""
    ran: list[list[str]] = []

    def run(words: list[object], **_: Any) -> "subprocess.CompletedProcess[str]":
        command = [str(word) for word in words]
        ran.append(command)
        return subprocess.CompletedProcess(command, 1 if "--torch-backend" in command else 0, "", "")

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    return ran


def test_pip_settings_are_handed_to_uv_which_ignores_them(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", f"{tmp_path / 'wheels'} {tmp_path / 'missing'}")
    monkeypatch.setenv("PIP_CERT", "/certificates.crt")
    folders = bootstrap.wheel_folders()
    assert folders == [tmp_path / "wheels"]
    environment = bootstrap.uv_environment(folders)
    assert environment["UV_FIND_LINKS"] == str(tmp_path / "wheels")
    assert environment["SSL_CERT_FILE"] == "/certificates.crt"
    assert environment["SAM2_BUILD_CUDA"] == "0"
    monkeypatch.setenv("SSL_CERT_FILE", "/uv's own.crt")
    assert "SSL_CERT_FILE" not in bootstrap.uv_environment(folders)


def test_torch_comes_from_a_folder_that_has_it(
    bootstrap: ModuleType, commands: list[list[str]], tmp_path: Path
) -> None:
    empty, full = tmp_path / "empty", tmp_path / "full"
    for folder in (empty, full):
        folder.mkdir()
    (full / f"torch-{bootstrap.TORCH.partition('==')[2]}+cpu-cp311-cp311-linux_x86_64.whl").touch()
    bootstrap.install_torch(Path("uv"), "cpu", [empty, full], {})
    (command,) = commands
    assert command[command.index("--find-links") + 1] == str(full)
    assert {"--no-index", "--no-deps"} <= set(command)


def test_torch_falls_back_loudly_when_the_index_of_cpu_builds_is_out_of_reach(
    bootstrap: ModuleType, commands: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    bootstrap.install_torch(Path("uv"), "cpu", [], {})
    first, second = commands
    assert first[first.index("--torch-backend") + 1] == "cpu"
    assert "--torch-backend" not in second
    assert "--no-deps" not in second, "the CUDA build needs its own packages"
    assert "!! the index of CPU builds could not be reached" in capsys.readouterr().out


def test_a_gpu_gets_the_cuda_build_unless_told_otherwise(
    bootstrap: ModuleType, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREMASK_TORCH", raising=False)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert bootstrap.torch_choice() == "cuda"
    bootstrap.install_torch(Path("uv"), "cuda", [], {})
    assert commands[0][-1] == bootstrap.TORCH
    assert "--no-deps" not in commands[0]
    monkeypatch.setenv("PREMASK_TORCH", "cpu")
    assert bootstrap.torch_choice() == "cpu"
    monkeypatch.setenv("PREMASK_TORCH", "tpu")
    with pytest.raises(SystemExit, match="PREMASK_TORCH"):
        bootstrap.torch_choice()


def test_the_stamp_changes_with_the_lock_and_the_torch(bootstrap: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("a==1\n")
    marks = [bootstrap.fingerprint(lock, "cpu"), bootstrap.fingerprint(lock, "cuda")]
    lock.write_text("a==2\n")
    marks.append(bootstrap.fingerprint(lock, "cpu"))
    assert len(set(marks)) == 3
    (tmp_path / "bin").mkdir()
    (tmp_path / "premask.stamp").write_text(marks[0])
    assert not bootstrap.is_made(tmp_path, marks[0]), "no interpreter"
    (tmp_path / "bin" / "python").touch()
    assert bootstrap.is_made(tmp_path, marks[0])
    assert not bootstrap.is_made(tmp_path, marks[2])


def test_two_at_once_take_turns(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    order: list[str] = []
    waiting = threading.Event()
    monkeypatch.setattr(bootstrap, "say", lambda _: waiting.set())

    def second() -> None:
        with bootstrap.alone():
            order.append("second")

    with bootstrap.alone():
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10), "the second says that it waits"
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_locks_name_no_index_no_path_and_not_torch(bootstrap: ModuleType) -> None:
    for lock in (bootstrap.LOCK, bootstrap.LABEL_STUDIO_LOCK):
        for line in lock.read_text().splitlines():
            assert "==" in line
            assert "/" not in line
            assert not bootstrap.NOT_LOCKED.match(line)
    assert bootstrap.LABEL_STUDIO in bootstrap.LABEL_STUDIO_LOCK.read_text().splitlines()


def test_the_versions_in_the_script_are_those_of_the_project(bootstrap: ModuleType) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for pinned in (bootstrap.TORCH, bootstrap.SAM2):
        assert f'"{pinned}"' in project


def test_when_nothing_changed_it_is_done_at_once(bootstrap: ModuleType) -> None:
    mark = bootstrap.fingerprint(bootstrap.LOCK, ROOT / "pyproject.toml", bootstrap.torch_choice(), str(ROOT))
    if not bootstrap.is_made(bootstrap.VENV, mark):
        pytest.skip("this environment was not made by the bootstrap as it stands now")
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "bootstrap.py"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert time.monotonic() - started < 3.0
