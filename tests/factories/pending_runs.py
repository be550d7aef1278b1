"""A project in the real Label Studio with recorded runs that are still to be published."""

from dataclasses import replace
from uuid import uuid4

import httpx
import numpy as np

from backend.bootstrap import Container
from backend.domain.annotation import Annotation, Track
from backend.domain.masks import encode_mask
from backend.services import results
from tests.conftest import LabelStudioServer
from tests.factories import core


def annotation() -> Annotation:
    """A result whose masks are masks."""
    pixels = np.zeros((48, 64), bool)
    pixels[3:9, 4:12] = True
    track = Track(0, "cup", 0.5, {frame: encode_mask(pixels) for frame in range(1, 300)})
    found = core.annotation()
    keyframes = tuple(replace(one, detections=one.detections[:1]) for one in found.keyframes)
    return replace(found, tracks=(track,), keyframes=keyframes)


def make(container: Container, count: int) -> int:
    """So many runs, each of a video of its own, of a new project; its number in Label Studio."""
    tool, settings = container.labeling_tool, container.settings
    assert tool is not None
    name = f"pending {uuid4().hex[:8]}"
    number = tool.ensure_project(name, [], [settings.storage.artifact_bucket])
    core.make_project(container, name, label_studio_project_id=number)
    for index in range(count):
        run_id = core.ready_run(container, f"in/{index}.mp4")
        claimed = core.claim(container, run_id)
        assert claimed is not None
        with container.transaction() as session:
            results.record(session, run_id, claimed.fence, annotation(), core.IMAGE_KEYS, settings.label_studio)
    return number


def predictions(server: LabelStudioServer, project_id: int) -> list[int]:
    """The task of each prediction of the project, as the server has them."""
    headers = {"Authorization": f"Token {server.token}"}
    params = {"project": project_id}
    answer = httpx.get(f"{server.url}/api/predictions/", params=params, headers=headers, timeout=60)
    return sorted(prediction["task"] for prediction in answer.json())
