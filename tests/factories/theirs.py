"""A project of Label Studio that somebody else made."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.factories import core

LABELS = '<Labels name="videoLabels" toName="clip"><Label value="person"/><Label value="car"/></Labels>'
CONFIG = f"""<View>
  <Header value="Mark the people"/>
  {LABELS}
  <Video name="clip" value="$footage" framerate="25"/>
  <VideoRectangle name="tracks" toName="clip"/>
  <Text name="words" value="$note"/>
</View>"""
URI = f"s3://{core.BUCKET}/in/{{}}.mp4"
#: Their own box, on the one task that somebody has worked on.
THEIR_BOX = {
    "id": "theirs", "type": "videorectangle", "from_name": "tracks", "to_name": "clip", "origin": "manual",
    "value": {"framesCount": 300, "duration": 12.0, "labels": ["car"], "sequence": [
        {"frame": 3, "enabled": True, "rotation": 0, "x": 1, "y": 2, "width": 3, "height": 4, "time": 0.1},
    ]},
}  # fmt: skip


@dataclass
class Theirs:
    """Somebody's project: three tasks, the second annotated, with a webhook, a storage and a view."""

    api: httpx.Client
    project_id: int

    def get(self, path: str, **params: Any) -> Any:
        answer = self.api.get(path, params=params)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: Any) -> Any:
        answer = self.api.post(path, json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def tasks(self) -> list[dict[str, Any]]:
        found = self.get("/api/tasks", project=self.project_id, fields="all", resolve_uri=False)["tasks"]
        return sorted(found, key=lambda task: task["id"])

    def snapshot(self) -> dict[str, Any]:
        """Everything of it that people made or set; predictions are left out."""
        settings = self.get(f"/api/projects/{self.project_id}/")
        counts = {name for name in settings if "prediction" in name and name != "show_collab_predictions"}
        kept = ("id", "data", "annotations", "created_at", "updated_at", "meta", "is_labeled", "drafts", "file_upload")
        return {
            "settings": {name: value for name, value in settings.items() if name not in counts},
            "tasks": [{name: task[name] for name in kept} for task in self.tasks()],
            "storages": self.get("/api/storages/s3", project=self.project_id),
            "webhooks": self.get("/api/webhooks/", project=self.project_id),
            "views": self.get("/api/dm/views/", project=self.project_id),
        }

    def predictions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/predictions/", project=self.project_id)
        return sorted(found, key=lambda one: one["id"])


def make(api: httpx.Client, config: str, *, annotated: bool = True) -> Theirs:
    made = Theirs(api, 0)
    body = {"title": f"theirs {uuid4().hex[:8]}", "label_config": config, "description": "people and cars"}
    made.project_id = made.post("/api/projects/", body)["id"]
    tasks = [{"footage": URI.format(name), "note": name, "id_of_theirs": n} for n, name in enumerate("abz")]
    tasks[2]["footage"] = "s3://elsewhere/z.mp4"
    made.post(f"/api/projects/{made.project_id}/import", tasks)
    if annotated:
        made.post(f"/api/tasks/{made.tasks()[1]['id']}/annotations/", {"result": [THEIR_BOX]})
    made.post("/api/webhooks/", {"project": made.project_id, "url": "http://127.0.0.1:9/theirs", "is_active": False})
    made.post("/api/dm/views/", {"project": made.project_id, "data": {"title": "ours", "type": "list"}})
    return made
