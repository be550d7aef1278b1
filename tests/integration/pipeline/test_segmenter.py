"""The streaming segmenter against Meta's own predictor, and against itself under other circumstances."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backend.domain.annotation import Box
from backend.domain.errors import Misconfigured
from backend.domain.masks import decode_mask, iou
from backend.profiles import load_profile
from tests.factories.world import Sample, stored_frames
from workers.pipeline.carrying import Carrying, spans_between
from workers.pipeline.encoding import Features
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.group import Detection, propagate_group
from workers.pipeline.linking import LinkedTrack, link
from workers.pipeline.segmenter import BoxPrompt, MaskPrompt, Propagation, Segmenter
from workers.pipeline.sizing import fill_holes
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow
SIZE = (384, 384)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(load_profile("shapeworld").segmenter, "cpu")


@pytest.fixture(scope="module")
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(Kind.ATTRIBUTE, 3, seed=2001, frame_rate=8)


@pytest.fixture(scope="module")
def frames(segmenter: Segmenter, sample: Sample) -> Iterator[FrameStore]:
    with stored_frames(sample.path, segmenter.size_px) as store:
        yield store


@pytest.fixture(scope="module")
def prompts(sample: Sample) -> list[BoxPrompt]:
    """True boxes of the target on three frames, and that of another thing beside one of them."""
    visible = sorted(sample.target)
    picked = [visible[2], visible[len(visible) // 2], visible[-3]]
    boxes = [BoxPrompt(f, sample.target[f].box_xyxy_px) for f in picked]
    [target] = sample.example.question.targets
    others = (sample.truth.box(thing, picked[1]) for thing in range(len(sample.truth.masks)) if thing != target)
    other = next(box for box in others if box is not None)
    return [*boxes, BoxPrompt(picked[1], other)]


def pixels(propagation: Propagation | LinkedTrack, frame_count: int) -> np.ndarray:
    empty = np.zeros(SIZE[::-1], bool)
    masks = propagation.masks
    return np.stack([decode_mask(masks[f]) if f in masks else empty for f in range(frame_count)])


@pytest.fixture
def meta_sees(segmenter: Segmenter, frames: FrameStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta's predictor, asked for any clip, gets these frames."""
    import sam2.sam2_video_predictor as meta

    images = torch.from_numpy(frames.read(0, frames.frame_count).astype(np.float32)).permute(0, 3, 1, 2) / 255
    images = (images - segmenter._mean) / segmenter._std
    monkeypatch.setattr(meta, "load_video_frames", lambda **_: (images, SIZE[1], SIZE[0]))
    monkeypatch.setattr(meta, "tqdm", lambda iterable, **_: iterable)


def metas_pixels(segmenter: Segmenter, state: object, frame_index: int, frame_count: int) -> np.ndarray:
    theirs = np.zeros((frame_count, SIZE[1], SIZE[0]), bool)
    for reverse in (False, True):
        for found, _, logits in segmenter.model.propagate_in_video(state, frame_index, reverse=reverse):
            theirs[found] = (logits[0, 0] > 0).numpy()
    return theirs


@pytest.mark.usefixtures("meta_sees")
def test_masks_agree_with_metas_predictor(segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt]) -> None:
    ours = segmenter.propagate(frames, prompts, SIZE)
    agreement = []
    for prompt, propagation in zip(prompts, ours, strict=True):
        state = segmenter.model.init_state("clip")
        box = prompt.box_xyxy_px
        segmenter.model.add_new_points_or_box(
            state, prompt.frame_index, obj_id=1, box=np.asarray([box.x1, box.y1, box.x2, box.y2], np.float32)
        )
        theirs = metas_pixels(segmenter, state, prompt.frame_index, frames.frame_count)
        assert theirs.any()
        agreement.append((theirs == pixels(propagation, frames.frame_count)).mean())
    # Without the forward pass' memories in reverse 0.99990 is left on this clip, with one memory too few 0.9993.
    assert min(agreement) >= 0.99995


