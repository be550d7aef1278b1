"""What a person says of a thing on one picture, for the segmenter to draw it: clicks on and beside it, a box around it.

Places are in pixels of the picture, from its upper left corner.
"""

from dataclasses import dataclass

from backend.domain.annotation import Box


@dataclass(frozen=True, slots=True)
class Click:
    """`positive`: on the thing; else on what is not the thing."""

    x_px: float
    y_px: float
    positive: bool = True


@dataclass(frozen=True, slots=True)
class ThingPrompt:
    """One thing. It says where the thing is: with a box, or with a positive click at least."""

    clicks: tuple[Click, ...] = ()
    box_xyxy_px: Box | None = None

    def __post_init__(self) -> None:
        if self.box_xyxy_px is None and not any(click.positive for click in self.clicks):
            raise ValueError("neither a box nor a positive click says where the thing is")
