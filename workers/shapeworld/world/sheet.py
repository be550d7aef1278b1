"""A contact sheet to look at: clips of each kind and level as rows of frames, the answer outlined, the question below.

`python -m workers.shapeworld.world.sheet out.png [--seed N]`
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workers.shapeworld.world.levels import LEVELS
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.queries import Kind, Question
from workers.shapeworld.world.render import Frame, frames
from workers.shapeworld.world.shapes import COLORS, MARK_SHADE
from workers.shapeworld.world.splits import SEEDS, Split

_FRAMES, _SIDE_PX, _CAPTION_PX, _GAP_PX = 4, 76, 13, 4
#: Rendered larger and made smaller, which leaves less noise for the file to hold.
_RENDER_PX = 4 * _SIDE_PX
_GROUND_COLORS = 16
_OUTLINE = (255, 0, 255)


def sheet(first_seed: int) -> Image.Image:
    """A row for each kind, a column for each level."""
    rows = []
    for row, kind in enumerate(Kind):
        strips = [_strip(first_seed + row, kind, level) for level in LEVELS]
        rows.append(np.concatenate(strips, axis=1))
    return _few_colors(Image.fromarray(np.concatenate(rows)))


def _few_colors(image: Image.Image) -> Image.Image:
    """A palette that keeps the things' colours: chosen by frequency alone, it would go to the background."""
    common = image.quantize(_GROUND_COLORS).getpalette()
    shades = [np.asarray(color) * share for color in COLORS.values() for share in (MARK_SHADE, 0.8, 1)]
    things = np.asarray([*shades, _OUTLINE, (255, 255, 255)]).astype(int).ravel()
    assert common is not None
    palette = Image.new("P", (1, 1))
    palette.putpalette([*common, *things.tolist()])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


def _strip(seed: int, kind: Kind, level: str) -> NDArray[np.uint8]:
    """Frames spread over one clip, side by side, above the instruction."""
    example = make_scene(seed, kind, LEVELS[level])
    shot = list(frames(example.scene, _RENDER_PX))
    chosen = [shot[i] for i in np.linspace(0, len(shot) - 1, _FRAMES).astype(int)]
    width = round(_SIDE_PX * example.scene.view[0] / example.scene.view[1] / 2) * 2
    widest = max(round(_SIDE_PX * max(float(aspect), 1.0)) for aspect in LEVELS[level].aspects)
    canvas = Image.new("RGB", (_FRAMES * (widest + 2) + _GAP_PX, _SIDE_PX + _CAPTION_PX + _GAP_PX), "white")
    for position, frame in enumerate(chosen):
        picture = Image.fromarray(_outlined(frame, example.question)).resize((width, _SIDE_PX), Image.Resampling.BOX)
        canvas.paste(picture, (position * (width + 2), 0))
    caption = f"{level}: {example.question.text}"
    ImageDraw.Draw(canvas).text((1, _SIDE_PX), caption, fill="black", font_size=11)
    return np.asarray(canvas)


def _outlined(frame: Frame, question: Question) -> NDArray[Any]:
    """The picture with a bright line around what is seen of the targets."""
    inside = np.isin(frame.labels, [target + 1 for target in question.targets])
    grown = inside.copy()
    for axis, step in ((0, 4), (0, -4), (1, 4), (1, -4)):
        grown |= np.roll(inside, step, axis)
    image = frame.image.copy()
    image[grown & ~inside] = _OUTLINE
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=SEEDS[Split.TRAIN].start)
    arguments = parser.parse_args()
    sheet(arguments.seed).save(arguments.path, optimize=True)


if __name__ == "__main__":
    main()
