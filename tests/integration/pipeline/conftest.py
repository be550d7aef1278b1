"""The real models of the default profile, loaded once; and clips of the proving ground with their truth."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest

from backend.domain.annotation import Mask
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld import clip, scene


@dataclass(frozen=True)
class Sample:
    path: Path
    instruction: str
    mode: str
    frame_count: int
    truth: dict[int, Mask]


@pytest.fixture(scope="session")
def pipeline() -> OmniPipeline:
    return load_pipeline(load_profile("shapeworld"), PipelineSettings())


@pytest.fixture(scope="session")
def make_sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Sample]:
    folder = tmp_path_factory.mktemp("clips")

    def make(kind: scene.Kind, thing_count: int, seed: int, fps: int = 12) -> Sample:
        made, question = scene.make(seed, kind, thing_count)
        path = folder / f"{kind}-{thing_count}-{seed}-{fps}.mp4"
        labels = clip.write(made, path, clip.ClipFormat(fps=Fraction(fps)))
        truth = clip.target_masks(labels, question)
        return Sample(path, question.instruction, question.mode, len(labels), truth)

    return make
