"""Exports of a data set, each read back by a program that isn't ours: pycocotools, Pillow, Arrow, `datasets`, the Label
Studio SDK, or the plain JSON and text that the layout's own tools read."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import datasets as hugging_face
import numpy as np
import pytest
import yaml
from label_studio_sdk.converter.imports.yolo import convert_yolo_to_ls
from label_studio_sdk.label_interface import LabelInterface
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from backend.domain.annotation import Box, Mask
from backend.domain.datasets import DatasetItem, TruthObject
from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.runs import Mode
from integrations.exports.layouts import Layout
from integrations.exports.write import Options, export_items
from integrations.media.probe import probe_video
from tests.factories import dataset_items
from tests.factories.reviewed import FRAMES, HEIGHT, WIDTH, write_scene

SEEN, PROPAGATED = (2, 5), (3, 4, 6)
KNOWN = (2, 3, 4, 5, 6)


def rectangle(x: int, y: int, side: int) -> tuple[Box, Mask]:
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[y : y + side, x : x + side] = True
    return Box(x, y, x + side, y + side), encode_mask(pixels)


def thing(label: str, where: Mapping[int, tuple[int, int, int]], masked: tuple[int, ...] = KNOWN) -> TruthObject:
    shapes = {frame: rectangle(*place) for frame, place in where.items()}
    return TruthObject(
        label, {frame: box for frame, (box, _) in shapes.items()},
        {frame: mask for frame, (_, mask) in shapes.items() if frame in masked},
    )  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two videos under their SHA-256."""
    folder = tmp_path_factory.mktemp("media")
    for seed in range(2):
        path = write_scene(folder / f"{seed}.mp4", seed)
        path.rename(folder / hashlib.sha256(path.read_bytes()).hexdigest())
    return folder


