"""`premask annotate` as a person or a script calls it: the output contract, the overlay, and one line for bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from pycocotools import mask as coco

from backend.profiles import REPOSITORY_ROOT
from tests.factories.clips import cut, write_clip, write_sound_only
from tests.factories.world import Sample
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow


def annotate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "backend.cli.main", "annotate", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY_ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(Kind.ATTRIBUTE, 2, seed=2000)


@pytest.fixture(scope="module")
def output(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    overlay = tmp_path_factory.mktemp("overlay") / "out.mp4"
    done = annotate(sample.path, sample.instruction, "--json", "--overlay", overlay)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result, overlay


def test_the_json_is_the_contract(output: tuple[dict[str, Any], Path], sample: Sample) -> None:
    result, _ = output
    assert {
        "video",
        "instruction",
        "mode",
        "status",
        "reasoning",
        "keyframes",
        "tracks",
        "timings_s",
        "warnings",
    } < set(result)
    assert result["video"] == {
        "path": str(sample.path), "frame_count": sample.frame_count, "width": 384, "height": 384,
        "duration_s": sample.frame_count / 12, "has_audio": True,
    }  # fmt: skip
    assert (result["instruction"], result["mode"], result["status"]) == (sample.instruction, "vos", "succeeded")
    assert result["model"]["profile"] == "shapeworld"
    assert len(result["keyframes"]) >= 2
    for keyframe in result["keyframes"]:
        assert set(keyframe) == {"frame_index", "time_s", "description", "score", "origin", "boxes"}
        assert keyframe["score"] == min((box["score"] for box in keyframe["boxes"]), default=0)
        assert keyframe["origin"] == "chosen"
        for box in keyframe["boxes"]:
            assert set(box) == {"x1", "y1", "x2", "y2", "label", "score", "track"}
            assert 0 <= box["x1"] < box["x2"] <= 384
            assert box["track"] in (None, *(track["index"] for track in result["tracks"]))


def test_pycocotools_decodes_the_masks_and_they_lie_on_the_target(
    output: tuple[dict[str, Any], Path], sample: Sample
) -> None:
    result, _ = output
    [track] = result["tracks"]
    assert set(track) == {"index", "label", "score", "evidence", "masks", "boxes", "frame_scores"}
    assert set(track["frame_scores"]) == set(track["masks"])
    assert all(0 <= score <= 1 for score in (*track["frame_scores"].values(), *track["evidence"].values()))
    ious = []
    for frame_index, mask in track["masks"].items():
        assert mask["size"] == [384, 384]
        assert coco.decode(mask).shape == (384, 384)
        truth = sample.target[int(frame_index)]
        true = {"size": [384, 384], "counts": truth.counts}
        ious.append(coco.iou([mask], [true], [0])[0][0])
    assert np.mean(ious) > 0.85


def test_the_overlay_shows_every_frame_tinted_where_the_mask_is(
    output: tuple[dict[str, Any], Path], sample: Sample
) -> None:
    result, overlay = output

    def pictures(path: Path) -> list[np.ndarray[Any, Any]]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]

    drawn, plain = pictures(overlay), pictures(sample.path)
    assert len(drawn) == len(plain) == sample.frame_count
    masks = result["tracks"][0]["masks"]
    keyframes = {keyframe["frame_index"] for keyframe in result["keyframes"]}
    frame_index = next(int(f) for f in masks if int(f) not in keyframes)
    inside = coco.decode(masks[str(frame_index)]).astype(bool)
    difference = np.abs(drawn[frame_index] - plain[frame_index]).max(-1)
    assert np.median(difference[inside]) > 20
    assert np.median(difference[~inside]) < 8


def test_bad_input_ends_with_one_line_and_status_1(sample: Sample, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    cases = {
        "no file": (tmp_path / "nowhere.mp4", "the red circle", "there is no file"),
        "not a video": (text, "the red circle", "not a video"),
        "zero bytes": (tmp_path / "empty.mp4", "the red circle", "empty"),
        "truncated": (cut(sample.path, 0.5, tmp_path / "cut.mp4"), "the red circle", "truncated"),
        "only sound": (write_sound_only(tmp_path / "sound.mp4"), "the red circle", "only sound"),
        "one pixel": (write_clip(tmp_path / "tiny.mkv", width=1, height=1), "the red circle", "1×1"),
        "endless instruction": (sample.path, "x" * 10_000, "10000 characters"),
    }
    for name, (path, instruction, reason) in cases.items():
        done = annotate(path, instruction, "--json")
        assert done.returncode == 1, name
        assert done.stdout == "", name
        [line] = done.stderr.splitlines()
        assert line.startswith("premask: "), name
        assert reason in line, name
