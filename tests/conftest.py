"""Fixtures for the real embedded services, started once a session and only when a test asks for them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from backend.db.migrate import upgrade
from backend.db.session import make_engine
from backend.settings import DatabaseSettings
from integrations.local import label_studio as local_label_studio
from integrations.local import postgres, seaweedfs, valkey
from integrations.local.accounts import REFUGE
from integrations.local.service import running
from integrations.local.state import StateDir

ROOT = Path(__file__).parent.parent
TEMPLATE = "premask_template"


@pytest.fixture(scope="session")
def local_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateDir]:
    """The state folder of the session's services. As root, Postgres' data lies in a refuge, removed here."""
    state = StateDir(tmp_path_factory.mktemp("premask-state"), well_known_ports=False)
    yield state
    remove_refuge(state.identity)


def remove_refuge(identity: str) -> None:
    """What the state folder of that identity has outside of itself."""
    for folder in REFUGE.glob(f"premask-state-{os.geteuid()}-*"):
        mark = folder / "identity"
        if mark.exists() and mark.read_text() == identity:
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(local_state: StateDir) -> Iterator[postgres.Postgres]:
    server = postgres.prepare(local_state)
    with running(postgres.service(server, local_state.log("postgres"), durable=False)):
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: postgres.Postgres) -> str:
    """SQLAlchemy URL of an empty database of the session's Postgres. Wants a fresh schema? Take `database_url`."""
    return postgres_server.url()


@pytest.fixture(scope="session")
def migrated_template(postgres_server: postgres.Postgres) -> str:
    """The name of a database on which the Alembic migrations have been run once."""
    with postgres_server.connect() as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    engine = make_engine(DatabaseSettings(url=SecretStr(postgres_server.url(TEMPLATE))))
    upgrade(engine)
    engine.dispose()
    return TEMPLATE


@contextmanager
def _fresh_database(server: postgres.Postgres, template: str) -> Iterator[str]:
    name = f"test_{uuid4().hex[:12]}"
    with server.connect() as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield server.url(name)
    with server.connect() as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres_server: postgres.Postgres, migrated_template: str) -> Iterator[str]:
    """SQLAlchemy URL of a database of this test's own, migrated to head."""
    with _fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def second_database_url(postgres_server: postgres.Postgres, migrated_template: str) -> Iterator[str]:
    """Another database like `database_url`, for what is to be the same in both."""
    with _fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(postgres_server: postgres.Postgres, migrated_template: str) -> Iterator[str]:
    """As `database_url`, shared by the tests of a module."""
    with _fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def valkey_url(local_state: StateDir) -> Iterator[str]:
    server = valkey.prepare(local_state)
    with running(valkey.service(server, local_state.log("valkey"))):
        yield server.url


@dataclass(frozen=True, slots=True)
class S3:
    """A running S3 endpoint with one bucket, for all tests of the session: keep to keys of your own (`prefix`)."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str
    bucket: str
    region: str
    server: seaweedfs.SeaweedFS

    def environment(self) -> dict[str, str]:
        return {
            "PREMASK__STORAGE__ENDPOINT_URL": self.endpoint_url,
            "PREMASK__STORAGE__REGION": self.region,
            "PREMASK__STORAGE__ACCESS_KEY_ID": self.access_key_id,
            "PREMASK__STORAGE__SECRET_ACCESS_KEY": self.secret_access_key,
            "PREMASK__STORAGE__ARTIFACT_BUCKET": self.bucket,
        }


@pytest.fixture(scope="session")
def s3(local_state: StateDir) -> Iterator[S3]:
    server = seaweedfs.prepare(local_state)
    with running(seaweedfs.service(server, local_state.log("s3"))):
        yield S3(
            server.endpoint_url,
            server.access_key_id,
            server.secret_access_key,
            server.bucket,
            seaweedfs.REGION,
            server,
        )


@dataclass(frozen=True, slots=True)
class LabelStudioServer:
    """A running Label Studio that reads the session's S3. Tests make projects of their own."""

    url: str
    token: str
    email: str
    password: str


@pytest.fixture(scope="session")
def label_studio(local_state: StateDir, s3: S3) -> Iterator[LabelStudioServer]:
    server = local_label_studio.prepare(local_state, ROOT / ".venv-label-studio", s3_endpoint_url=s3.endpoint_url)
    with running(local_label_studio.service(server, local_state.log("label-studio"))):
        yield LabelStudioServer(server.url, server.token, local_label_studio.EMAIL, server.password)


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"test-{uuid4().hex[:12]}/"
