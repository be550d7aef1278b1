"""Label Studio as a `LabelingTool`, through its SDK.

Label Studio has no idempotent calls, so each step looks for what an earlier attempt left, by a key in the task's data
and by the prediction's version. Callers see to it that one worker at a time publishes a video and instruction.
"""

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import cached_property
from typing import Any

from backend.domain.adoption import Adopted, Change, Place
from backend.domain.corrections import Layer
from backend.domain.errors import BadInput, Misconfigured
from backend.domain.ordering import TaskOrder
from backend.ports.labeling import PROJECT_GONE, PROJECT_WRONG, Answer, AnsweredTask, PublishedTask
from backend.ports.publication import PublicationItem
from backend.settings import LabelStudioSettings, StorageSettings
from integrations.label_studio import adopted
from integrations.label_studio.answers import changed_tasks, compared_layers, pseudonyms, read_task
from integrations.label_studio.bulk import import_new
from integrations.label_studio.config import KnownConfig, label_values, labeling_config, read_config
from integrations.label_studio.coordinates import FrameRate, shown_rate
from integrations.label_studio.failures import translated
from integrations.label_studio.ml_backend import backend_trouble, ensure_backend, remove_backend
from integrations.label_studio.prediction import CURRENT, origin_of, prediction, superseded_version
from integrations.label_studio.storages import ensure_cors, ensure_storages, missing_storages
from integrations.label_studio.task_data import (
    KEY_FIELD,
    PAGE_FRAMES_FIELD,
    VFR_WARNING,
    task_data,
    task_key,
)
from integrations.label_studio.validate import check_prediction
from integrations.label_studio.views import SAMPLING, ensure_view, order_tasks
from integrations.label_studio.webhooks import ensure_webhook

logger = logging.getLogger(__name__)

_MAX_TITLE = 50
#: Opening a task makes an editable annotation from its newest prediction.
_PROJECT_SETTINGS: dict[str, Any] = {"show_collab_predictions": True, "show_instruction": False}


