"""Kept annotations read again, without asking Label Studio: `backend.ports.labeling.ReviewReader`."""

import re
from collections.abc import Mapping
from typing import Any

from backend.domain.corrections import Layer
from backend.domain.errors import BadInput
from backend.domain.windows import Window
from integrations.label_studio.annotation import layer_of
from integrations.label_studio.config import names_in

#: As `prediction` names the regions of boxes and of masks.
_REGION = re.compile(r"run(?P<run>\d+)-track(?P<track>\d+)(-frame\d+)?")


class LabelStudioReader:
    def layer(
        self, raw: Mapping[str, Any], size: tuple[int, int], frame_count: int, frame_of: Mapping[str, int]
    ) -> Layer:
        """See `ReviewReader.layer`."""
        result = raw.get("result") or []
        names = names_in(result)
        try:
            # Which frame a page shows stood in the task; where a mask lies was noted when it was compared.
            frames = {
                int(region.get("item_index") or 0): frame_of[str(region["id"])]
                for region in result
                if region.get("from_name") == names.mask
            }
        except (KeyError, TypeError, ValueError) as error:
            raise BadInput(f"the annotation names a mask that was never compared: {error}") from error
        pages = [frames.get(page, -1) for page in range(max(frames, default=-1) + 1)]
        return layer_of(result, size, Window(0, frame_count), pages, {}, names)

    def track_index(self, run_id: int, region_id: str) -> int | None:
        """See `ReviewReader.track_index`."""
        found = _REGION.fullmatch(region_id)
        return int(found["track"]) if found and int(found["run"]) == run_id else None
