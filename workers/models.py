"""The models of one worker process: loaded in the child, for the model version and configuration of a run."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from backend.bootstrap import Container
from backend.db.repositories import models as rows
from backend.domain.errors import Misconfigured
from backend.ports.pipeline import AnnotationPipeline
from backend.profiles import ModelProfile, Weights
from backend.services import promotions
from backend.services.ingest import RunSpec
from backend.settings import PipelineSettings

log = logging.getLogger(__name__)

_lock = threading.Lock()
#: By model version and configuration, the one used last at the end.
_loaded: dict[tuple[str, str], AnnotationPipeline] = {}


def pipeline_for(
    container: Container, model_digest: str, profile: dict[str, Any], config: dict[str, Any]
) -> AnnotationPipeline:
    """The pipeline of that model version and configuration; of those loaded before `worker.resident_models` stay.

    Raises `Misconfigured` if the weights are no longer those of the model version, `NotFound` if stored ones are gone,
    `ServiceUnavailable` if they can't be fetched now.
    """
    return pipeline_of(container, profile_of(container, model_digest, profile), config)


def pipeline_of(container: Container, profile: ModelProfile, config: dict[str, Any]) -> AnnotationPipeline:
    """As `pipeline_for`, of a profile that is known to be of its version."""
    spec = RunSpec(profile, config)
    key = (profile.digest, spec.config_digest)
    with _lock:
        pipeline = _loaded.pop(key, None)
        if pipeline is None:
            # First: what goes makes room in memory for what comes.
            while len(_loaded) >= container.settings.worker.resident_models:
                del _loaded[next(iter(_loaded))]
            pipeline = _load(container, spec)
        _loaded[key] = pipeline
        return pipeline


def _load(container: Container, spec: RunSpec) -> AnnotationPipeline:
    # torch is imported here, never when the module is: the main process of a worker must stay free of CUDA.
    from workers.pipeline.omni import load_pipeline

    began, worker = time.monotonic(), container.settings.worker
    with on_this_machine(container, spec.profile) as profile:
        config = PipelineSettings.model_validate(spec.config)
        pipeline = load_pipeline(
            profile, config, worker.torch_threads, worker.scratch_dir, worker.scratch_bytes, worker.feature_cache_bytes
        )
    log.info("models %s, system 1 %s, loaded in %.1f s", spec.profile.name, spec.profile.system1.weights.name,
             time.monotonic() - began)  # fmt: skip
    return pipeline


@contextmanager
def on_this_machine(container: Container, profile: ModelProfile) -> Iterator[ModelProfile]:
    """The profile with its stored weights fetched and held, as such that lie here. Its identity is not its own."""
    with ExitStack() as holds:

        def fetched(weights: Weights) -> Weights:
            if weights.source != "stored":
                return weights
            path: Path = holds.enter_context(container.weights.held(weights.name))
            return weights.model_copy(update={"source": "path", "name": str(path.resolve())})

        yield profile.with_weights(fetched)


def profile_of(container: Container, model_digest: str, stored: dict[str, Any]) -> ModelProfile:
    """The settings' own profile if it is that version, else the stored one, on the device of this machine."""
    own = container.profile
    if own.digest == model_digest:
        return own
    profile = ModelProfile.model_validate(stored)
    if profile.digest != model_digest:
        raise Misconfigured(
            f"the weights of profile {profile.name} are no longer those of model version {model_digest}"
        )
    if profile.name == own.name:
        segmenter = profile.segmenter.model_copy(update={"clicks_as": own.segmenter.clicks_as})
        here = {"device": own.device, "cpu_threads": own.cpu_threads, "segmenter": segmenter}
        profile = profile.model_copy(update=here)
    return profile


def present_profile(container: Container) -> ModelProfile:
    """The profile of the version that answers now where no project is pinned."""
    with container.transaction() as session:
        version = rows.get(session, promotions.champion_of(session, container.run_spec.profile))
        return profile_of(container, version.digest, version.profile)


def preload(container: Container) -> None:
    """Load what the next runs will ask for, so that the first needn't wait."""
    pipeline_of(container, present_profile(container), container.run_spec.config)
