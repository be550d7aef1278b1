"""RefCOCOg as its authors give it out: expressions about single pictures of COCO.

    refcocog/refs(umd).p, or refs(google).p   pickled list of {"ann_id", "image_id", "split", "sentences": [{"sent"}]}
    refcocog/instances.json                   COCO annotations
    images/mscoco/images/train2014/           the pictures

`refcocog/` may be named itself, and the pictures may lie under `train2014/` or `images/` in it. A picture is a clip of
one frame.
"""

import json
import pickle
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pycocotools import mask as coco

from backend.domain.annotation import Mask
from backend.domain.errors import BadInput
from backend.domain.masks import from_counts
from backend.ports.media import PublicClip, PublicExpression
from integrations.imports.objects import truth_object

#: By the University of Maryland first: there no picture is in two splits.
_REFS = ("refs(umd).p", "refs(google).p")
_PICTURES = ("../images/mscoco/images/train2014", "images/mscoco/images/train2014", "train2014", "images")


class _PlainUnpickler(pickle.Unpickler):
    """Takes lists, dictionaries, texts and numbers, and nothing that would have to be imported: a pickle may run what
    it likes where it is loaded."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and expressions are plain lists and texts")


def read_refcocog(root: Path, split: str) -> Iterator[PublicClip]:
    """The pictures of a split by their names, each a clip of one frame. Raises `BadInput`, `KeyError`, `OSError`."""
    folder = root if (root / "instances.json").exists() else root / "refcocog"
    refs = _refs(folder)
    instances = json.loads((folder / "instances.json").read_text())
    images, annotations = ({one["id"]: one for one in instances[name]} for name in ("images", "annotations"))
    labels = {one["id"]: str(one["name"]) for one in instances["categories"]}
    asked: dict[int, list[Any]] = defaultdict(list)
    for ref in refs:
        if ref["split"] == split:
            asked[ref["image_id"]].append(ref)
    if not asked:
        raise BadInput(
            f"{folder} has nothing of split {split!r}; it has {', '.join(sorted({one['split'] for one in refs}))}",
            code="bad_layout",
        )
    pictures = _pictures(folder)
    for image in sorted((images[image_id] for image_id in asked), key=lambda one: str(one["file_name"])):
        expressions = [one for ref in asked[image["id"]] for one in _expressions(ref, annotations, image, labels)]
        name = str(image["file_name"])
        yield PublicClip(Path(name).stem, (pictures / name,), (0,), tuple(expressions))


def _refs(folder: Path) -> list[Any]:
    path = next((folder / name for name in _REFS if (folder / name).exists()), None)
    if path is None:
        raise BadInput(f"{folder} has neither {' nor '.join(_REFS)}", code="bad_layout")
    try:
        with path.open("rb") as file:
            # Written by Python 2, whose texts are bytes.
            refs = _PlainUnpickler(file, encoding="utf-8").load()
    except (pickle.UnpicklingError, EOFError, UnicodeDecodeError, AttributeError, IndexError) as error:
        raise BadInput(f"{path} can't be read: {error}", code="bad_layout") from error
    if not isinstance(refs, list):
        raise BadInput(f"{path} holds no list of expressions", code="bad_layout")
    return refs


def _pictures(folder: Path) -> Path:
    found = next((folder / name for name in _PICTURES if (folder / name).is_dir()), None)
    if found is None:
        places = ", ".join(str((folder / name).resolve()) for name in _PICTURES)
        raise BadInput(f"the pictures of COCO's train2014 are in none of {places}", code="bad_layout")
    return found


def _expressions(
    ref: Mapping[str, Any], annotations: Mapping[int, Any], image: Mapping[str, Any], labels: Mapping[int, str]
) -> Iterator[PublicExpression]:
    annotation = annotations[ref["ann_id"]]
    thing = truth_object(labels[annotation["category_id"]], [_mask(annotation["segmentation"], image)])
    for sentence in ref["sentences"]:
        yield PublicExpression(sentence["sent"], (thing,))


def _mask(segmentation: Any, image: Mapping[str, Any]) -> Mask:
    """Of polygons, or of run lengths, as COCO has both."""
    height, width = int(image["height"]), int(image["width"])
    encoded = coco.frPyObjects(segmentation, height, width)
    merged = coco.merge(encoded) if isinstance(encoded, list) else encoded
    return from_counts(merged["counts"].decode("ascii"), height, width)
