"""The models of one worker process: loaded once, in the child, for the model version and configuration of a run."""

import logging
import threading
import time
from typing import Any

from backend.bootstrap import Container
from backend.domain.errors import Misconfigured
from backend.ports import AnnotationPipeline
from backend.profiles import ModelProfile
from backend.services.ingest import RunSpec
from backend.settings import PipelineSettings

log = logging.getLogger(__name__)

_lock = threading.Lock()
_loaded: tuple[str, str, AnnotationPipeline] | None = None


def pipeline_for(
    container: Container, model_digest: str, profile: dict[str, Any], config: dict[str, Any]
) -> AnnotationPipeline:
    """The pipeline of that model version and configuration; another that was loaded before makes room for it.

    Raises `Misconfigured` if the weights are no longer those of the model version.
    """
    global _loaded
    spec = RunSpec(_profile_of(container, model_digest, profile), config)
    with _lock:
        if _loaded is None or _loaded[:2] != (model_digest, spec.config_digest):
            # torch is imported here, never when the module is: the main process of a worker must stay free of CUDA.
            from workers.pipeline.omni import load_pipeline

            began = time.monotonic()
            _loaded = None
            worker = container.settings.worker
            pipeline = load_pipeline(
                spec.profile, PipelineSettings.model_validate(config), worker.torch_threads, worker.scratch_dir
            )
            _loaded = (model_digest, spec.config_digest, pipeline)
            log.info("models %s loaded in %.1f s", spec.profile.name, time.monotonic() - began)
        return _loaded[2]


def _profile_of(container: Container, model_digest: str, stored: dict[str, Any]) -> ModelProfile:
    """The settings' own profile if it is that version (it knows this machine's device), else the stored one."""
    if container.profile.digest == model_digest:
        return container.profile
    profile = ModelProfile.model_validate(stored)
    if profile.digest != model_digest:
        raise Misconfigured(
            f"the weights of profile {profile.name} are no longer those of model version {model_digest}"
        )
    return profile


def present(container: Container) -> AnnotationPipeline:
    """The pipeline of the settings: what the next runs will ask for, loaded at a worker's start."""
    spec = container.run_spec
    return pipeline_for(container, spec.profile.digest, spec.profile.model_dump(mode="json"), spec.config)
