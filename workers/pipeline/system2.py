"""System 2: grounds a description in one high-resolution keyframe as boxes, many keyframes in one batch.

It writes Qwen2.5-VL's grounding JSON. Its coordinates are an adapter of the model: absolute pixels of the smart-resized
image, or thousandths of the side; both come out as boxes in source pixels, clipped to the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from backend.domain.annotation import Box
from backend.profiles import System2Profile
from workers.pipeline.engines import Completion, Engine, Prompt
from workers.pipeline.parsing import RawBox, parse_system2
from workers.pipeline.prompts import load_template, neutralise


@dataclass(frozen=True, slots=True)
class GroundedBox:
    """`score`, `lowest`: geometric mean and least of the probabilities that the model gave to the tokens of its
    answer."""

    box_xyxy_px: Box
    label: str
    score: float
    lowest: float


@dataclass(frozen=True, slots=True)
class Grounding:
    raw_output: str
    boxes: tuple[GroundedBox, ...]
    warnings: tuple[str, ...]


def to_source_px(raw: RawBox, coordinates: str, resized: tuple[int, int], source: tuple[int, int]) -> Box | None:
    """The box in source pixels, clipped; None if nothing of it is left. `resized`, `source`: (width, height)."""
    frame = (1000, 1000) if coordinates == "thousandths" else resized
    scale_x, scale_y = source[0] / frame[0], source[1] / frame[1]
    x1, x2 = (min(max(v * scale_x, 0.0), float(source[0])) for v in (raw.x1, raw.x2))
    y1, y2 = (min(max(v * scale_y, 0.0), float(source[1])) for v in (raw.y1, raw.y2))
    return Box(x1, y1, x2, y2) if x2 - x1 >= 1e-3 and y2 - y1 >= 1e-3 else None


class System2:
    def __init__(self, engine: Engine, profile: System2Profile) -> None:
        self._engine, self._profile = engine, profile
        self._template = load_template(profile.prompts, "system2")

    def ground(self, images: Sequence[NDArray[Any]], descriptions: Sequence[str]) -> list[Grounding]:
        """One `Grounding` an image, in order. `images`: (H, W, 3) uint8 RGB at source resolution."""
        results: list[Grounding] = []
        for begin in range(0, len(images), self._profile.batch_size):
            end = begin + self._profile.batch_size
            results += self._ground_batch(images[begin:end], descriptions[begin:end])
        return results

    def _ground_batch(self, images: Sequence[NDArray[Any]], descriptions: Sequence[str]) -> list[Grounding]:
        profile = self._profile
        prompts = []
        for image, description in zip(images, descriptions, strict=True):
            text = self._template.format(description=neutralise(description))
            parts = {"text": {"type": "text", "text": text}, "image": {"type": "image", "image": "keyframe"}}
            prompts.append(Prompt(tuple(parts[name] for name in profile.content_order), image=image))
        completions = self._engine.generate(
            prompts,
            min_pixels=profile.min_pixels,
            max_pixels=profile.max_pixels,
            max_new_tokens=profile.max_new_tokens,
        )
        return [
            self._read(completion, (image.shape[1], image.shape[0]))
            for completion, image in zip(completions, images, strict=True)
        ]

    def _read(self, completion: Completion, source: tuple[int, int]) -> Grounding:
        assert completion.image_size is not None
        raw_boxes, dropped = parse_system2(completion.text)
        boxes, warnings = [], list(dropped)
        for raw in raw_boxes:
            box = to_source_px(raw, self._profile.coordinates, completion.image_size, source)
            if box is None:
                warnings.append(
                    f"System 2's box {raw.x1:g}, {raw.y1:g}, {raw.x2:g}, {raw.y2:g} is empty and was dropped"
                )
            else:
                boxes.append(GroundedBox(box, raw.label, completion.confidence, completion.lowest))
        return Grounding(completion.text, tuple(boxes), tuple(warnings))
