"""A labeling configuration that somebody else wrote: which of its tags can show what we send, and what is missing.

Tags are found by what they are, not by our names. Attributes are compared as Label Studio does, without regard to case.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from backend.domain.annotation import VideoProbe
from backend.domain.errors import BadInput
from integrations.label_studio.config import DEFAULT_LABEL, KnownConfig, Names

#: What Label Studio counts frames by where a Video tag names no rate.
DEFAULT_FPS = 24.0
#: Tags whose field may hold any words.
_TEXTS = frozenset({"Text", "HyperText", "Header", "Label", "Choice"})
_FIELD = re.compile(r"\$(\w+)")
_LAST_TAG = re.compile(r"</View>\s*$")
_MASKS_OF_OTHER_KINDS = ("BrushLabels", "Brush", "PolygonLabels", "Polygon", "RectangleLabels", "KeyPointLabels")


@dataclass(frozen=True, slots=True)
class ForeignConfig:
    """`known`: as our own configurations are known. `video_field` and `pages_field`: fields of the task's data that
    hold the video and the pages; `frame_rate`: a number, or the field that holds it; `text_fields` may hold any words,
    and for `unfilled` we have nothing; `missing`: what can't be shown, as sentences."""

    known: KnownConfig
    video_field: str | None
    pages_field: str | None
    frame_rate: str
    text_fields: tuple[str, ...]
    unfilled: tuple[str, ...]
    maps: tuple[str, ...]
    missing: tuple[str, ...]

    def fps(self, data: Mapping[str, Any]) -> float:
        """By which Label Studio counts the frames of a task with that data."""
        said = data.get(self.frame_rate[1:]) if self.frame_rate.startswith("$") else self.frame_rate
        try:
            rate = float(said or DEFAULT_FPS)
        except (TypeError, ValueError):
            return DEFAULT_FPS
        return rate if rate >= 1 else 1 / rate

    def check_rate(self, data: Mapping[str, Any], fps: float, probe: VideoProbe) -> None:
        """Raises `BadInput` where frames are counted by another rate than the video's: boxes would be shown late or
        early, at its end by half a frame or more."""
        theirs = self.fps(data)
        if abs(theirs / fps - 1) * probe.frame_count >= 0.5:
            raise BadInput(
                f"its task counts {theirs:g} frames a second, the video has {fps:g}: boxes would lie on wrong frames; "
                f"the Video tag's frameRate is {self.frame_rate!r}",
                code="frame_rate_differs",
            )

    def new_data(self, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The data of a new task, from that of one of our own projects. Raises `BadInput` where fields are left."""
        if self.unfilled:
            raise BadInput(
                f"a new task of the project needs {', '.join(self.unfilled)}, which we have nothing for",
                code="unfilled_fields",
            )
        data = {**ours, **dict.fromkeys(self.text_fields, ours["instruction"])}
        if self.video_field is not None:
            data[self.video_field] = ours["video"]
        if self.pages_field is not None:
            data[self.pages_field] = ours["keyframes"]
        if self.frame_rate.startswith("$"):
            data[self.frame_rate[1:]] = ours["fps"]
        return data


@dataclass(frozen=True, slots=True)
class _Tag:
    """`kind`: the tag's own name; `attributes` by their names in lower case."""

    kind: str
    attributes: Mapping[str, str]
    labels: tuple[str, ...]

    def get(self, name: str) -> str:
        return self.attributes.get(name, "")

    @property
    def field(self) -> str | None:
        """The field of the data that it shows one of."""
        found = _FIELD.fullmatch(self.get("value"))
        return found[1] if found else None

    @property
    def list_field(self) -> str | None:
        """The field of the data that it shows a list of."""
        found = _FIELD.fullmatch(self.get("valuelist"))
        return found[1] if found else None


def read_foreign(xml: str) -> ForeignConfig:
    """Raises `BadInput` if it isn't XML."""
    tags = _tags(xml)
    video = next((tag for tag in tags if tag.kind == "Video" and tag.field), None)
    box, box_labels = _control(tags, video, "VideoRectangle", "Labels")
    pages = next((tag for tag in tags if tag.kind == "Image" and tag.list_field), None)
    mask, mask_labels = _control(tags, pages, "BitmaskLabels", "BitmaskLabels")
    names = Names(*("" if tag is None else tag.get("name") for tag in (video, box, pages, mask)))
    known = KnownConfig(box_labels if box else (), mask_labels if mask else (), names)
    rate = "" if video is None else video.get("framerate")
    shown = (video and video.field, pages and pages.list_field, *_FIELD.findall(rate))
    filled = {field for field in shown if field}
    texts = {name for tag in tags if tag.kind in _TEXTS for name in _FIELD.findall(tag.get("value"))} - filled
    others = {name for tag in tags for value in tag.attributes.values() for name in _FIELD.findall(value)}
    return ForeignConfig(
        known=known,
        video_field=None if video is None else video.field,
        pages_field=None if pages is None else pages.list_field,
        frame_rate=rate or f"{DEFAULT_FPS:g}",
        text_fields=tuple(sorted(texts)),
        unfilled=tuple(sorted(others - texts - filled)),
        maps=tuple(_maps(known)),
        missing=tuple(_missing(tags, video, box, pages, mask, known)),
    )


def _tags(xml: str) -> list[_Tag]:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise BadInput(f"the labeling configuration is not XML: {error}", code="invalid_labeling_config") from error
    return [
        _Tag(
            str(tag.tag), {name.lower(): value for name, value in tag.attrib.items()},
            tuple(value for label in tag.iter("Label") if (value := label.get("value")) is not None),
        )
        for tag in root.iter()
    ]  # fmt: skip


def _control(
    tags: Sequence[_Tag], shown: _Tag | None, kind: str, labels_kind: str
) -> tuple[_Tag | None, tuple[str, ...]]:
    """The control of that kind on what is shown, and the labels that its regions can have."""
    if shown is None:
        return None, ()
    on_it = [tag for tag in tags if shown.get("name") in tag.get("toname").split(",")]
    labels = dict.fromkeys(label for tag in on_it if tag.kind == labels_kind for label in tag.labels)
    return next((tag for tag in on_it if tag.kind == kind), None), tuple(labels)


def _maps(known: KnownConfig) -> list[str]:
    names, found = known.names, []
    if known.box_labels:
        found.append(f"boxes: {names.box} on {names.video}, labels {', '.join(known.box_labels)}")
    if known.mask_labels:
        found.append(f"masks of new tasks: {names.mask} on {names.pages}, labels {', '.join(known.mask_labels)}")
    return found


def _missing(
    tags: Sequence[_Tag], video: _Tag | None, box: _Tag | None, pages: _Tag | None, mask: _Tag | None,
    known: KnownConfig,
) -> list[str]:  # fmt: skip
    """What can't be shown, and why."""
    found = []
    if video is None:
        found.append("no Video tag that shows a field of the task: no boxes")
    elif box is None:
        found.append(f"no VideoRectangle on {known.names.video}: no boxes")
    elif not known.box_labels:
        found.append(f"no Labels on {known.names.video}: boxes would have no label")
    if pages is None:
        found.append("no Image with a valueList to show keyframes on: no masks")
    elif mask is None:
        other = next((tag for tag in tags if tag.kind in _MASKS_OF_OTHER_KINDS), None)
        instead = f" ({other.kind} {other.get('name')} takes none of our bitmasks)" if other else ""
        found.append(f"no BitmaskLabels on {known.names.pages}{instead}: no masks")
    elif not known.mask_labels:
        found.append(f"{known.names.mask} has no labels: no masks")
    return found


def completed(xml: str, labels: Sequence[str], *, has_tasks: bool) -> str | None:
    """The configuration with what is missing added at its end, the rest as it stands; None: there is nothing to add.

    Pages for masks show a field that tasks which are there don't have, so they are only added where there are none.
    """
    found, tags, added = read_foreign(xml), _tags(xml), ""
    taken = {tag.get("name") for tag in tags}
    rows = "".join(f"<Label value={quoteattr(label)}/>" for label in labels or (DEFAULT_LABEL,))
    video = quoteattr(found.known.names.video)
    if found.video_field is not None and not found.known.names.box:
        if not any(tag.kind == "Labels" and found.known.names.video in tag.get("toname").split(",") for tag in tags):
            added += f"  <Labels name={quoteattr(_free('premask_label', taken))} toName={video}>{rows}</Labels>\n"
        added += f"  <VideoRectangle name={quoteattr(_free('premask_box', taken))} toName={video}/>\n"
    if found.pages_field is None and not has_tasks:
        pages, mask = _free("premask_pages", taken), _free("premask_mask", taken)
        added += f"  <BitmaskLabels name={quoteattr(mask)} toName={quoteattr(pages)}>{rows}</BitmaskLabels>\n"
        added += f'  <Image name={quoteattr(pages)} valueList="$keyframes" smoothing="false"/>\n'
    end = _LAST_TAG.search(xml)
    return xml[: end.start()] + added + xml[end.start() :] if added and end else None


def _free(name: str, taken: set[str]) -> str:
    number = next(n for n in range(1, len(taken) + 2) if (name if n == 1 else f"{name}_{n}") not in taken)
    return name if number == 1 else f"{name}_{number}"
