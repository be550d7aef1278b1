"""Videos."""

from datetime import datetime

from backend.api.schemas.common import Row


class RenditionOut(Row):
    """What is shown in place of a video that a browser shows wrongly. `reasons`: why it does; none known yet: null.
    Frame n of a rendition is frame n of the video, at fps_num / fps_den a second."""

    state: str
    reasons: list[str] | None
    problem: str | None
    key: str | None
    size_bytes: int | None
    fps_num: int | None
    fps_den: int | None
    seconds: float | None


class VideoOut(Row):
    """What is None is not known before the probe. `width` and `height` are pixels as shown, after the rotation."""

    id: int
    bucket: str
    key: str
    version: str
    size_bytes: int
    created_at: datetime
    probe_status: str
    unreadable_reason: str | None
    sha256: str | None
    frame_count: int | None
    width: int | None
    height: int | None
    rotation_deg: int | None
    duration_s: float | None
    has_audio: bool | None
    codec: str | None
    rendition: RenditionOut | None
