"""What the API and the process that draws masks say to each other, as JSON. Masks travel as run lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backend.domain.annotation import Box
from backend.domain.masks import from_counts
from backend.domain.prompts import Click, ThingPrompt
from backend.ports.pipeline import SuggestedMask

#: What is answered, as 503, from the start of that process until it can draw.
LOADING = "the model is still being loaded"


@dataclass(frozen=True, slots=True)
class Asked:
    """As the arguments of `MaskService.draw`; after `patience_s` nobody waits for the answer any more."""

    bucket: str
    key: str
    size: tuple[int, int]
    model_digest: str
    prompts: Sequence[ThingPrompt]
    patience_s: float


def asked_json(asked: Asked) -> dict[str, Any]:
    return {
        "bucket": asked.bucket,
        "key": asked.key,
        "size": list(asked.size),
        "model": asked.model_digest,
        "patience_s": asked.patience_s,
        "prompts": [
            {
                "clicks": [[click.x_px, click.y_px, click.positive] for click in prompt.clicks],
                "box": None if (box := prompt.box_xyxy_px) is None else [box.x1, box.y1, box.x2, box.y2],
            }
            for prompt in asked.prompts
        ],
    }


def asked_of(body: Any) -> Asked:
    """What `asked_json` was given. Raises `ValueError` for anything else."""
    try:
        prompts = [
            ThingPrompt(
                tuple(Click(float(x), float(y), bool(positive)) for x, y, positive in one["clicks"]),
                None if one["box"] is None else Box(*(float(edge) for edge in one["box"])),
            )
            for one in body["prompts"]
        ]
        width, height = (int(length) for length in body["size"])
        where, model = (str(body["bucket"]), str(body["key"])), str(body["model"])
        return Asked(*where, (width, height), model, prompts, float(body["patience_s"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the body doesn't ask for masks: {type(error).__name__} {error}") from error


def masks_json(masks: Sequence[SuggestedMask | None]) -> list[dict[str, Any] | None]:
    return [
        None if one is None else
        {"counts": one.mask.counts, "size": [one.mask.height, one.mask.width], "predicted_iou": one.predicted_iou}
        for one in masks
    ]  # fmt: skip


def masks_of(rows: Sequence[Mapping[str, Any] | None]) -> list[SuggestedMask | None]:
    """What `masks_json` was given."""
    return [
        None if row is None else SuggestedMask(from_counts(row["counts"], *row["size"]), row["predicted_iou"])
        for row in rows
    ]
