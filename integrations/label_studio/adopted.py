"""Projects of Label Studio that somebody else made: what is in them, what may be changed, and how results go in.

Reading changes nothing; a change is made only if it is named. Their tasks keep their data, so masks, which lie on pages
that a task must have, are only shown in tasks of our own.
"""

import base64
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from backend.domain.adoption import Change, Place, PlaceTask
from backend.domain.errors import BadInput
from backend.ports.labeling import PROJECT_GONE
from backend.ports.publication import PublicationItem
from integrations.label_studio.config import KnownConfig
from integrations.label_studio.failures import translated
from integrations.label_studio.foreign import ForeignConfig, completed, read_foreign
from integrations.label_studio.prediction import CURRENT
from integrations.label_studio.storages import missing_storages
from integrations.label_studio.webhooks import has_webhook

_PAGE = 200
_UPLOADS = "/data/"
_CHUNK_BYTES = 1 << 20


def survey(
    client: Any, project_id: int, buckets: Sequence[str], labels: Sequence[str],
    webhook: tuple[str | None, SecretStr | None],
) -> Place:  # fmt: skip
    """The project as it is; nothing is changed. `buckets`: those that our videos lie in. Raises `BadInput` for a
    project that is gone, or whose configuration can't be read."""
    with translated(f"reading its project {project_id}", PROJECT_GONE):
        project = client.projects.get(project_id)
    xml = project.label_config or "<View/>"
    config, tasks = read_foreign(xml), list[PlaceTask]()
    query: dict[str, Any] = {"include": "id,data,annotations_ids,updated_at", "page_size": _PAGE, "resolve_uri": False}
    with translated(f"listing the tasks of its project {project_id}"):
        for task in client.tasks.list(project=project_id, **query):
            address = (task.data or {}).get(config.video_field) if config.video_field else None
            uri = s3_uri(str(address), buckets) if address else None
            tasks.append(PlaceTask(int(task.id), uri, _numbers(task.annotations_ids), task.updated_at))
    changes = {}
    url, token = webhook
    if url is not None and token is not None and not has_webhook(client, project_id, url):
        changes[Change.WEBHOOK] = f"a webhook that tells {url} of changed annotations"
    if lacking := missing_storages(client, project_id, buckets):
        changes[Change.STORAGE] = f"S3 storages that presign, for {', '.join(lacking)}, and CORS on them"
    if (new := completed(xml, labels, has_tasks=bool(tasks))) is not None:
        added = [line.strip().split(" ")[0][1:] for line in new.splitlines() if line not in xml.splitlines()]
        changes[Change.CONFIG] = f"{', '.join(added)} added to the labeling configuration"
    if not (project.show_collab_predictions and project.model_version == CURRENT):
        changes[Change.SHOW_PREDICTIONS] = "annotations begin with our prediction (project setting)"
    return Place(
        project_id, project.title or "", config.known.box_labels, config.known.mask_labels, config.maps,
        config.missing, config.unfilled, tuple(tasks), changes,
    )  # fmt: skip


def complete_config(client: Any, project_id: int, labels: Sequence[str]) -> None:
    """Add what is missing to the project's configuration."""
    with translated(f"reading its project {project_id}", PROJECT_GONE):
        project = client.projects.get(project_id)
    new = completed(project.label_config or "<View></View>", labels, has_tasks=bool(project.task_number))
    if new is not None:
        with translated(f"adding to the configuration of its project {project_id}"):
            client.projects.update(project_id, label_config=new)


def s3_uri(address: str, buckets: Iterable[str]) -> str:
    """s3://bucket/key of an address in one of the buckets: as such, as an URL of a store or Label Studio's own to it;
    any other address as it stands."""
    parts = urlsplit(address)
    if wrapped := parse_qs(parts.query).get("fileuri"):
        try:
            inner = base64.b64decode(wrapped[0], altchars=b"-_", validate=True).decode()
        except ValueError:  # No base64, or no text in it.
            return address
        return inner if inner.startswith("s3://") else address
    if parts.scheme in ("http", "https"):
        path = unquote(parts.path).lstrip("/")
        for bucket in buckets:
            if (parts.hostname or "").startswith(f"{bucket}."):
                return f"s3://{bucket}/{path}"
            if path.startswith(f"{bucket}/"):
                return f"s3://{path}"
    return address


def upload_sha256(client: Any, address: str) -> str | None:
    """Of a file that was uploaded to Label Studio; None for any other address, and for a file that is gone."""
    if not address.startswith(_UPLOADS):
        return None
    digest = hashlib.sha256()
    with (
        translated("reading an uploaded file"),
        client._client_wrapper.httpx_client.stream(address.lstrip("/"), method="GET") as answer,
    ):
        if answer.status_code != 200:
            return None
        for chunk in answer.iter_bytes(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def reduced(item: PublicationItem, config: KnownConfig, pages: Collection[int]) -> PublicationItem:
    """What of the item the task can show: boxes, and masks on the pages it has. Raises `BadInput` where there is no
    place for boxes."""
    if not config.box_labels:
        raise BadInput("the project has no place for boxes; see `premask projects adopt`", code="no_place")
    shown = set(pages) if config.mask_labels else set()
    tracks = (replace(t, masks={f: m for f, m in t.masks.items() if f in shown}) for t in item.tracks)
    return replace(with_label(item, config), tracks=tuple(tracks))


def with_label(item: PublicationItem, config: KnownConfig) -> PublicationItem:
    """The project's only label is that of everything, where no other was chosen."""
    adopted = item.adopted
    if adopted is None or adopted.label is not None or len(config.box_labels) != 1:
        return item
    return replace(item, adopted=replace(adopted, label=config.box_labels[0]))


def their_task(client: Any, project_id: int, task_id: int) -> dict[str, Any]:
    """The data of the task. Raises `BadInput` if it is gone, or none of that project."""
    with translated(f"reading its task {task_id}"):
        task = client.tasks.get(str(task_id))
    if int(task.project) != project_id:
        raise BadInput(f"task {task_id} is none of Label Studio's project {project_id}", code="wrong_task")
    return dict(task.data)


def config_of(project: Any) -> ForeignConfig:
    return read_foreign(project.label_config or "<View/>")


def _numbers(listed: object) -> tuple[int, ...]:
    """Of "3,14", as Label Studio lists them, or of a list."""
    words = listed if isinstance(listed, list) else str(listed or "").split(",")
    return tuple(int(word) for word in words if str(word).strip())
