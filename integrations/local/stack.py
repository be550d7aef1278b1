"""The whole embedded stack: base services, Label Studio, our processes, and the environment that ties them together."""

import asyncio
import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import SecretStr

from backend.db.migrate import upgrade
from backend.db.session import make_engine
from backend.domain.errors import ServiceUnavailable
from backend.settings import DatabaseSettings, Settings
from integrations.local import app, label_studio, postgres, seaweedfs, valkey
from integrations.local.console import Console
from integrations.local.ports import LOOPBACK
from integrations.local.service import Service
from integrations.local.state import StateDir
from integrations.local.supervisor import Supervisor, together

STORAGE_EVENTS_PATH = "/api/v1/events/s3"
LABELING_EVENTS_PATH = "/api/v1/events/label-studio"
ML_BACKEND_PATH = "/interactive"


class Stack:
    """`async with Stack(folder) as stack:` has everything running inside, and nothing after.

    `environment`, `urls` and `seconds` are complete once `start` has returned.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        quiet: bool = False,
        with_label_studio: bool = True,
        with_app: bool = True,
        label_studio_venv: Path = Path(".venv-label-studio"),
        well_known_ports: bool = True,
    ) -> None:
        self.state = StateDir(state_dir, well_known_ports=well_known_ports)
        self.console = Console(quiet=quiet)
        self.environment: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        #: How to log in at Label Studio: username and password.
        self.login: dict[str, str] = {}
        #: By service, and by phase: prepare, base, migrate, app, total, stop.
        self.seconds: dict[str, float] = {}
        self._with_label_studio = with_label_studio
        self._with_app = with_app
        self._label_studio_venv = label_studio_venv
        self._supervisor: Supervisor | None = None
        self._held = contextlib.ExitStack()

    async def __aenter__(self) -> "Stack":
        try:
            await self.start()
        except BaseException:  # interrupted counts too: nothing may be left running
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Everything ready, or an exception; call `stop` either way. Raises `Conflict` when the folder is in use."""
        started = time.monotonic()
        lock = await asyncio.to_thread(self._held.enter_context, self.state.locked())
        supervisor = self._supervisor = Supervisor(self.console, on_change=self._publish, lock_descriptor=lock)
        supervisor.seconds = self.seconds
        starting: asyncio.Future[None] = asyncio.create_task(self._start_all(supervisor))
        broken: asyncio.Future[Any] = supervisor.failure
        try:
            # A base service that dies while the others still start ends the start at once.
            await asyncio.wait({starting, broken}, return_when=asyncio.FIRST_COMPLETED)
            if supervisor.failure.done():
                raise supervisor.failure.result()
            starting.result()
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        self.seconds["total"] = round(time.monotonic() - started, 2)
        self._publish()

    async def failed(self) -> ServiceUnavailable:
        """Waits until a base service has crashed; the error says which, with its last lines."""
        if self._supervisor is None:
            raise ServiceUnavailable("the stack is not running")
        return await asyncio.shield(self._supervisor.failure)

    async def stop(self) -> None:
        """Safe at any time, and twice."""
        started = time.monotonic()
        if self._supervisor is not None:
            await self._supervisor.stop()
            self._supervisor = None
            self.seconds["stop"] = round(time.monotonic() - started, 2)
        self._held.close()

    def kill(self) -> None:
        """Don't wait for anybody. `stop` still has to be awaited."""
        if self._supervisor is not None:
            self._supervisor.kill()

    async def _start_all(self, supervisor: Supervisor) -> None:
        if not self._with_label_studio:
            await self._start_base_then_app(supervisor)
            return
        # Made ready before anything runs: the app's environment names it, and a missing installation shows at once.
        labeling = self._prepare_label_studio()
        await together(self._start_base_then_app(supervisor), supervisor.start(labeling))

    async def _start_base_then_app(self, supervisor: Supervisor) -> None:
        with self._timed("base"):
            await together(self._start_postgres(supervisor), self._start_valkey(supervisor), self._start_s3(supervisor))
        if self._with_app:
            await self._start_app(supervisor)

    async def _start_postgres(self, supervisor: Supervisor) -> None:
        server = await asyncio.to_thread(postgres.prepare, self.state)
        if server.relocated is not None:
            self.console.line("postgres", server.relocated)
        await supervisor.start(postgres.service(server, self.state.log("postgres")))
        self.environment["PREMASK__DATABASE__URL"] = server.url()
        self.urls["postgres"] = server.url(driver="postgresql")

    async def _start_valkey(self, supervisor: Supervisor) -> None:
        server = valkey.prepare(self.state)
        await supervisor.start(valkey.service(server, self.state.log("valkey")))
        self.environment["PREMASK__BROKER__URL"] = server.url
        self.urls["valkey"] = server.url

    def _s3(self) -> seaweedfs.SeaweedFS:
        token = self.state.secret("webhook")
        self.environment["PREMASK__INGEST__WEBHOOK_TOKEN"] = token
        return seaweedfs.prepare(self.state, webhook_url=f"{self._api_url()}{STORAGE_EVENTS_PATH}", webhook_token=token)

    async def _start_s3(self, supervisor: Supervisor) -> None:
        server = self._s3()
        await supervisor.start(seaweedfs.service(server, self.state.log("s3")))
        self.environment |= {
            "PREMASK__STORAGE__ENDPOINT_URL": server.endpoint_url,
            "PREMASK__STORAGE__REGION": seaweedfs.REGION,
            "PREMASK__STORAGE__ACCESS_KEY_ID": server.access_key_id,
            "PREMASK__STORAGE__SECRET_ACCESS_KEY": server.secret_access_key,
            "PREMASK__STORAGE__ARTIFACT_BUCKET": server.bucket,
        }
        self.urls["s3"] = server.endpoint_url

    def _prepare_label_studio(self) -> Service:
        server = label_studio.prepare(self.state, self._label_studio_venv, s3_endpoint_url=self._s3().endpoint_url)
        self.environment["PREMASK__LABEL_STUDIO__URL"] = server.url
        self.environment["PREMASK__LABEL_STUDIO__API_KEY"] = server.token
        self.environment["PREMASK__LABEL_STUDIO__WEBHOOK_URL"] = f"{self._api_url()}{LABELING_EVENTS_PATH}"
        self.environment["PREMASK__LABEL_STUDIO__WEBHOOK_TOKEN"] = self.state.secret("label-studio-webhook")
        self.environment["PREMASK__LABEL_STUDIO__ML_BACKEND_URL"] = f"{self._api_url()}{ML_BACKEND_PATH}"
        self.environment["PREMASK__LABEL_STUDIO__ML_BACKEND_SECRET"] = self.state.secret("ml-backend")
        self.urls["label_studio"] = server.url
        self.login = {"username": label_studio.EMAIL, "password": server.password}
        return label_studio.service(server, self.state.log("label-studio"))

    async def _start_app(self, supervisor: Supervisor) -> None:
        self.environment |= {
            "PREMASK__API__HOST": LOOPBACK,
            "PREMASK__API__PORT": str(self.state.port("api", 8000)),
            "PREMASK__LOCAL__STATE_DIR": str(self.state.path),
            # Elsewhere two stacks of a machine would take each other's retrainings for their own: both count from 1.
            "PREMASK__RETRAINING__DIR": str(Settings().retraining.dir or self.state.path / "retrainings"),
            "PREMASK__INTERACTIVE__SERVICE_URL": f"http://{LOOPBACK}:{self.state.port('masks', 8020)}",
            "PREMASK__INTERACTIVE__SERVICE_TOKEN": self.state.secret("masks"),
        }
        with self._timed("migrate"):
            await asyncio.to_thread(_migrate, self.environment["PREMASK__DATABASE__URL"])
        ports = self.state.port("api", 8000), self.state.port("masks", 8020)
        services = app.services(self.state, *ports, self.urls["postgres"], self.environment)
        with self._timed("app"):
            await together(*(supervisor.start(service) for service in services))
        self.urls["api"] = self._api_url()

    def _api_url(self) -> str:
        return f"http://{LOOPBACK}:{self.state.port('api', 8000)}"

    def _publish(self) -> None:
        pids = self._supervisor.pids if self._supervisor is not None else {}
        self.state.publish(
            {
                "environment": self.environment,
                "urls": self.urls,
                "login": self.login,
                "pids": pids,
                "seconds": self.seconds,
            }
        )

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.seconds[phase] = round(time.monotonic() - started, 2)


def _migrate(database_url: str) -> None:
    engine = make_engine(DatabaseSettings(url=SecretStr(database_url)))
    try:
        upgrade(engine)
    finally:
        engine.dispose()
