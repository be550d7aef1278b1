"""What people made of a task, read from Label Studio: whole, and as layers that can be compared.

Annotations are taken from the task and not from the list of its annotations, which leaves out what was skipped.
"""

import hmac
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pydantic import SecretStr

from backend.domain.corrections import Layer
from backend.domain.errors import BadInput
from backend.ports.labeling import PROJECT_GONE, Answer, AnsweredTask
from backend.ports.publication import PublicationItem
from integrations.label_studio.adopted import reduced
from integrations.label_studio.annotation import layer_of
from integrations.label_studio.config import read_config
from integrations.label_studio.coordinates import shown_rate
from integrations.label_studio.failures import NOT_THERE, translated
from integrations.label_studio.foreign import read_foreign
from integrations.label_studio.prediction import origin_of, prediction, track_indices
from integrations.label_studio.task_data import PAGE_FRAMES_FIELD

#: Names and addresses of labelers are not ours to keep, their ids are; "a minute ago" is true for a minute.
_NOT_KEPT = frozenset({"created_username", "created_ago"})
#: The fields of an annotation that say who.
_PEOPLE = ("completed_by", "updated_by", "last_created_by")
Naming = Callable[[int], str]
#: Tasks a page of Label Studio's list; only ids and times are asked for.
_PAGE = 500


def read_task(client: Any, project_id: int, task_id: int, naming: Naming = str) -> AnsweredTask | None:
    """See `LabelingTool.answered`. `naming`: how people are to be known, by their numbers in Label Studio."""
    try:
        with translated(f"reading its task {task_id}"):
            task = client.tasks.get(str(task_id))
    except BadInput as error:
        if error.code == NOT_THERE:
            return None
        raise
    if int(task.project) != project_id:
        return None
    answers = tuple(_answer(one, naming) for one in sorted(task.annotations or [], key=lambda one: int(one["id"])))
    config = ""
    # Most tasks have no answer yet, and nothing to be read by it.
    if answers:
        with translated(f"reading its project {project_id}"):
            config = client.projects.get(project_id).label_config or ""
    # Of the data only what `compared_layers` reads: it is kept with every answer.
    pages = {PAGE_FRAMES_FIELD: task.data[PAGE_FRAMES_FIELD]} if PAGE_FRAMES_FIELD in task.data else {}
    known = {origin_of(one.neighbors, one.result): int(one.id) for one in task.predictions or []}
    ours = {origin: prediction_id for origin, prediction_id in known.items() if origin is not None}
    return AnsweredTask(project_id, task_id, _moment(task.updated_at), answers, pages, config, ours)


def pseudonyms(secret: SecretStr, url: str) -> Naming:
    """The same name for the same person of that server, which tells nothing without the secret."""

    def name(number: int) -> str:
        key = secret.get_secret_value().encode()
        return "person-" + hmac.new(key, f"{url} {number}".encode(), "sha256").hexdigest()[:12]

    return name


def _answer(annotation: dict[str, Any], naming: Naming) -> Answer:
    people = {field: _number(annotation[field]) for field in _PEOPLE if annotation.get(field) is not None}
    named = {field: number if naming is str else naming(number) for field, number in people.items()}
    kept = {name: value for name, value in annotation.items() if name not in _NOT_KEPT}
    raw = json.loads(json.dumps({**kept, **named}, default=str))
    number = people.get("completed_by")
    return Answer(
        annotation_id=int(annotation["id"]),
        prediction_id=annotation["parent_prediction"],
        annotator=None if number is None else naming(number),
        changed_at=_moment(annotation["updated_at"]),
        lead_time_s=annotation["lead_time"],
        skipped=bool(annotation["was_cancelled"]),
        raw=raw,
    )


def _number(who: Any) -> int:
    return int(who["id"] if isinstance(who, dict) else who)


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def compared_layers(task: AnsweredTask, answer: Answer, item: PublicationItem) -> tuple[Layer, Layer]:
    """See `LabelingTool.layers`."""
    rate = shown_rate(item)
    if item.adopted is None:
        config, pages = read_config(task.config), list(task.data[PAGE_FRAMES_FIELD])
    else:
        config, pages = read_foreign(task.config).known, list(task.data.get(PAGE_FRAMES_FIELD, ()))
        item = reduced(item, config, pages)
    size, shown = (item.probe.width, item.probe.height), item.shown
    indices = track_indices(item)
    sent = layer_of(prediction(item, config, rate, pages)["result"], size, shown, pages, indices, config.names)
    return sent, layer_of(answer.raw["result"] or [], size, shown, pages, indices, config.names)


def changed_tasks(client: Any, project_id: int, since: datetime | None) -> Iterator[tuple[int, datetime]]:
    """See `LabelingTool.changed_tasks`."""
    items = []
    if since is not None:
        moment = since.isoformat().replace("+00:00", "Z")
        items.append({"filter": "filter:tasks:updated_at", "operator": "greater", "value": moment, "type": "Datetime"})
    query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:updated_at"]}
    with translated(f"listing what changed in its project {project_id}", PROJECT_GONE):
        found = client.tasks.list(
            project=project_id, query=json.dumps(query), include="id,updated_at", page_size=_PAGE, resolve_uri=False
        )
        for task in found:
            yield int(task.id), _moment(task.updated_at)
