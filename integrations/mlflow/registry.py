"""MLflow as `backend.ports.registry.ModelRegistry`: `mlflow-skinny` on its SQL store, without a server.

Skinny brings the SQL stores but not what they need; SQLAlchemy, Alembic and psycopg are here anyway. In our own
Postgres MLflow's tables lie in a schema of their own, and MLflow migrates them itself. Anybody who wants its pages runs
`mlflow server` on the same URL.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from backend.domain.errors import NotFound, ServiceUnavailable
from backend.ports.registry import Curves, RegisteredVersion
from backend.settings import DatabaseSettings, RegistrySettings, StorageSettings

SCHEMA = "mlflow"
_DIGEST = "digest"
#: MLflow takes no more at once.
_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE = 1000, 100
_MAKING_LOCK = 7_077_006
#: What MLflow makes of an `OperationalError` of its database.
_OUTAGE = "TEMPORARILY_UNAVAILABLE"
_MISSING = "RESOURCE_DOES_NOT_EXIST"


class MlflowRegistry:
    def __init__(self, settings: RegistrySettings, database: DatabaseSettings, storage: StorageSettings) -> None:
        url = settings.url or database.url
        self._url = url.get_secret_value()
        self._in_our_database = settings.url is None
        self._artifacts = f"s3://{storage.artifact_bucket}/{storage.artifact_prefix}mlflow"
        self._client: Any = None

    def register(self, version: RegisteredVersion, curves: Curves | None = None) -> None:
        """Raises `ServiceUnavailable`."""
        with self._connected() as client:
            if self._find(client, version.name, version.digest) is not None:
                return
            run_id = None if curves is None else self._log(client, version.name, curves)
            if _model(client, version.name) is None:
                client.create_registered_model(version.name)
            client.create_model_version(
                version.name, source=version.source_uri, run_id=run_id, description=version.description,
                tags={**version.tags, _DIGEST: version.digest},
            )  # fmt: skip

    def set_aliases(self, name: str, digests: Mapping[str, str | None]) -> None:
        """Raises `NotFound`, `ServiceUnavailable`."""
        with self._connected() as client:
            for alias, digest in digests.items():
                if digest is None:
                    if alias in self._aliases(client, name):
                        client.delete_registered_model_alias(name, alias)
                    continue
                found = self._find(client, name, digest)
                if found is None:
                    raise NotFound(f"model version {digest[:12]} is not in the registry")
                client.set_registered_model_alias(name, alias, found.version)

    def aliases(self, name: str) -> dict[str, str]:
        """Raises `ServiceUnavailable`."""
        with self._connected() as client:
            return self._aliases(client, name)

    def _aliases(self, client: Any, name: str) -> dict[str, str]:
        model = _model(client, name)
        if model is None:
            return {}
        return {alias: client.get_model_version(name, number).tags[_DIGEST] for alias, number in model.aliases.items()}

    def _find(self, client: Any, name: str, digest: str) -> Any:
        # Of names with quotes in them MLflow's filters know no way to ask.
        found = client.search_model_versions(f"tags.{_DIGEST} = '{digest}'")
        return next((version for version in found if version.name == name), None)

    def _log(self, client: Any, name: str, curves: Curves) -> str:
        """A run of the profile's experiment, with parameters and curves; its id."""
        from mlflow.entities import Metric, Param

        experiment = client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else client.create_experiment(
            name, artifact_location=f"{self._artifacts}/{name}"
        )  # fmt: skip
        run_id: str = client.create_run(experiment_id, run_name=curves.run_name).info.run_id
        now_ms = int(time.time() * 1000)
        metrics = [Metric(key, value, now_ms, step) for key, points in curves.values.items() for step, value in points]
        parameters = [Param(key, value) for key, value in curves.parameters.items()]
        for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
            client.log_batch(run_id, params=parameters[start : start + _PARAMETERS_AT_ONCE])
        for start in range(0, len(metrics), _METRICS_AT_ONCE):
            client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
        client.set_terminated(run_id)
        return run_id

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        """A client; a database that can't be reached is an outage."""
        try:
            if self._client is None:
                self._client = self._connect()
        except DBAPIError as error:
            raise ServiceUnavailable(f"the registry's database doesn't answer: {error.orig}") from error
        from mlflow.exceptions import MlflowException

        try:
            yield self._client
        except MlflowException as error:
            if error.error_code == _OUTAGE:
                raise ServiceUnavailable(f"the registry's database doesn't answer: {error.message}") from error
            raise

    def _connect(self) -> Any:
        # Before MLflow is imported: nothing of what we do is to be told to anybody.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        from mlflow import MlflowClient

        # After the import, which sets them to tell of every table.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic.runtime").setLevel(logging.WARNING)
        url = make_url(self._url)
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                if self._in_our_database:
                    url = url.update_query_dict({"options": f"-csearch_path={SCHEMA}"})
                    # MLflow makes its tables when it first sees the database, and two can't do that at once.
                    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MAKING_LOCK})
                    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
                    connection.commit()
                where = url.render_as_string(hide_password=False)
                client = MlflowClient(tracking_uri=where, registry_uri=where)
                client.search_registered_models(max_results=1)
                client.search_experiments(max_results=1)
                return client
        finally:
            engine.dispose()


def _model(client: Any, name: str) -> Any:
    """None: there is none of that name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != _MISSING:
            raise
        return None
