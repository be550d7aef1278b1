"""Small public sets, written by hand as their authors lay them out."""

import csv
import json
import pickle
import pickletools
import wave
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


def refcocog(root: Path, splits: Sequence[str] = ("train", "train", "val"), refs: str = "refs(umd).p") -> Path:
    """A picture for each of those splits, of which each has a square (of two polygons) with two expressions, and a
    crowd in run lengths with one. Texts are bytes, as Python 2 wrote them."""
    told, images, annotations = list[Any](), list[Any](), list[Any]()
    pictures = root / "images/mscoco/images/train2014"
    pictures.mkdir(parents=True)
    for number, split in enumerate(splits):
        name = f"COCO_train2014_{number:012d}.jpg"
        made = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH + number, 3), np.uint8)
        Image.fromarray(made).save(pictures / name)
        images.append({"id": 70 + number, "file_name": name, "height": HEIGHT, "width": WIDTH + number})
        halves = [[4, 2, 8, 2, 8, 10, 4, 10], [8, 2, 12, 2, 12, 10, 8, 10]]
        crowd = {"size": [HEIGHT, WIDTH + number], "counts": [5, 10, HEIGHT * (WIDTH + number) - 15]}
        for kind, segmentation in ((1, halves), (2, crowd)):
            annotations.append(
                {"id": 10 * number + kind, "image_id": 70 + number, "category_id": kind, "segmentation": segmentation}
            )
            texts = ["the left one", "a caf\u00e9 sign"] if kind == 1 else ["all of them"]
            told.append(
                {"ref_id": len(told), "ann_id": 10 * number + kind, "image_id": 70 + number, "category_id": kind,
                 "split": split, "file_name": name.replace(".jpg", f"_{number}.jpg"),
                 "sentences": [{"sent": text, "raw": text, "tokens": text.split()} for text in texts]}
            )  # fmt: skip
    folder = root / "refcocog"
    folder.mkdir()
    (folder / refs).write_bytes(_by_python_2(told))
    categories = [{"id": 1, "name": "sign"}, {"id": 2, "name": "person"}]
    instances = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(instances))
    return root


def _by_python_2(told: Any) -> bytes:
    """A pickle whose texts are bytes, as Python 2 wrote them; the lengths stand alike before both."""
    written = bytearray(pickle.dumps(told, protocol=2))
    for operation, _, at in pickletools.genops(bytes(written)):
        if operation.name == "BINUNICODE" and at is not None:
            written[at : at + 1] = b"T"
    return bytes(written)


def ref_avs(root: Path) -> Path:
    """One clip of the split train with two things, of which the second has no mask on its last frame, and one of test_n
    with nothing."""
    rows = [
        ("-a_b_0_4000", "-a_b_0_4000_cat_1", "train", 0, "The object making a sound, first."),
        ("-a_b_0_4000", "-a_b_0_4000_cat_2", "train", 0, "The left one"),
        ("-a_b_0_4000", "-a_b_0_4000_hair-dryer_1", "train", 2, "The right one"),
        ("-a_b_0_4000", "null_c--a_b_0_4000_null_1", "test_n", 0, "The dog"),
    ]
    root.mkdir(exist_ok=True)
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("vid", "uid", "split", "fid", "exp"), *rows])
    for seed, clip in enumerate(("-a_b_0_4000", "null_c--a_b_0_4000")):
        media = root / "media" / clip
        write_pictures(media / "frames", seed)
        for place, name in enumerate(NAMES):
            (media / "frames" / f"{name}.jpg").rename(media / "frames" / f"{place}.jpg")
        with wave.open(str(media / "audio.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16000)
            file.writeframes(np.arange(FRAMES * 16000).astype("<i2").tobytes())
    for fid, x in ((0, 4), (2, 20)):
        folder = root / "gt_mask/-a_b_0_4000" / f"fid_{fid}"
        folder.mkdir(parents=True)
        for place in range(FRAMES if fid == 0 else FRAMES - 1):
            Image.fromarray(pixels(place, x).astype(np.uint8) * 255).save(folder / f"{place:05d}.png")
    return root


def _rle(mask: np.ndarray) -> dict[str, Any]:
    found = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": found["size"], "counts": found["counts"].decode()}
