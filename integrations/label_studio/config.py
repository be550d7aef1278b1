"""The labeling configuration of a Premask project, and what an existing one allows.

One configuration for both: boxes as tracks over the video, and masks on pages that show the keyframes, because the
open-source Label Studio has no masks on video. The text stands at the right of the video, or beneath it in a narrow
window.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from backend.domain.errors import BadInput

#: What every thing that an instruction asks for is labelled as, unless the project has a label of the track's own name.
DEFAULT_LABEL = "target"
VIDEO, BOX, BOX_LABELS, PAGES, MASK, GUIDE = "video", "box", "label", "keyframes", "mask", "guide"
#: What a person clicks and draws to be given a mask (with `interactive`): tools that are there while auto-annotation is
#: on, and leave nothing behind once a suggestion was accepted.
CLICK, AROUND = "click", "around"
_COLOURS = ("#e4572e", "#17bebb", "#ffc914", "#2e86ab", "#76b041", "#a23b72", "#f18f01", "#5f4bb6")

#: The player's controls are this wide and don't shrink; with the text beside them it takes so much.
_SIDE_BY_SIDE_PX = 1010

#: Leaves room for the tools at its side: Label Studio fits the picture into the width without them, and cuts off what
#: lies beneath when they appear.
_PAGE_WIDTH = "93%"

_TEMPLATE = """\
<View>
  <Style>
    .premask {{ container-type: inline-size; }}
    .premask-grid {{ display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px 20px;
      grid-template-areas: "video" "text" "masks"; }}
    .premask-video {{ grid-area: video; min-width: 0; }}
    .premask-text {{ grid-area: text; columns: 2; column-gap: 24px; }}
    .premask-masks {{ grid-area: masks; min-width: 0; }}
    @container (min-width: {side_by_side_px}px) {{
      .premask-grid {{ grid-template-columns: minmax(0, 1fr) 280px; grid-template-rows: auto 1fr;
        grid-template-areas: "video text" "masks text"; }}
      .premask-text {{ columns: 1; }}
    }}
  </Style>
  <View className="premask">
    <View className="premask-grid">
      <View className="premask-video">
        <Labels name="{box_labels}" toName="{video}" showInline="true">
{labels}
        </Labels>
        <Video name="{video}" value="$video" frameRate="$fps" height="320" timelineHeight="48"/>
        <VideoRectangle name="{box}" toName="{video}"/>
      </View>
      <View className="premask-text">
        <HyperText name="{guide}" value="$guide" inline="true"/>
      </View>
      <View className="premask-masks">
        <Header value="Masks on the keyframes" size="5"/>
        <BitmaskLabels name="{mask}" toName="{pages}" showInline="true"{no_smart_brush}>
{labels}
        </BitmaskLabels>{smart_tools}
        <Image name="{pages}" valueList="$keyframes" smoothing="false" zoomControl="true" maxWidth="{page_width}"/>
      </View>
    </View>
  </View>
</View>
"""


#: Without labels of their own: that of the mask they are about is told by the mask, so that there is one row of labels.
_SMART_TOOLS = f"""
        <KeyPoint name="{CLICK}" toName="{PAGES}" smart="true" smartOnly="true" strokeWidth="4"/>
        <Rectangle name="{AROUND}" toName="{PAGES}" smart="true" smartOnly="true" canRotate="false"/>"""
#: A stroke of the brush is a mask, not a question; by default it is offered as a smart tool, too.
_NO_SMART_BRUSH = ' smart="false"'


@dataclass(frozen=True, slots=True)
class Names:
    """What a configuration calls the tags that show what we send."""

    video: str = VIDEO
    box: str = BOX
    pages: str = PAGES
    mask: str = MASK


OURS = Names()


@dataclass(frozen=True, slots=True)
class KnownConfig:
    """The labels a labeling configuration offers for boxes and for masks. Empty: the control is missing.
    `interactive`: masks can be asked for on the pages."""

    box_labels: tuple[str, ...]
    mask_labels: tuple[str, ...]
    names: Names = OURS
    interactive: bool = False

    def shows(self, labels: Iterable[str]) -> bool:
        """Whether pre-annotations with these labels can be shown."""
        wanted = set(labels)
        return wanted <= set(self.box_labels) and wanted <= set(self.mask_labels)


def label_values(labels: Iterable[str]) -> list[str]:
    """The labels of the configuration: the default one, then the project's, each once."""
    return list(dict.fromkeys([DEFAULT_LABEL, *labels]))


def labeling_config(labels: Iterable[str], *, interactive: bool = False) -> str:
    """The configuration as Label Studio's XML; `labels` are the project's own, the default one is added. `interactive`:
    with the tools that ask for masks."""
    rows = "\n".join(
        f"          <Label value={quoteattr(value)} background={quoteattr(_COLOURS[i % len(_COLOURS)])}/>"
        for i, value in enumerate(label_values(labels))
    )
    return _TEMPLATE.format(
        labels=rows,
        box_labels=BOX_LABELS,
        video=VIDEO,
        box=BOX,
        mask=MASK,
        pages=PAGES,
        guide=GUIDE,
        side_by_side_px=_SIDE_BY_SIDE_PX,
        page_width=_PAGE_WIDTH,
        smart_tools=_SMART_TOOLS if interactive else "",
        no_smart_brush=_NO_SMART_BRUSH if interactive else "",
    )


def read_config(xml: str) -> KnownConfig:
    """What a project's configuration offers. Raises `BadInput` if it isn't XML."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise BadInput(f"the labeling configuration is not XML: {error}", code="invalid_labeling_config") from error
    controls = {(tag.tag, tag.get("name"), tag.get("toName")): tag for tag in root.iter()}
    boxes = controls.get(("Labels", BOX_LABELS, VIDEO))
    masks = controls.get(("BitmaskLabels", MASK, PAGES))
    objects = {(tag.tag, tag.get("name"), tag.get("value"), tag.get("valueList")) for tag in root.iter()}
    if ("VideoRectangle", BOX, VIDEO) not in controls or ("Video", VIDEO, "$video", None) not in objects:
        boxes = None
    if ("Image", PAGES, None, "$keyframes") not in objects:
        masks = None
    asks = masks is not None and ("KeyPoint", CLICK, PAGES) in controls and ("Rectangle", AROUND, PAGES) in controls
    return KnownConfig(_values(boxes), _values(masks), interactive=asks)


def names_in(result: Iterable[Mapping[str, Any]]) -> Names:
    """The controls that a kept result was made with: ours, or, where it has nothing of them, the first of their kinds:
    an adopted project has names of its own."""
    found: dict[str, str] = {}
    for region in result:
        name, kind = str(region.get("from_name")), str(region.get("type"))
        if name in (BOX, MASK):
            return OURS
        found.setdefault(kind, name)
    return Names(box=found.get("videorectangle", BOX), mask=found.get("bitmasklabels", MASK))


def _values(control: ElementTree.Element | None) -> tuple[str, ...]:
    if control is None:
        return ()
    return tuple(value for tag in control.iter("Label") if (value := tag.get("value")) is not None)
