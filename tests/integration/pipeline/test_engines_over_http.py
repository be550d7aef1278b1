"""The pipeline with its models behind HTTP finds what it finds with them in its own process."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pytest

from backend.domain.runs import Mode, RunStatus
from backend.profiles import ModelProfile, ServerProfile, load_profile
from backend.settings import PipelineSettings
from tests.factories.model_server import ModelServer, Received, Reply, completion
from tests.factories.world import Sample
from workers.pipeline.engines import Prompt
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow

#: The small models' patch times merge.
MULTIPLE_PX = 16


def answer(thinker: Thinker, request: Received) -> Reply:
    """What a server with that model would answer: it knows nothing but the request."""
    kinds = {"video_url": "video", "image_url": "image", "input_audio": "audio", "text": "text"}
    content = tuple({"type": kinds[part["type"]], "text": part.get("text", "")} for part in request.content)
    told = request.body["mm_processor_kwargs"]
    held = {part["type"] for part in content}
    prompt = Prompt(
        content,
        video=request.frames() if "video" in held else None,
        image=request.image() if "image" in held else None,
        audio=request.audio()[1] if "audio" in held else None,
    )
    size = {"min_pixels": told["size"]["shortest_edge"], "max_pixels": told["size"]["longest_edge"]}
    [written] = thinker.generate([prompt], **size, max_new_tokens=request.body["max_tokens"], fps=told.get("fps"))
    shown = thinker._encode([prompt], **size, fps=told.get("fps"))["input_ids"].shape[1]
    return Reply(completion(written.text, [math.log(written.confidence)] * 3, prompt_tokens=shown))


def over_http(profile: ModelProfile, base_url: str) -> ModelProfile:
    parts = {
        name: getattr(profile, name).model_copy(
            update={"server": ServerProfile(base_url=base_url, model=name, size_multiple_px=MULTIPLE_PX)}
        )
        for name in ("system1", "system2")
    }
    return profile.model_copy(update=parts)


@pytest.fixture(scope="module")
def served(pipeline: OmniPipeline) -> Iterator[tuple[ModelServer, OmniPipeline]]:
    """A server with the very models of `pipeline`, and a pipeline that asks it."""
    thinkers = {"system1": pipeline.system1._engine, "system2": pipeline.system2._engine}

    def respond(request: Received) -> Reply:
        thinker = thinkers[request.body["model"]]
        assert isinstance(thinker, Thinker)
        return answer(thinker, request)

    with ModelServer(respond).running() as server:
        profile = over_http(load_profile("shapeworld"), server.base_url)
        yield server, load_pipeline(profile, PipelineSettings())


@pytest.mark.parametrize("kind", [Kind.SOUND, Kind.FASTEST], ids=str)
def test_the_answers_over_http_are_those_in_process(
    pipeline: OmniPipeline,
    served: tuple[ModelServer, OmniPipeline],
    make_sample: Callable[..., Sample],
    kind: Kind,
) -> None:
    server, remote = served
    sample = make_sample(kind, 2, seed=2000)
    before = len(server.received)
    here = pipeline.annotate(sample.path, sample.instruction, Mode(sample.mode), seed=1)
    there = remote.annotate(sample.path, sample.instruction, Mode(sample.mode), seed=1)
    assert here.status is RunStatus.SUCCEEDED
    assert there.raw_output == here.raw_output
    assert len(there.keyframes) == len(here.keyframes) > 0
    for mine, theirs in zip(here.keyframes, there.keyframes, strict=True):
        assert (theirs.frame_index, theirs.description) == (mine.frame_index, mine.description)
        for one, other in zip(mine.detections, theirs.detections, strict=True):
            assert (other.box_xyxy_px, other.label, other.track_index) == (one.box_xyxy_px, one.label, one.track_index)
    for mine, theirs in zip(here.tracks, there.tracks, strict=True):
        assert (theirs.index, theirs.label, theirs.masks) == (mine.index, mine.label, mine.masks)
        # Alone and in a batch the same picture gives almost the same numbers. The server here tells of one token, the
        # mean.
        told = {"said_lowest": theirs.evidence.said, "named_lowest": theirs.evidence.named}
        assert asdict(theirs.evidence) == pytest.approx(asdict(mine.evidence) | told, abs=2e-3)
    asked = server.received[before:]
    assert [request.body["model"] for request in asked] == ["system1"] + ["system2"] * len(here.keyframes)
    kinds = {part["type"] for part in asked[0].content}
    assert kinds == {"text", "video_url"} | ({"input_audio"} if sample.mode == Mode.AVS else set())
