"""Small public sets, written by hand as their authors lay them out."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

WIDTH, HEIGHT, FRAMES = 40, 30, 4
NAMES = [f"{5 * place:05d}" for place in range(FRAMES)]


def pixels(place: int, x: int) -> np.ndarray:
    """(H, W) bool: a square that goes down."""
    made = np.zeros((HEIGHT, WIDTH), bool)
    made[2 + 3 * place : 10 + 3 * place, x : x + 8] = True
    return made


def write_pictures(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    soft = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8))
    picture = soft.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    for place, name in enumerate(NAMES):
        picture.rotate(3 * place).save(folder / f"{name}.jpg", quality=95, subsampling=0)


def mevis(root: Path, videos: int = 2, meta: str = "meta_expressions.json", pictures: str = "JPEGImages") -> Path:
    """Each video has two things; one expression means the first, one both."""
    masks: dict[str, list[Any]] = {}
    told: dict[str, Any] = {}
    for number in range(videos):
        first = 10 * number
        masks[str(first)] = [_rle(pixels(place, 4)) for place in range(FRAMES)]
        masks[str(first + 3)] = [None, *(_rle(pixels(place, 20)) for place in range(1, FRAMES))]
        told[f"clip{number}"] = {
            "vid_id": number, "frames": NAMES,
            "expressions": {
                "0": {"exp": "the left one", "obj_id": [0], "anno_id": [first]},
                "1": {"exp": "both", "obj_id": [0, 1], "anno_id": [first, first + 3]},
            },
        }  # fmt: skip
        write_pictures(root / pictures / f"clip{number}", number)
    (root / meta).write_text(json.dumps({"videos": told}))
    (root / "mask_dict.json").write_text(json.dumps(masks))
    return root


def ref_youtube_vos(root: Path, painted: Sequence[int] = (0, 2, 3)) -> Path:
    """One video; things 1 and 2 are painted on some of its frames."""
    told = {"expressions": {"0": {"exp": "the right one", "obj_id": "2"}}, "frames": NAMES}
    write_pictures(root / "train/JPEGImages/abc", 5)
    folder = root / "train/Annotations/abc"
    folder.mkdir(parents=True)
    for place in painted:
        numbers = np.where(pixels(place, 20), 2, np.where(pixels(place, 4), 1, 0)).astype(np.uint8)
        picture = Image.fromarray(numbers, "P")
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        picture.save(folder / f"{NAMES[place]}.png")
    (root / "train/meta.json").write_text(json.dumps({"videos": {"abc": {"objects": {"2": {"category": "dog"}}}}}))
    expressions = root / "meta_expressions/train"
    expressions.mkdir(parents=True)
    (expressions / "meta_expressions.json").write_text(json.dumps({"videos": {"abc": told}}))
    return root


def _rle(mask: np.ndarray) -> dict[str, Any]:
    found = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}