@pytest.mark.usefixtures("meta_sees")
def test_a_mask_is_carried_as_metas_predictor_carries_it(
    segmenter: Segmenter, frames: FrameStore, sample: Sample, prompts: list[BoxPrompt]
) -> None:
    """Beside a box of the same frame, which goes another way; in the source's size, which isn't the model's."""
    truth = sample.target[prompts[1].frame_index]
    mask, box = MaskPrompt(prompts[1].frame_index, truth), prompts[1]
    [carried, beside] = segmenter.propagate(frames, [mask, box], SIZE)
    state = segmenter.model.init_state("clip")
    segmenter.model.add_new_mask(state, mask.frame_index, obj_id=1, mask=decode_mask(truth))
    theirs = metas_pixels(segmenter, state, mask.frame_index, frames.frame_count)
    assert (theirs == pixels(carried, frames.frame_count)).mean() >= 0.99995
    assert iou(carried.masks[mask.frame_index], truth) > 0.95
    [alone] = segmenter.propagate(frames, [box], SIZE)
    assert (pixels(beside, frames.frame_count) == pixels(alone, frames.frame_count)).mean() >= 0.9999


def test_one_pass_for_all_equals_a_pass_for_each(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt]
) -> None:
    together = segmenter.propagate(frames, prompts, SIZE)
    for prompt, propagation in zip(prompts, together, strict=True):
        [alone] = segmenter.propagate(frames, [prompt], SIZE)
        same = pixels(propagation, frames.frame_count) == pixels(alone, frames.frame_count)
        assert same.mean() >= 0.9999
        for frame_index in set(alone.estimates) & set(propagation.estimates):
            assert propagation.estimates[frame_index].predicted_iou == pytest.approx(
                alone.estimates[frame_index].predicted_iou, abs=1e-3
            )


def test_a_group_of_rollouts_gets_what_each_rollout_gets_alone(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt]
) -> None:
    """Every mask comes back to its detection, also where rollouts found the same box."""
    chosen = {0: [prompts[1], prompts[3]], 1: [prompts[1]], 2: [], 3: [prompts[3], prompts[2]]}
    group = [
        Detection(rollout, prompt.frame_index, index, prompt.box_xyxy_px)
        for rollout, found in chosen.items()
        for index, prompt in enumerate(found)
    ]
    together = propagate_group(segmenter, frames, group, SIZE)
    assert list(together) == group
    for rollout, found in chosen.items():
        alone = segmenter.propagate(frames, found, SIZE)
        ours = [together[detection] for detection in group if detection.rollout_index == rollout]
        assert len(ours) == len(alone)
        for one, other in zip(ours, alone, strict=True):
            assert (pixels(one, frames.frame_count) == pixels(other, frames.frame_count)).mean() > 0.9999
            assert one.masks


def test_a_group_takes_one_encoding_of_each_frame(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, encode = list[np.ndarray](), segmenter.encode

    def noted(of: np.ndarray) -> list[Features]:
        encoded.extend(of)
        return encode(of)

    monkeypatch.setattr(segmenter, "encode", noted)
    group = [
        Detection(rollout, prompt.frame_index, 0, prompt.box_xyxy_px)
        for rollout, prompt in enumerate([*prompts, *prompts])
    ]
    assert all(one.masks for one in propagate_group(segmenter, frames, group, SIZE).values())
    assert len(encoded) == frames.frame_count
    assert len({frame.tobytes() for frame in encoded}) == frames.frame_count


def test_a_full_feature_cache_and_none_at_all_give_the_same_masks(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt]
) -> None:
    frugal = Segmenter(load_profile("shapeworld").segmenter, "cpu", feature_cache_bytes=0)
    for kept, encoded_again in zip(
        segmenter.propagate(frames, prompts, SIZE), frugal.propagate(frames, prompts, SIZE), strict=True
    ):
        same = pixels(kept, frames.frame_count) == pixels(encoded_again, frames.frame_count)
        assert same.mean() >= 0.9999


@pytest.mark.parametrize("near", [False, True], ids=["everywhere", "to the neighbours"])
def test_threads_change_nothing(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt], monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    spans = spans_between(prompts, frames.frame_count) if near else None
    monkeypatch.setattr(Segmenter, "_lanes", lambda _: 1)
    in_turn = segmenter.propagate(frames, prompts, SIZE, spans=spans)
    monkeypatch.setattr(Segmenter, "_lanes", lambda _: 4)
    assert segmenter.propagate(frames, prompts, SIZE, spans=spans) == in_turn


