"""The README's pictures of Label Studio, taken of a running demo.

`python -m tests.factories.pictures [--state-dir DIR]`, while `premask demo` runs, writes `docs/images/labeling.png`
(the demo's fourth task) and `docs/images/mask-page.png` (a keyframe page of its first, ready to be painted).
"""

import argparse
from pathlib import Path

import httpx
from playwright.sync_api import Page

from integrations.local.state import running_stack
from tests.conftest import ROOT, LabelStudioServer
from tests.factories.labeling_page import LabelingPage, browser_page, until

IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1200, "height": 900}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=ROOT / ".premask")
    stack = running_stack(parser.parse_args().state_dir)
    if stack is None:
        raise SystemExit("no stack is running; start `premask demo` first")
    token = stack["environment"]["PREMASK__LABEL_STUDIO__API_KEY"]
    login = stack["login"]
    server = LabelStudioServer(stack["urls"]["label_studio"], token, login["username"], login["password"])
    with browser_page(server) as page:
        page.set_viewport_size(SIZE)
        urls = _tasks(server)
        task = _opened(page, urls[3])
        until(lambda: task.pixels_of(task.video).std() > 10, "a frame of the video is drawn")
        task.save(IMAGES / "labeling.png")
        masks = _opened(page, urls[0])
        masks.select_region(1)
        picture = masks.turn_to_mask_page(1)
        until(lambda: masks.pixels_of(picture).std() > 10, "the keyframe is drawn")
        masks.save(IMAGES / "mask-page.png")


def _opened(page: Page, url: str) -> LabelingPage:
    found = LabelingPage.opened(page, url)
    until(lambda: len(found.regions()) > 1, "the regions are listed")
    return found


def _tasks(server: LabelStudioServer) -> list[str]:
    """The addresses of the first project's tasks, in the order of their videos' names."""
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Token {server.token}"}, timeout=30) as api:
        project = min(one["id"] for one in api.get("/api/projects").raise_for_status().json()["results"])
        answer = api.get("/api/tasks", params={"project": project, "resolve_uri": False}).raise_for_status()
    tasks = sorted(answer.json()["tasks"], key=lambda task: task["data"]["video"])
    return [f"{server.url}/projects/{project}/data?task={task['id']}" for task in tasks]


if __name__ == "__main__":
    main()
