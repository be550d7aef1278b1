"""Several instructions on one clip: what they share is made once, and each gets just what it gets alone."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from backend.domain.annotation import Annotation
from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from integrations.media import decode
from tests.factories.world import Sample
from workers.pipeline import clip as clips
from workers.pipeline.engines import Prompt
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.engines.towers import TowerMemory
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.pipeline.scratch import ScratchCheckpoints
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow

MakeSample = Callable[..., Sample]


def said(found: Annotation) -> tuple[Any, ...]:
    """All but the seconds it took, the pictures, and the video."""
    decided = (found.status, found.outcome_code, found.reasoning, found.raw_output, found.warnings)
    return (*decided, found.keyframes, found.tracks)


def same_pictures(one: Annotation, other: Annotation) -> bool:
    return one.keyframe_images.keys() == other.keyframe_images.keys() and all(
        np.array_equal(image, other.keyframe_images[i]) for i, image in one.keyframe_images.items()
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often a frame was decoded from beginning to end, a sound read, and a frame encoded by the segmenter."""
    counts = {"passes": 0, "sounds": 0}

    def iter_frames(*what: Any) -> Any:
        counts["passes"] += 1
        return decode.iter_frames(*what)

    def read_audio(*what: Any) -> Any:
        counts["sounds"] += 1
        return decode.read_audio(*what)

    monkeypatch.setattr(clips, "iter_frames", iter_frames)
    monkeypatch.setattr(clips, "read_audio", read_audio)
    return counts


def test_each_gets_what_it_gets_alone_and_what_they_share_is_made_once(
    pipeline: OmniPipeline, make_sample: MakeSample, counted: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_sample(Kind.ATTRIBUTE, 2, seed=2000)
    asked = [(f"the {thing.color} {thing.shape}", Mode.VOS) for thing in sample.example.scene.things]
    asked.append(("what makes the sound?", Mode.AVS))
    encode, encoded = pipeline.segmenter.encode, list[int]()

    def counting(pixels: Any) -> Any:
        encoded.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(pipeline.segmenter, "encode", counting)
    alone = [pipeline.annotate(sample.path, text, mode) for text, mode in asked]
    assert sum(len(found.tracks) for found in alone) > 1
    assert (counted["passes"], sum(encoded) > sample.frame_count) == (len(asked), True)
    counted.update(passes=0, sounds=0)
    encoded.clear()
    fresh = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    monkeypatch.setattr(fresh.segmenter, "encode", counting)
    together = [fresh.annotate(sample.path, text, mode, keep=True) for text, mode in asked]
    for one, other in zip(alone, together, strict=True):
        assert said(one) == said(other)
        assert same_pictures(one, other)
    assert counted == {"passes": 1, "sounds": 1}
    assert sum(encoded) <= sample.frame_count


def test_what_two_instructions_mean_alike_is_carried_once(
    make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With checkpoints, as a worker has them: those of the first run are gone when the second one begins."""
    sample = make_sample(Kind.ATTRIBUTE, 2, seed=2000)
    fresh = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    propagate, carried = fresh.segmenter.propagate, list[int]()

    def counting(frames: Any, prompts: Any, *rest: Any) -> Any:
        carried.append(len(prompts))
        return propagate(frames, prompts, *rest)

    monkeypatch.setattr(fresh.segmenter, "propagate", counting)
    alone = said(fresh.annotate(sample.path, sample.instruction, Mode.VOS))
    assert sum(carried) > 0
    for again in (False, True):
        carried.clear()
        checkpoints = ScratchCheckpoints()
        found = fresh.annotate(sample.path, sample.instruction, Mode.VOS, checkpoints=checkpoints, keep=True)
        assert (sum(carried) == 0) == again
        assert said(found) == alone
        checkpoints._database.execute("DELETE FROM masks")


@pytest.fixture
def thinker() -> Thinker:
    profile = load_profile("shapeworld").system1
    return Thinker(profile.weights, "float32", "cpu")


def asked(thinker: Thinker, seed: int) -> Any:
    """What the model is given for a short clip of noise with sound."""
    random = np.random.default_rng(seed)
    content = (
        {"type": "text", "text": "the red circle"},
        {"type": "audio", "audio": ""},
        {"type": "video", "video": ""},
    )
    prompt = Prompt(
        content, video=random.integers(0, 255, (4, 96, 96, 3), np.uint8),
        audio=random.normal(0, 0.1, 16_000).astype(np.float32),
    )  # fmt: skip
    return thinker._encode([prompt], 9216, 9216, 4.0)


def test_towers_look_and_listen_once_at_the_same_and_anew_at_other(thinker: Thinker) -> None:
    model, looked, heard = thinker.model, [0], [0]
    model.visual.register_forward_hook(lambda *_: looked.__setitem__(0, looked[0] + 1))
    model.audio_tower.register_forward_hook(lambda *_: heard.__setitem__(0, heard[0] + 1))
    with torch.inference_mode():
        first, again, other = (model(**asked(thinker, seed)).logits for seed in (1, 1, 2))
        assert (looked, heard) == ([2], [2])
        TowerMemory(model, 0)
        bare = Thinker(load_profile("shapeworld").system1.weights, "float32", "cpu").model
        assert torch.equal(first, bare(**asked(thinker, 1)).logits)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_towers_results_are_kept_within_their_bytes(thinker: Thinker) -> None:
    room = 100_000
    memory = TowerMemory(thinker.model, room)
    with torch.inference_mode():
        for seed in range(5):
            thinker.model(**asked(thinker, seed))
            assert memory._bytes == sum(kept.nbytes for kept in memory._kept.values()) <= room
    assert 0 < len(memory._kept) < 10


def test_the_confidence_is_that_of_the_logits_kept_to_the_end(thinker: Thinker) -> None:
    """Of a batch whose rows end at different lengths: an empty picture is soon described, noise is not."""
    noise = np.random.default_rng(0).integers(0, 255, (4, 96, 96, 3), np.uint8)
    content = tuple({"type": kind, kind: "the red circle"} for kind in ("text", "video"))
    prompts = [Prompt(content, video=video) for video in (np.full_like(noise, 30), noise)]
    found = thinker.generate(prompts, min_pixels=9216, max_pixels=9216, max_new_tokens=200, fps=4.0)
    batch = thinker._encode(prompts, 9216, 9216, 4.0)
    plain: Any = thinker.model.generate(
        **batch, max_new_tokens=200, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    written = plain.sequences[:, batch["input_ids"].shape[1] :]
    of_each = torch.stack(plain.logits, 1).log_softmax(-1).gather(-1, written[..., None])[..., 0]
    for row, completion in enumerate(found):
        real = written[row] != thinker.processor.tokenizer.pad_token_id
        assert completion.confidence == pytest.approx(float(of_each[row][real].mean().exp()), rel=1e-5)
        assert completion.text == thinker.processor.tokenizer.decode(written[row], skip_special_tokens=True)
    assert len({int((row != thinker.processor.tokenizer.pad_token_id).sum()) for row in written}) == 2