@pytest.fixture(scope="module")
def items(media: Path) -> list[DatasetItem]:
    """Of the first video, in mode avs: two things that overlap, one of them seen on frames 3 to 6 alone; in mode vos:
    nothing at all. Of the second: a thing whose masks nobody knows."""
    one, other = sorted(media.iterdir())

    def made(path: Path, text: str, *objects: TruthObject, **more: Any) -> DatasetItem:
        probe = probe_video(path)
        return dataset_items.item(
            media_sha256=path.name, media_key=path.name, media_size_bytes=path.stat().st_size, instruction=text,
            frame_count=FRAMES, width=WIDTH, height=HEIGHT, duration_s=probe.duration_s, codec=probe.codec,
            time_base_num=probe.time_base_num, time_base_den=probe.time_base_den, pts=tuple(probe.pts.tolist()),
            **{"objects": objects, "box_frames": tuple(range(FRAMES)), "mask_frames": SEEN,
               "propagated_frames": PROPAGATED} | more,
        )  # fmt: skip

    large = thing("cup", {frame: (4 + frame, 8, 20) for frame in range(1, 9)})
    small = thing("lid", {frame: (10 + frame, 12, 6) for frame in range(3, 7)})
    return [
        made(one, 'the "cup" and its lid', large, small, mode=Mode.AVS),
        made(one, "what falls"),
        made(other, "the cup", thing("cup", {4: (1, 1, 9)}, ()), mask_frames=(), propagated_frames=()),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


def write(items: list[DatasetItem], media: Path, folder: Path, layout: Layout, **more: Any) -> int:
    return export_items(items, media, folder, Options(layout, **more))


def truth(item: DatasetItem, place: int, frame: int) -> np.ndarray:
    mask = item.objects[place].masks.get(frame)
    return np.zeros((HEIGHT, WIDTH), bool) if mask is None else decode_mask(mask)


def clip_name(item: DatasetItem, number: int = 0) -> str:
    return f"{item.media_sha256[:12]}-{number}"


def check_picture(path: Path, item: DatasetItem, media: Path, frame: int) -> None:
    """Of all frames of the video it is most like that one, and much like it."""
    found = np.asarray(Image.open(path)).astype(int)
    with av.open(str(media / item.media_sha256)) as container:
        frames = [picture.to_ndarray(format="rgb24") for picture in container.decode(video=0)]
    differences = [np.abs(found - one).mean() for one in frames]
    assert differences.index(min(differences)) == frame
    assert min(differences) < 8


def test_mevis(items: list[DatasetItem], media: Path, folder: Path) -> None:
    assert write(items, media, folder, Layout.MEVIS) == 2
    meta = json.loads((folder / "meta_expressions.json").read_text())["videos"]
    masks = json.loads((folder / "mask_dict.json").read_text())
    video = meta[clip_name(items[0])]
    assert video["frames"] == [f"{frame:05d}" for frame in KNOWN]
    [expression] = video["expressions"].values()
    assert expression["exp"] == items[0].instruction
    for place, number in enumerate(expression["anno_id"]):
        for frame, rle in zip(KNOWN, masks[str(number)], strict=True):
            decoded = np.zeros((HEIGHT, WIDTH)) if rle is None else coco_mask.decode(rle)
            assert (decoded == truth(items[0], place, frame)).all()
    [nothing] = meta[clip_name(items[1], 1)]["expressions"].values()
    assert (nothing["exp"], nothing["obj_id"], nothing["anno_id"]) == ("what falls", [], [])
    for frame in KNOWN:
        check_picture(folder / "JPEGImages" / clip_name(items[0]) / f"{frame:05d}.jpg", items[0], media, frame)


def test_frames_that_no_person_saw_can_be_left_out(items: list[DatasetItem], media: Path, folder: Path) -> None:
    write(items, media, folder, Layout.MEVIS, with_propagated=False)
    video = json.loads((folder / "meta_expressions.json").read_text())["videos"][clip_name(items[0])]
    assert video["frames"] == ["00002", "00005"]


def test_davis(items: list[DatasetItem], media: Path, folder: Path) -> None:
    assert write(items, media, folder, Layout.DAVIS) == 2
    names = (folder / "ImageSets/2017/train.txt").read_text().split()
    assert names == [clip_name(items[0]), clip_name(items[1], 1)]
    for frame in KNOWN:
        picture = Image.open(folder / "Annotations/Full-Resolution" / names[0] / f"{frame:05d}.png")
        assert (picture.mode, picture.getpalette()[:9]) == ("P", [0, 0, 0, 128, 0, 0, 0, 128, 0])
        numbers = np.asarray(picture)
        lid = truth(items[0], 1, frame)
        assert ((numbers == 2) == lid).all()
        assert ((numbers == 1) == (truth(items[0], 0, frame) & ~lid)).all()
        empty = np.asarray(Image.open(folder / "Annotations/Full-Resolution" / names[1] / f"{frame:05d}.png"))
        assert not empty.any()
    texts = (folder / "davis_text_annotations/Davis17_annot1.txt").read_text().splitlines()
    assert texts == [f"{names[0]} {number} \"the 'cup' and its lid\"" for number in (1, 2)]
    check_picture(folder / "JPEGImages/Full-Resolution" / names[0] / "00004.jpg", items[0], media, 4)


def test_ref_youtube_vos(items: list[DatasetItem], media: Path, folder: Path) -> None:
    assert write(items, media, folder, Layout.REF_YOUTUBE_VOS) == 1
    name = clip_name(items[0])
    meta = json.loads((folder / "meta_expressions/train/meta_expressions.json").read_text())["videos"]
    assert meta == {
        name: {
            "expressions": {"0": {"exp": items[0].instruction, "obj_id": "1"}},
            "frames": [f"{frame:05d}" for frame in KNOWN],
        }
    }
    objects = json.loads((folder / "train/meta.json").read_text())["videos"][name]["objects"]
    assert objects == {"1": {"category": "cup", "frames": [f"{frame:05d}" for frame in KNOWN]}}
    for frame in KNOWN:
        numbers = np.asarray(Image.open(folder / "train/Annotations" / name / f"{frame:05d}.png"))
        assert (numbers == (truth(items[0], 0, frame) | truth(items[0], 1, frame))).all()
        assert (folder / "train/JPEGImages" / name / f"{frame:05d}.jpg").exists()


def test_sa_v(items: list[DatasetItem], media: Path, folder: Path) -> None:
    assert write(items, media, folder, Layout.SA_V) == 2
    told = json.loads((folder / f"{clip_name(items[0])}_manual.json").read_text())
    assert (told["video_frame_count"], told["video_height"], told["masklet_num"]) == (FRAMES, HEIGHT, 2)
    assert (told["frame_indices"], told["masklet_frame_count"]) == (list(KNOWN), [5, 4])
    assert told["masklet_first_appeared_frame"] == [2, 3]
    for frame, rles in zip(KNOWN, told["masklet"], strict=True):
        for place, rle in enumerate(rles):
            assert (coco_mask.decode(rle) == truth(items[0], place, frame)).all()
    video = folder / f"{clip_name(items[0])}.mp4"
    assert video.read_bytes() == (media / items[0].media_sha256).read_bytes()


def test_coco(items: list[DatasetItem], media: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert write(items, media, folder, Layout.COCO) == 2
    read = COCO(str(folder / "annotations.json"))
    capsys.readouterr()
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == ["cup", "lid"]
    assert len(read.getImgIds()) == 2 * len(KNOWN)
    pictures = {(image["file_name"], image["frame_index"]): image["id"] for image in read.loadImgs(read.getImgIds())}
    for frame in KNOWN:
        number = pictures[f"{clip_name(items[0])}/{frame:05d}.jpg", frame]
        for category, place in (("cup", 0), ("lid", 1)):
            found = read.loadAnns(read.getAnnIds([number], catIds=read.getCatIds([category])))
            expected = truth(items[0], place, frame)
            assert len(found) == expected.any()
            for annotation in found:
                assert (read.annToMask(annotation) == expected).all()
                assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert read.loadImgs([number])[0]["instruction"] == items[0].instruction
        assert (folder / "images" / f"{clip_name(items[0])}/{frame:05d}.jpg").exists()


def test_youtube_vis(items: list[DatasetItem], media: Path, folder: Path) -> None:
    assert write(items, media, folder, Layout.YOUTUBE_VIS) == 2
    told = json.loads((folder / "instances.json").read_text())
    [cups, lids] = told["annotations"]
    assert (cups["video_id"], cups["length"], len(told["videos"])) == (1, len(KNOWN), 2)
    assert lids["bboxes"][0] is lids["segmentations"][0] is lids["areas"][0] is None
    for place, annotation in enumerate((cups, lids)):
        for frame, rle, area in zip(KNOWN, annotation["segmentations"], annotation["areas"], strict=True):
            expected = truth(items[0], place, frame)
            assert (rle is None) == (area is None) == (not expected.any())
            if rle is not None:
                assert (coco_mask.decode(rle) == expected).all()
                assert area == expected.sum()
    assert all((folder / "JPEGImages" / name).exists() for name in told["videos"][0]["file_names"])


def test_yolo(items: list[DatasetItem], media: Path, folder: Path, tmp_path: Path) -> None:
    assert write(items, media, folder, Layout.YOLO, every=2) == 3
    config = yaml.safe_load((folder / "data.yaml").read_text())
    assert (config["names"], config["train"]) == ({0: "cup", 1: "lid"}, "images/train")
    reader = tmp_path / "flat"
    reader.mkdir()
    (reader / "classes.txt").symlink_to(folder / "classes.txt")
    for name in ("images", "labels"):
        (reader / name).symlink_to(folder / name / "train")
    convert_yolo_to_ls(str(reader), str(tmp_path / "tasks.json"), image_root_url="x")
    tasks = {Path(task["data"]["image"]).stem: task for task in json.loads((tmp_path / "tasks.json").read_text())}
    assert len(tasks) == 3 * FRAMES // 2
    for frame in range(0, FRAMES, 2):
        [annotation] = tasks[f"{clip_name(items[0])}_{frame:05d}"]["annotations"]
        found = {region["value"]["rectanglelabels"][0]: region["value"] for region in annotation["result"]}
        for one in items[0].objects:
            if frame not in one.boxes:
                assert one.label not in found
                continue
            box = one.boxes[frame]
            corner = (found[one.label]["x"] * WIDTH / 100, found[one.label]["y"] * HEIGHT / 100)
            assert corner == pytest.approx((box.x1, box.y1), abs=0.01)
            assert found[one.label]["width"] * WIDTH / 100 == pytest.approx(box.x2 - box.x1, abs=0.01)


def test_label_studio(items: list[DatasetItem], media: Path, folder: Path) -> None:
    assert write(items, media, folder, Layout.LABEL_STUDIO) == 3
    tasks = json.loads((folder / "tasks.json").read_text())
    interface = LabelInterface((folder / "labels.xml").read_text())
    assert all(interface.validate_task({"data": task["data"]}) for task in tasks)
    [annotation] = tasks[0]["annotations"]
    assert interface.validate_annotation(annotation)
    boxes = [region for region in annotation["result"] if region["type"] == "videorectangle"]
    masks = [region for region in annotation["result"] if region["type"] == "bitmasklabels"]
    assert [region["value"]["labels"] for region in boxes] == [["cup"], ["lid"]]
    first = boxes[0]["value"]["sequence"][0]
    assert (first["frame"], first["x"]) == (2, pytest.approx(100 * 5 / WIDTH))
    assert not boxes[0]["value"]["sequence"][-1]["enabled"]
    assert sorted((region["value"]["bitmasklabels"][0], region["item_index"]) for region in masks) == [
        ("cup", 0), ("cup", 1), ("lid", 1),
    ]  # fmt: skip
    for region in masks:
        png = base64.b64decode(region["value"]["imageDataURL"].removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
        place = ["cup", "lid"].index(region["value"]["bitmasklabels"][0])
        assert ((shown[..., 3] > 0) == truth(items[0], place, SEEN[region["item_index"]])).all()
    name = clip_name(items[0])
    assert tasks[0]["data"]["video"] == f"/data/local-files/?d=videos/{name}.mp4"
    assert (folder / f"videos/{name}.mp4").exists()
    check_picture(folder / f"keyframes/{name}/00005.jpg", items[0], media, 5)


def test_parquet(items: list[DatasetItem], media: Path, folder: Path, tmp_path: Path) -> None:
    assert write(items, media, folder, Layout.PARQUET) == 3
    files = {"train": str(folder / "train.parquet")}
    read = hugging_face.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))["train"]
    assert [DatasetItem.from_row(row) for row in read] == items
    assert read["item_id"] == [item.item_id for item in items]
    [rle] = [mask for mask in read[0]["objects"][1]["masks"] if mask["frame_index"] == 3]
    assert (coco_mask.decode(rle) == truth(items[0], 1, 3)).all()
    assert {path.name for path in (folder / "media").iterdir()} == {item.media_sha256 for item in items}


def test_what_can_not_be_exported_is_told(items: list[DatasetItem], media: Path, folder: Path) -> None:
    with pytest.raises(BadInput, match="no items"):
        write([], media, folder, Layout.COCO)
    folder.mkdir()
    (folder / "mine").touch()
    with pytest.raises(BadInput, match="not empty"):
        write(items, media, folder, Layout.COCO)
    assert [path.name for path in folder.iterdir()] == ["mine"]
