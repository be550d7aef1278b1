"""The real models of the default profile, loaded once; and clips of the proving ground with their truth."""

from collections.abc import Callable

import pytest

from backend.profiles import load_profile
from backend.settings import PipelineSettings
from tests.factories.world import Sample, write_sample
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.world.queries import Kind


@pytest.fixture(scope="session")
def pipeline() -> OmniPipeline:
    return load_pipeline(load_profile("shapeworld"), PipelineSettings())


@pytest.fixture(scope="session")
def make_sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Sample]:
    folder = tmp_path_factory.mktemp("clips")

    def make(kind: Kind, thing_count: int, seed: int, frame_rate: int = 12) -> Sample:
        return write_sample(
            folder / f"{kind}-{thing_count}-{seed}-{frame_rate}.mp4", kind, thing_count, seed, frame_rate
        )

    return make