class LabelStudioTool:
    """Fills `backend.ports.labeling.LabelingTool`."""

    def __init__(self, settings: LabelStudioSettings, storage: StorageSettings) -> None:
        """Raises `Misconfigured` where address or key are missing. Connects to nothing yet."""
        if settings.url is None or settings.api_key is None:
            raise Misconfigured("Label Studio needs PREMASK__LABEL_STUDIO__URL and PREMASK__LABEL_STUDIO__API_KEY")
        self._url = settings.url.rstrip("/")
        self._key = settings.api_key
        self._timeout_s = settings.timeout_s
        self._webhook = settings.webhook_url, settings.webhook_token
        self._ml_backend = settings.ml_backend_url, settings.ml_backend_secret
        secret = settings.annotator_secret
        self._naming = str if secret is None else pseudonyms(secret, self._url)
        self._storage = storage

    @cached_property
    def _client(self) -> Any:
        # The SDK takes a second to import (it brings pandas): only who talks to Label Studio pays for it.
        from label_studio_sdk import LabelStudio

        # It refuses a personal access token that has expired. A retry inside the SDK could create twice; our own
        # retries look first.
        with translated("taking its key"):
            return LabelStudio(  # type: ignore[no-untyped-call]
                base_url=self._url, api_key=self._key.get_secret_value(), timeout=self._timeout_s, max_retries=0
            )

    def ensure_project(
        self, name: str, labels: list[str], buckets: list[str], order: TaskOrder = TaskOrder.UNCERTAIN
    ) -> int:
        project_id = self._find_project(name)
        if project_id is None:
            with translated(f"making the project {name}"):
                created = self._client.projects.create(
                    title=name[:_MAX_TITLE],
                    description=_description(name),
                    label_config=labeling_config(labels),
                    sampling=SAMPLING[order],
                    **_PROJECT_SETTINGS,
                )
            project_id = int(created.id)
        else:
            self._repair_project(project_id, labels)
        ensure_view(self._client, project_id, order)
        self._ensure_webhook(project_id)
        all_buckets = list(dict.fromkeys([*buckets, self._storage.artifact_bucket]))
        ensure_storages(self._client, project_id, all_buckets, self._storage)
        self._ensure_cors(all_buckets)
        return project_id

    def _ensure_cors(self, buckets: Sequence[str]) -> None:
        for bucket in buckets:
            try:
                if ensure_cors(bucket, self._url, self._storage):
                    logger.info("added a CORS rule for Label Studio to the bucket %s", bucket)
            except Misconfigured as error:
                # The operator may have set it where our credentials can't look.
                logger.warning("%s", error)

    def _ensure_webhook(self, project_id: int) -> None:
        url, token = self._webhook
        if url is None or token is None:
            return
        try:
            ensure_webhook(self._client, project_id, url, token)
        except Misconfigured as error:
            # Reviews come without it, too, only later.
            logger.warning("%s; until then changes are seen by polling", error)

    def set_order(self, project_id: int, order: TaskOrder) -> None:
        self._project(project_id)
        order_tasks(self._client, project_id, order)

    def survey(self, project_id: int, buckets: Sequence[str], labels: Sequence[str]) -> Place:
        return adopted.survey(self._client, project_id, buckets, labels, self._webhook)

    def arrange(
        self, project_id: int, buckets: Sequence[str], labels: Sequence[str], changes: Collection[Change]
    ) -> None:
        if Change.CONFIG in changes:
            adopted.complete_config(self._client, project_id, labels)
        if Change.WEBHOOK in changes:
            self._ensure_webhook(project_id)
        if Change.STORAGE in changes:
            ensure_storages(
                self._client, project_id, missing_storages(self._client, project_id, buckets), self._storage
            )
            self._ensure_cors(buckets)
        if Change.SHOW_PREDICTIONS in changes:
            with translated(f"having its project {project_id} show predictions"):
                self._client.projects.update(project_id, show_collab_predictions=True)

    def sha256_of(self, address: str) -> str | None:
        return adopted.upload_sha256(self._client, address)

    def ensure_interactive(self, project_id: int, wanted: bool) -> None:
        url, secret = self._ml_backend
        if not wanted:
            remove_backend(self._client, project_id, url)
            return
        if url is None or secret is None:
            raise Misconfigured(
                "masks on demand need PREMASK__LABEL_STUDIO__ML_BACKEND_URL and "
                "PREMASK__LABEL_STUDIO__ML_BACKEND_SECRET"
            )
        config = self._config(self._project(project_id))
        if not config.interactive:
            labels = labeling_config([*config.box_labels, *config.mask_labels], interactive=True)
            with translated(f"adding the smart tools to its project {project_id}"):
                self._client.projects.update(project_id, label_config=labels)
        ensure_backend(self._client, project_id, url, secret)

    def interactive_trouble(self, project_id: int) -> str | None:
        if not self._config(self._project(project_id)).interactive:
            return "its labeling configuration has no smart tools"
        return backend_trouble(self._client, project_id, self._ml_backend[0])

    def publish(self, project_id: int, item: PublicationItem) -> PublishedTask:
        rate = shown_rate(item)
        project = self._project(project_id)
        if item.adopted is not None:
            return self._publish_adopted(project, item, item.adopted, rate)
        config = self._config(project)
        existing = self._find_task(project_id, task_key(item))
        data = task_data(item, rate, existing[1] if existing else None)
        body = prediction(item, config, rate, data[PAGE_FRAMES_FIELD])
        check_prediction(body, config, item.shown.frame_count, len(data[PAGE_FRAMES_FIELD]))
        task_id = self._ensure_task(project_id, data, existing)
        if item.control:
            return PublishedTask(project_id, task_id, None, () if rate.constant else (VFR_WARNING,))
        prediction_id = self._ensure_prediction(task_id, (item.run_id, item.layer_id), body)
        self._ensure_current(project)
        return PublishedTask(project_id, task_id, prediction_id, () if rate.constant else (VFR_WARNING,))

    def _publish_adopted(self, project: Any, item: PublicationItem, how: Adopted, rate: FrameRate) -> PublishedTask:
        """Into a project that somebody else made: their task stays as it is and gets a prediction."""
        project_id, config, task_id = int(project.id), adopted.config_of(project), how.task_id
        existing = None
        if task_id is None:
            existing = self._find_task(project_id, task_key(item))
            if existing is None and Change.NEW_TASKS not in how.changes:
                raise BadInput(
                    f"no task of Label Studio's project {project_id} has this video, and new ones were not agreed to "
                    "(`premask projects adopt … --new-tasks`)",
                    code="no_task",
                )
            data = config.new_data(task_data(item, rate, existing[1] if existing else None))
        else:
            data = adopted.their_task(self._client, project_id, task_id)
        config.check_rate(data, rate.fps, item.probe)
        pages = data.get(PAGE_FRAMES_FIELD, [])
        item = adopted.reduced(item, config.known, pages)
        body = prediction(item, config.known, rate, pages)
        check_prediction(body, config.known, item.probe.frame_count, len(pages))
        warnings = () if rate.constant else (VFR_WARNING,)
        if task_id is None:
            task_id = self._ensure_task(project_id, data, existing)
        if item.control:
            return PublishedTask(project_id, task_id, None, warnings)
        prediction_id = self._ensure_prediction(task_id, (item.run_id, item.layer_id), body)
        if Change.SHOW_PREDICTIONS in how.changes:
            self._ensure_current(project)
        return PublishedTask(project_id, task_id, prediction_id, warnings)

    def publish_new(self, project_id: int, items: Sequence[PublicationItem]) -> list[int | BadInput]:
        project = self._project(project_id)
        found = import_new(self._client, project_id, self._config(project), items)
        if any(isinstance(task_id, int) for task_id in found):
            self._ensure_current(project)
        return found

    def _config(self, project: Any) -> KnownConfig:
        """What the project can show. Raises `BadInput` for one that shows nothing of ours."""
        config = read_config(project.label_config or "")
        if not config.box_labels and not config.mask_labels:
            raise BadInput(
                f"Label Studio's project {project.id} ({project.title!r}) has none of our controls: it is another one, "
                "or its labeling configuration was replaced; `premask projects connect` mends it",
                code=PROJECT_WRONG,
            )
        return config

    def _ensure_current(self, project: Any) -> None:
        if project.model_version != CURRENT:
            # Label Studio refuses a version that no prediction has yet.
            with translated(f"choosing what its project {project.id} shows"):
                self._client.projects.update(int(project.id), model_version=CURRENT)

    def task_url(self, project_id: int, task_id: int) -> str:
        return f"{self._url}/projects/{project_id}/data?task={task_id}"

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:
        return read_task(self._client, project_id, task_id, self._naming)

    def layers(self, task: AnsweredTask, answer: Answer, item: PublicationItem) -> tuple[Layer, Layer]:
        return compared_layers(task, answer, item)

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[tuple[int, datetime]]:
        return changed_tasks(self._client, project_id, since)

    def _find_project(self, name: str) -> int | None:
        """By the description, which names us: somebody else's project of the same title is not ours to change."""
        with translated(f"looking for the project {name}"):
            ids = [int(p.id) for p in self._client.projects.list() if p.description == _description(name)]
        return min(ids, default=None)

    def _repair_project(self, project_id: int, labels: list[str]) -> None:
        config = read_config(self._project(project_id).label_config or "")
        changes = dict(_PROJECT_SETTINGS)
        if not config.shows(label_values(labels)):
            # Labels people added stay: there may be annotations with them.
            known = [*labels, *config.box_labels, *config.mask_labels]
            changes["label_config"] = labeling_config(known, interactive=config.interactive)
        with translated(f"bringing its project {project_id} up to date"):
            self._client.projects.update(project_id, **changes)

    def _project(self, project_id: int) -> Any:
        with translated(f"reading its project {project_id}", PROJECT_GONE):
            return self._client.projects.get(project_id)

    def _find_task(self, project_id: int, key: str) -> tuple[int, dict[str, Any]] | None:
        """Id and data of the task with that key; of several, the oldest."""
        query = {
            "filters": {
                "conjunction": "and",
                "items": [
                    {
                        "filter": f"filter:tasks:data.{KEY_FIELD}",
                        "operator": "equal",
                        "value": key,
                        "type": "String",
                    }
                ],
            },
            "ordering": ["tasks:id"],
        }
        with translated(f"looking for the task {key}"):
            # Data as stored: resolved, the addresses would be Label Studio's own.
            tasks = self._client.tasks.list(
                project=project_id, query=json.dumps(query), include="id,data", resolve_uri=False
            )
            found = [(int(task.id), dict(task.data)) for task in tasks]
        return min(found, key=lambda task: task[0], default=None)

    def _ensure_task(self, project_id: int, data: dict[str, Any], existing: tuple[int, dict[str, Any]] | None) -> int:
        if existing is None:
            with translated("making a task"):
                return int(self._client.tasks.create(project=project_id, data=data).id)
        task_id, known = existing
        if known != data:
            with translated(f"bringing its task {task_id} up to date"):
                self._client.tasks.update(str(task_id), data=data)
        return task_id

    def _ensure_prediction(self, task_id: int, origin: tuple[int, int | None], body: dict[str, Any]) -> int:
        """The prediction of that run and layer, and no other of ours is shown: of two Label Studio would take the older
        one."""
        with translated(f"looking at the predictions of its task {task_id}"):
            known = self._client.predictions.list(task=task_id)
        ours = [int(p.id) for p in known if origin_of(p.neighbors, p.result) == origin]
        if ours:
            prediction_id = min(ours)
        else:
            with translated(f"adding a prediction to its task {task_id}"):
                prediction_id = int(self._client.predictions.create(task=task_id, **body).id)
        for other in known:
            earlier = origin_of(other.neighbors, other.result)
            if earlier is not None and earlier != origin and other.model_version == CURRENT:
                with translated(f"superseding the prediction {other.id}"):
                    self._client.predictions.update(int(other.id), model_version=superseded_version(*earlier))
        return prediction_id


def _description(name: str) -> str:
    return f"Premask project: {name}"
