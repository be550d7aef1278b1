"""Labeling configurations that somebody else wrote, read and completed."""

import base64

import pytest

from backend.domain.errors import BadInput
from integrations.label_studio.adopted import s3_uri
from integrations.label_studio.config import Names, labeling_config
from integrations.label_studio.foreign import completed, read_foreign
from tests.factories import moving_square

VIDEO = '<Video name="clip" value="$footage" frameRate="$rate"/>'
LABELS = '<Labels name="kind" toName="clip"><Label value="person"/><Label value="car"/></Labels>'
BOX = '<VideoRectangle name="tracks" toName="clip"/>'


def view(*tags: str) -> str:
    return "<View>\n" + "".join(f"  {tag}\n" for tag in tags) + "</View>"


def test_our_own_configuration_is_read_whole() -> None:
    found = read_foreign(labeling_config(["square"]))
    assert found.known.names == Names()
    assert "square" in found.known.box_labels
    assert found.known.mask_labels == found.known.box_labels
    assert (found.missing, found.video_field, found.pages_field) == ((), "video", "keyframes")
    assert completed(labeling_config(["square"]), [], has_tasks=False) is None


def test_controls_are_found_by_what_they_are_on() -> None:
    other = '<Labels name="moods" toName="sound"><Label value="sad"/></Labels><Audio name="sound" value="$heard"/>'
    found = read_foreign(view(other, VIDEO, LABELS, BOX, '<Text name="words" value="$note"/>'))
    assert (found.known.names.video, found.known.names.box) == ("clip", "tracks")
    assert found.known.box_labels == ("person", "car")
    assert (found.text_fields, found.unfilled) == (("note",), ("heard",))
    with pytest.raises(BadInput, match="heard"):
        found.new_data({"instruction": "the cup", "video": "s3://b/k", "fps": 25.0})


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (view('<Image name="photo" value="$image"/>'), "no Video tag"),
        (view(VIDEO, LABELS), "no VideoRectangle on clip"),
        (view(VIDEO, BOX), "no Labels on clip"),
        (
            view('<Image name="shots" valueList="$shots"/>', '<BrushLabels name="brush" toName="shots"/>'),
            "BrushLabels brush takes none of our bitmasks",
        ),
    ],
)
def test_what_cannot_be_shown_is_said(xml: str, said: str) -> None:
    assert said in " ".join(read_foreign(xml).missing)


def test_no_xml_is_refused() -> None:
    with pytest.raises(BadInput, match="not XML"):
        read_foreign("<View>")


def test_what_is_missing_is_added_and_the_rest_stays_as_it_stands() -> None:
    bare = view(VIDEO, "<!-- ours -->", '<Choices name="premask_box" toName="clip"/>')
    new = completed(bare, ["person & dog"], has_tasks=True)
    assert new is not None
    assert new.startswith(bare.removesuffix("</View>"))
    found = read_foreign(new)
    assert (found.known.names.box, found.known.box_labels) == ("premask_box_2", ("person & dog",))
    assert found.pages_field is None, "tasks that are there have no pages"
    assert completed(new, ["person & dog"], has_tasks=True) is None
    with_pages = completed(new, ["cup"], has_tasks=False)
    assert with_pages is not None
    assert read_foreign(with_pages).known.mask_labels == ("cup",)


@pytest.mark.parametrize(
    ("rate", "data", "fps"),
    [("25", {}, 25.0), ("$rate", {"rate": "30"}, 30.0), ("$rate", {}, 24.0), ("0.04", {}, 25.0), ("no", {}, 24.0)],
)
def test_frames_are_counted_as_label_studio_counts_them(rate: str, data: dict[str, str], fps: float) -> None:
    """Below 1 it is a frame's length in seconds; nothing or no number: 24."""
    found = read_foreign(view(VIDEO.replace("$rate", rate), LABELS, BOX))
    assert found.fps(data) == pytest.approx(fps)


def test_a_rate_is_refused_once_the_last_frame_is_half_a_frame_off() -> None:
    probe = moving_square.probe()
    found = read_foreign(view(VIDEO, LABELS, BOX))
    found.check_rate({"rate": 25 * (1 + 0.49 / probe.frame_count)}, 25.0, probe)
    with pytest.raises(BadInput, match="wrong frames"):
        found.check_rate({"rate": 25 * (1 + 0.51 / probe.frame_count)}, 25.0, probe)


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("s3://films/in/a b.mp4", "s3://films/in/a b.mp4"),
        ("http://store:9000/films/in/a%20b.mp4?X-Amz-Expires=9", "s3://films/in/a b.mp4"),
        ("https://films.s3.eu-west-1.amazonaws.com/in/a.mp4", "s3://films/in/a.mp4"),
        (f"/tasks/1/resolve/?fileuri={base64.urlsafe_b64encode(b's3://films/a.mp4').decode()}", "s3://films/a.mp4"),
        ("/tasks/1/resolve/?fileuri=%FF", "/tasks/1/resolve/?fileuri=%FF"),
        ("/tasks/1/resolve/?fileuri=%%%", "/tasks/1/resolve/?fileuri=%%%"),
        ("/tasks/1/resolve/?fileuri=L2V0Yy9ob3N0cw==", "/tasks/1/resolve/?fileuri=L2V0Yy9ob3N0cw=="),
        ("https://elsewhere.org/in/a.mp4", "https://elsewhere.org/in/a.mp4"),
        ("/data/upload/3/a.mp4", "/data/upload/3/a.mp4"),
    ],
)
def test_addresses_of_videos(address: str, uri: str) -> None:
    assert s3_uri(address, ["films"]) == uri
