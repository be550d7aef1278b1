"""Clips: a scene rendered to an H.264 mp4 with AAC sound, and its ground truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Mask
from backend.domain.masks import encode_mask
from workers.shapeworld.scene import COLORS, DURATION_S, Question, Scene, Thing, coverage

SAMPLE_RATE = 16_000


@dataclass(frozen=True, slots=True)
class ClipFormat:
    size_px: int = 384
    fps: Fraction = Fraction(12)

    @property
    def frame_count(self) -> int:
        return int(DURATION_S * self.fps)


def background(rng: np.random.Generator, size_px: int) -> NDArray[Any]:
    """(size_px, size_px, 3) float32: a smooth random gradient with fixed fine noise."""
    corners = rng.uniform(15, 115, (4, 4, 3)).astype(np.float32)
    position = np.linspace(0, 2.999, size_px)
    cell, share = position.astype(int), (position % 1)[:, None, None].astype(np.float32)
    rows = corners[cell] * (1 - share) + corners[cell + 1] * share
    share = share.transpose(1, 0, 2)
    field = rows[:, cell] * (1 - share) + rows[:, cell + 1] * share
    return np.asarray(field + rng.normal(0, rng.uniform(1, 8), (size_px, size_px, 1)), np.float32)


def frames(scene: Scene, form: ClipFormat) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """(image, labels) a frame: (S, S, 3) uint8 RGB with smooth edges, and (S, S) uint8 truth at pixel centres."""
    rng = np.random.default_rng([scene.seed, 1])
    size = form.size_px
    ground = background(rng, size)
    noise = rng.uniform(2, 7)
    for index in range(form.frame_count):
        image, labels = ground.copy(), np.zeros((size, size), np.uint8)
        for i, thing in enumerate(scene.things):
            _paint(image, labels, thing, i + 1, float(index / form.fps))
        image += rng.standard_normal((size, size, 1), dtype=np.float32) * noise
        yield image.clip(0, 255).astype(np.uint8), labels


def _paint(image: NDArray[Any], labels: NDArray[Any], thing: Thing, label: int, time_s: float) -> None:
    """Draw the thing over `image` and `labels`, looking only at the pixels of its bounding circle's box."""
    at, size = np.asarray([time_s]), image.shape[0]
    if not thing.exists(at)[0]:
        return
    center, reach = thing.center(at)[0], 1.25 * float(thing.radius_at(at)[0])
    (x1, y1), (x2, y2) = (
        np.clip(((center + sign * reach) * size).astype(int) + (sign > 0), 0, size) for sign in (-1, 1)
    )
    if x1 >= x2 or y1 >= y2:
        return
    x, y = np.meshgrid(np.arange(x1, x2), np.arange(y1, y2))
    quarters = [(dx, dy) for dx in (0.25, 0.75) for dy in (0.25, 0.75)]
    share = np.mean([coverage(thing, time_s, (x + dx) / size, (y + dy) / size) for dx, dy in quarters], axis=0)
    color = np.asarray(COLORS[thing.color], np.float32) * thing.shade
    patch = image[y1:y2, x1:x2]
    patch += share[..., None].astype(np.float32) * (color - patch)
    labels[y1:y2, x1:x2][coverage(thing, time_s, (x + 0.5) / size, (y + 0.5) / size)] = label


def sound(scene: Scene) -> NDArray[Any]:
    """(samples,) float32 mono at 16 kHz: each shape has its timbre (sine, square wave, rising chirps), over faint
    noise."""
    rng = np.random.default_rng([scene.seed, 2])
    count = int(SAMPLE_RATE * DURATION_S)
    hiss = rng.normal(0, rng.uniform(0.002, 0.02), count)
    if scene.sounding is None:
        return hiss.astype(np.float32)
    time_s, pitch_hz = np.arange(count) / SAMPLE_RATE, rng.uniform(180, 320)
    shape = scene.things[scene.sounding].shape
    if shape == "circle":
        wave = np.sin(2 * np.pi * pitch_hz * time_s)
    elif shape == "square":
        wave = 0.6 * np.sign(np.sin(2 * np.pi * pitch_hz * time_s))
    else:
        period_s = rng.uniform(0.25, 0.5)
        wave = np.sin(2 * np.pi * np.cumsum(600 + 2400 * (time_s % period_s) / period_s) / SAMPLE_RATE)
    begin = int(rng.uniform(0, 0.4) * count)
    envelope = np.zeros(count)
    envelope[begin : begin + int(rng.uniform(0.45, 0.6) * count)] = 1
    smooth = np.convolve(envelope, np.ones(400) / 400, "same")
    return np.asarray(wave * smooth * rng.uniform(0.15, 0.5) + hiss, np.float32)


def write(scene: Scene, path: Path, form: ClipFormat | None = None) -> list[NDArray[Any]]:
    """Write the clip to `path` (mp4) and return its truth: a (S, S) uint8 label map per frame."""
    form = form or ClipFormat()
    truth = []
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=form.fps, options={"crf": "16", "preset": "veryfast"})
        video.width = video.height = form.size_px
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for image, labels in frames(scene, form):
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            truth.append(labels)
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(sound(scene)[None], format="fltp", layout="mono")
        samples.sample_rate = SAMPLE_RATE
        container.mux(audio.encode(samples))
        container.mux(audio.encode())
    return truth


def target_masks(truth: list[NDArray[Any]], question: Question) -> dict[int, Mask]:
    """The answer's mask by frame index, on the frames where it is visible."""
    masks = {index: encode_mask(labels == question.target + 1) for index, labels in enumerate(truth)}
    return {index: mask for index, mask in masks.items() if mask.area}
