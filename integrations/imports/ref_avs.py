"""Ref-AVS Bench as its authors give it out: expressions about clips that sound.

    metadata.csv                           vid, uid, split, fid, exp; `uid` is <clip>_<thing>_<number>
    media/<clip>/frames/<n>.jpg            counted from 0, one a second
    media/<clip>/audio.wav
    gt_mask/<clip>/fid_<fid>/<n>.png       five digits; what isn't black is the thing

The clips of the split `test_n` have nothing that fits.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from backend.domain.annotation import Mask
from backend.domain.errors import BadInput
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode
from backend.ports.media import PublicClip, PublicExpression
from integrations.imports.objects import truth_object

_COLUMNS = {"uid", "split", "fid", "exp"}
#: Whose things are called so has none.
_NOTHING = "null"


def read_ref_avs(root: Path, split: str) -> Iterator[PublicClip]:
    """The clips of a split by their names, with their sound. Raises `BadInput`, `OSError`, `ValueError`."""
    with (root / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if missing := sorted(_COLUMNS - set(rows.fieldnames or ())):
            raise BadInput(f"{root / 'metadata.csv'} has no column {', '.join(missing)}", code="bad_layout")
        asked: dict[str, list[Mapping[str, str]]] = defaultdict(list)
        splits = set()
        for row in rows:
            splits.add(row["split"])
            if row["split"] == split:
                # `vid` isn't the folder where several expressions of the null split are about one source.
                asked[row["uid"].rsplit("_", 2)[0]].append(row)
    if not asked:
        raise BadInput(f"{root} has nothing of split {split!r}; it has {', '.join(sorted(splits))}", code="bad_layout")
    for name in sorted(asked):
        yield _clip(root, name, asked[name])


def _clip(root: Path, name: str, rows: Sequence[Mapping[str, str]]) -> PublicClip:
    media = root / "media" / name
    pictures = _pictures(media / "frames")
    audio = media / "audio.wav"
    if not audio.exists():
        raise BadInput(f"clip {name!r} has no sound: {audio} is missing", code="bad_layout")
    painted = {row["fid"]: _painted(root, name, row, pictures) for row in rows}
    # A clip's frames are known for all that is asked of it, or for nothing.
    known = sorted(set.intersection(*({n for n, mask in enumerate(one) if mask} for one in painted.values())))
    if not known:
        raise BadInput(f"clip {name!r} has no frame whose masks are known in {root / 'gt_mask'}", code="bad_layout")
    expressions = []
    for row in rows:
        masks = painted[row["fid"]]
        thing = truth_object(_thing(row), [masks[n] if n in known else None for n in range(len(masks))])
        expressions.append(PublicExpression(row["exp"], (thing,) if thing.masks else ()))
    return PublicClip(name, pictures, tuple(known), tuple(expressions), Mode.AVS, audio)


def _thing(row: Mapping[str, str]) -> str:
    return row["uid"].rsplit("_", 2)[1]


def _pictures(folder: Path) -> tuple[Path, ...]:
    found = sorted(folder.glob("*.jpg"), key=lambda path: int(path.stem))
    if not found or [int(path.stem) for path in found] != list(range(len(found))):
        raise BadInput(f"{folder} hasn't the pictures 0.jpg, 1.jpg and so on", code="bad_layout")
    return tuple(found)


def _painted(root: Path, name: str, row: Mapping[str, str], pictures: Sequence[Path]) -> list[Mask | None]:
    """The mask on each frame, empty where it is black, None where there is none."""
    with Image.open(pictures[0]) as picture:
        width, height = picture.size
    folder = root / "gt_mask" / name / f"fid_{row['fid']}"
    if _thing(row) == _NOTHING and not folder.exists():
        return [encode_mask(np.zeros((height, width), bool))] * len(pictures)
    found: list[Mask | None] = []
    for place in range(len(pictures)):
        path = folder / f"{place:05d}.png"
        if not path.exists():
            found.append(None)
            continue
        mask = np.asarray(Image.open(path).convert("L")) > 0
        if mask.shape != (height, width):
            raise BadInput(f"{path} is {mask.shape[1]}×{mask.shape[0]}, its clip {width}×{height}", code="bad_layout")
        found.append(encode_mask(mask))
    return found
