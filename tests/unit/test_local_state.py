"""The state folder: secrets and ports stick, the lock refuses a second stack, a dead stack is not a running one."""

import json
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.domain.errors import Conflict, Misconfigured
from integrations.local import state as state_module
from integrations.local.ports import LOOPBACK
from integrations.local.state import StateDir, running_environment


def test_secrets_and_ports_are_the_same_next_time(tmp_path: Path) -> None:
    first = StateDir(tmp_path, well_known_ports=False)
    secret, port = first.secret("s3"), first.port("s3", 8333)
    assert port != 8333
    first.release_ports()
    again = StateDir(tmp_path)
    assert (again.secret("s3"), again.port("s3", 8333)) == (secret, port)
    assert stat.S_IMODE((tmp_path / "state.json").stat().st_mode) == 0o600


def test_secrets_asked_for_by_many_threads_are_all_kept(tmp_path: Path) -> None:
    first = StateDir(tmp_path)
    names = [f"secret-{i}" for i in range(40)]
    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(first.secret, names))
    again = StateDir(tmp_path)
    assert [again.secret(name) for name in names] == given


def test_a_taken_port_is_replaced_and_two_names_never_share_one(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        taken = other.getsockname()[1]
        state = StateDir(tmp_path)
        ports = [state.port("a", taken), state.port("b", taken), state.port("c", taken)]
    assert taken not in ports
    assert len(set(ports)) == 3


def test_a_port_chosen_by_one_stack_is_not_chosen_by_another_although_nobody_has_bound_it_yet(tmp_path: Path) -> None:
    first = StateDir(tmp_path / "first", well_known_ports=False)
    wanted = first.port("label-studio", 8080)
    assert StateDir(tmp_path / "second").port("label-studio", wanted) != wanted
    first.release_ports()
    assert StateDir(tmp_path / "third").port("label-studio", wanted) == wanted


def test_a_second_stack_is_refused_while_the_first_holds_the_folder(tmp_path: Path) -> None:
    refused = pytest.raises(Conflict, match=f"already running .*process {os.getpid()}")
    with StateDir(tmp_path).locked(), refused, StateDir(tmp_path).locked():
        pass
    with StateDir(tmp_path).locked():
        pass


def test_a_stack_counts_as_running_only_while_its_launcher_lives(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    assert running_environment(tmp_path) is None
    assert running_environment(tmp_path / "nowhere") is None
    with state.locked():
        assert running_environment(tmp_path) is None, "not ready yet"
        state.publish({"environment": {"PREMASK__API__PORT": "1"}})
        assert running_environment(tmp_path) == {"PREMASK__API__PORT": "1"}
        assert stat.S_IMODE(state.stack_file.stat().st_mode) == 0o600
    state.publish({"environment": {}})  # as a killed launcher leaves it
    assert running_environment(tmp_path) is None


def test_the_folder_of_a_killed_launcher_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "CLEANING_PATIENCE_S", 0.2)
    monkeypatch.setattr(state_module, "LOCK_PATIENCE_S", 60.0)
    with StateDir(tmp_path).locked():
        (tmp_path / "lock").write_text("999999999")  # the guard holds the lock, its launcher is dead
        with pytest.raises(Conflict), StateDir(tmp_path).locked():
            pass
    with StateDir(tmp_path).locked():
        pass


def test_a_broken_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(Misconfigured, match=r"state\.json"):
        StateDir(tmp_path)
    (tmp_path / "state.json").write_text(json.dumps({"secrets": {"s3": "kept"}}))
    assert StateDir(tmp_path).secret("s3") == "kept"
