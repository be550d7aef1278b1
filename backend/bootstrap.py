"""The only composition root: which adapters fill the ports, and the one transaction helper of API, CLI and workers."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from backend.db.session import SessionFactory, make_engine, make_session_factory, session_scope
from backend.domain.errors import PremaskError
from backend.ports.labeling import LabelingTool
from backend.ports.messages import Notifier
from backend.ports.pipeline import MaskService
from backend.ports.registry import ModelRegistry
from backend.profiles import ModelProfile, load_profile
from backend.services import outbox
from backend.services.ingest import RunSpec
from backend.services.outages import GuardedTool
from backend.services.weights import WeightsCache
from backend.settings import Settings, get_settings
from integrations.broker.celery import CeleryQueue
from integrations.label_studio.reader import LabelStudioReader
from integrations.label_studio.tool import LabelStudioTool
from integrations.masks.client import RemoteMasks
from integrations.mlflow.registry import MlflowRegistry
from integrations.notices.sender import Sender
from integrations.s3.store import S3ObjectStore

if TYPE_CHECKING:
    from backend.services.datasets import Workshop


class Container:
    """What a process needs, made when first asked for. A child of a fork makes its own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def engine(self) -> Engine:
        return make_engine(self.settings.database)

    @cached_property
    def sessions(self) -> SessionFactory:
        return make_session_factory(self.engine)

    @cached_property
    def store(self) -> S3ObjectStore:
        return S3ObjectStore(self.settings.storage)

    @cached_property
    def queue(self) -> CeleryQueue:
        return CeleryQueue(self.settings.broker)

    @cached_property
    def profile(self) -> ModelProfile:
        """The model profile of the settings. Raises `Misconfigured`."""
        return load_profile(self.settings.model.profile)

    @cached_property
    def run_spec(self) -> RunSpec:
        return RunSpec.of(self.profile, self.settings.pipeline)

    @cached_property
    def registry(self) -> ModelRegistry | None:
        """None where the settings want none."""
        if not self.settings.registry.enabled:
            return None
        return MlflowRegistry(self.settings.registry, self.settings.database, self.settings.storage)

    @cached_property
    def notifier(self) -> Notifier:
        return Sender(self.settings.retraining)

    @cached_property
    def weights(self) -> WeightsCache:
        """Stored weights, on this machine."""
        worker = self.settings.worker
        folder = worker.weights_dir or (worker.scratch_dir or Path(tempfile.gettempdir())) / "premask-weights"
        return WeightsCache(self.store, self.settings.storage, folder, worker.weights_max_gib)

    @cached_property
    def labeling_tool(self) -> LabelingTool | None:
        """None where no labeling tool is configured."""
        labeling = self.settings.label_studio
        if labeling.url is None:
            return None
        return GuardedTool(self.sessions, LabelStudioTool(labeling, self.settings.storage), labeling.timeout_s)

    @cached_property
    def mask_service(self) -> MaskService | None:
        """None where masks aren't drawn on demand."""
        interactive = self.settings.interactive
        return None if interactive.service_url is None else RemoteMasks(interactive)

    @cached_property
    def workshop(self) -> "Workshop":
        """What makes data sets."""
        # They bring Arrow and SciPy, which other commands needn't wait for.
        from backend.services.datasets import Workshop
        from integrations.media.fingerprint import frame_hashes

        return Workshop(
            self.sessions, self.store, LabelStudioReader(), frame_hashes, self.settings.storage, self.settings.datasets
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end; what it wrote to the outbox is sent right after, if the broker answers."""
        with session_scope(self.sessions) as session:
            yield session
            written = outbox.written(session)
        if written:
            outbox.relay(self.sessions, self.queue, written)

    def health(self) -> dict[str, str | None]:
        """Each part outside the process, and what is wrong with it (None: nothing)."""
        return {
            "database": self._trouble(self._check_database),
            "broker": self._trouble(lambda: self.queue.depth(outbox.IO_QUEUE)),
            "storage": self._trouble(lambda: self.store.check(self.settings.storage.artifact_bucket)),
        }

    def _check_database(self) -> None:
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    @staticmethod
    def _trouble(check: Callable[[], object]) -> str | None:
        try:
            check()
        except (PremaskError, SQLAlchemyError) as error:
            return str(error).splitlines()[0]
        return None

    def close(self) -> None:
        self.engine.dispose()


def bootstrap(settings: Settings | None = None) -> Container:
    """The container of these settings, or of those the process finds."""
    return Container(settings or get_settings())