def test_a_shorter_way_shows_the_same_on_its_frames(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt]
) -> None:
    spans = spans_between(prompts, frames.frame_count)
    assert {len(span) for span in spans} != {frames.frame_count}
    whole = segmenter.propagate(frames, prompts, SIZE)
    for far, near, span in zip(whole, segmenter.propagate(frames, prompts, SIZE, spans=spans), spans, strict=True):
        assert near.masks == {i: mask for i, mask in far.masks.items() if i in span}


def test_tracks_are_those_of_carrying_everything_everywhere(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt]
) -> None:
    everywhere = link(prompts, segmenter.propagate(frames, prompts, SIZE), 0.5)
    tracks = Carrying(segmenter, frames, SIZE, 0.5).add(prompts)
    assert [track.members for track in tracks] == [track.members for track in everywhere]
    for mine, theirs in zip(tracks, everywhere, strict=True):
        # What is carried again alone is another batch, whose sums are rounded otherwise.
        same = pixels(mine, frames.frame_count) == pixels(theirs, frames.frame_count)
        assert same.mean() >= 0.9999


def test_a_true_box_is_followed_through_the_whole_clip(
    segmenter: Segmenter, frames: FrameStore, sample: Sample, prompts: list[BoxPrompt]
) -> None:
    from workers.evaluation.metrics import region_j

    [propagation] = segmenter.propagate(frames, prompts[1:2], SIZE)
    assert region_j([propagation.masks], sample.target, frames.frame_count) > 0.85
    assert all(0 <= one.predicted_iou <= 1 and one.objectness > 0.5 for one in propagation.estimates.values())


def test_masks_have_the_size_asked_for_and_no_prompt_is_no_work(segmenter: Segmenter, frames: FrameStore) -> None:
    assert segmenter.propagate(frames, [], SIZE) == []
    [propagation] = segmenter.propagate(frames, [BoxPrompt(0, Box(20, 10, 60, 60))], (131, 77))
    assert {(m.width, m.height) for m in propagation.masks.values()} <= {(131, 77)}


def test_small_holes_are_filled_and_larger_ones_stay() -> None:
    logits = torch.full((1, 1, 16, 16), 3.0)
    logits[0, 0, 2:4, 2:6] = -1.0  # 8 pixels
    logits[0, 0, 8:11, 8:11] = -1.0  # 9 pixels
    logits[0, 0, 0, 15] = logits[0, 0, 1, 14] = 0.0  # 2 pixels that touch at a corner
    filled = fill_holes(logits, 8)
    expected = logits.clone()
    expected[0, 0, 2:4, 2:6] = expected[0, 0, 0, 15] = expected[0, 0, 1, 14] = 0.1
    torch.testing.assert_close(filled, expected)
    assert torch.equal(fill_holes(logits, 1), logits)


def test_the_profile_says_whether_holes_are_filled(
    segmenter: Segmenter, frames: FrameStore, prompts: list[BoxPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = segmenter.propagate(frames, prompts[:1], SIZE)
    profile = segmenter._profile.model_copy(update={"fill_hole_area": 10**6})
    monkeypatch.setattr(segmenter, "_profile", profile)
    [filled] = segmenter.propagate(frames, prompts[:1], SIZE)
    # With a limit beyond the picture everything around the mask is a hole.
    assert all(mask.area == SIZE[0] * SIZE[1] for mask in filled.masks.values())
    assert [mask.area for mask in plain[0].masks.values()] != [mask.area for mask in filled.masks.values()]


def test_weights_of_the_hub_are_those_of_the_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = load_profile("shapeworld").segmenter
    weights = load_file(own.weights.path)
    torch.save({"model": {name: tensor.float() for name, tensor in weights.items()}}, tmp_path / "model.pt")
    asked = []

    def download(*where: str, revision: str) -> str:
        asked.append((*where, revision))
        return str(tmp_path / "model.pt")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    hub = {"source": "huggingface", "name": "facebook/sam2.1-hiera-tiny", "revision": "0123abc"}
    profile = own.model_copy(update={"weights": own.weights.model_copy(update=hub)})
    loaded = Segmenter(profile, "cpu").model.state_dict()
    assert asked == [("facebook/sam2.1-hiera-tiny", "sam2.1_hiera_tiny.pt", "0123abc")]
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in weights.items())
    unknown = profile.weights.model_copy(update={"name": "somebody/sam2"})
    with pytest.raises(Misconfigured, match="somebody/sam2"):
        Segmenter(profile.model_copy(update={"weights": unknown}), "cpu")
