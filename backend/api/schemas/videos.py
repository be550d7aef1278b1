"""Videos."""

from datetime import datetime

from backend.api.schemas.common import Row


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
