"""MLflow as the registry, on a schema of our Postgres and on SQLite: the same contract over both."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from backend.bootstrap import Container
from backend.db import migrate
from backend.domain.errors import NotFound, ServiceUnavailable
from backend.ports.registry import Curves, ModelRegistry, RegisteredVersion
from backend.services import models, promotions
from backend.settings import DatabaseSettings, RegistrySettings, StorageSettings
from integrations.mlflow.registry import MlflowRegistry
from tests.factories import core

pytestmark = pytest.mark.stack

NAME = "the 'small' one"


@pytest.fixture(scope="module", params=["postgres", "sqlite"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowRegistry]:
    storage = StorageSettings()
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/registry.db"
        yield MlflowRegistry(RegistrySettings(url=url), DatabaseSettings(), storage)
        return
    url = request.getfixturevalue("module_database_url")
    yield MlflowRegistry(RegistrySettings(), DatabaseSettings(url=url), storage)


def version(digest: str, **tags: str) -> RegisteredVersion:
    return RegisteredVersion(NAME, digest * 64, f"s3://premask/{digest}.json", "night 1", tags)


def test_versions_are_registered_once_and_aliases_move(registry: ModelRegistry) -> None:
    assert registry.aliases(NAME) == {}
    registry.register(version("a"))
    registry.register(version("a"))
    registry.register(version("b", data="set 1"))
    registry.set_aliases(NAME, {"champion": "a" * 64, "challenger": "b" * 64})
    assert registry.aliases(NAME) == {"champion": "a" * 64, "challenger": "b" * 64}
    registry.set_aliases(NAME, {"champion": "b" * 64, "challenger": None})
    registry.set_aliases(NAME, {"champion": "b" * 64, "challenger": None})
    assert registry.aliases(NAME) == {"champion": "b" * 64}
    with pytest.raises(NotFound, match="not in the registry"):
        registry.set_aliases(NAME, {"champion": "c" * 64})


def test_curves_are_kept_whole(registry: MlflowRegistry) -> None:
    steps = 2500  # more than MLflow takes at once
    points = [(step, step / steps) for step in range(steps)]
    curves = Curves("night 2", {"steps": str(steps), "beta": "0.04"}, {"reward": points, "kl": [(0, 0.0)]})
    registry.register(version("d"), curves)
    client = registry._connect()
    found = next(v for v in client.search_model_versions() if v.tags["digest"] == "d" * 64)
    run = client.get_run(found.run_id)
    assert run.data.params == {"steps": "2500", "beta": "0.04"}
    assert run.info.artifact_uri.startswith("s3://premask/artifacts/mlflow/")
    assert [(m.step, m.value) for m in client.get_metric_history(found.run_id, "reward")] == points


def test_a_registry_that_is_away_is_an_outage() -> None:
    url = f"postgresql+psycopg://nobody@127.0.0.1:{core.free_port()}/none"
    away = MlflowRegistry(RegistrySettings(), DatabaseSettings(url=url), StorageSettings())
    with pytest.raises(ServiceUnavailable, match="doesn't answer"):
        away.aliases(NAME)


def test_the_registry_follows_the_database_and_leaves_our_schema_alone(container: Container) -> None:
    assert container.registry is not None
    challenger = container.profile.with_weights(lambda w: w.model_copy(update={"trained_on": "night 1"}))
    with container.transaction() as session:
        promotions.base_version(session, container.profile)
        digest = models.register(session, challenger).digest
        promotions.challenge(session, digest, 0.5, base=container.profile, who="ada", why="let us see")
    name = container.profile.name
    models.mirror(container.sessions, container.registry, name, container.settings.storage)
    assert container.registry.aliases(name) == {"challenger": digest}
    with container.transaction() as session:
        promotions.withdraw(session, name, who="ada", why="we saw")
    models.mirror(container.sessions, container.registry, name, container.settings.storage)
    assert container.registry.aliases(name) == {}
    migrate.check(container.engine)
    with container.engine.connect() as connection:
        schemas = connection.execute(text("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'experiments'"))
        assert schemas.scalars().all() == ["mlflow"]


@pytest.fixture
def container(database_url: str) -> Iterator[Container]:
    made = Container(core.settings(database_url))
    yield made
    made.close()
