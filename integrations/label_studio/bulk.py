"""Many tasks with their predictions in few calls, for tasks that are not there yet.

Label Studio's import checks little, is not idempotent, drops a prediction's `neighbors` and names no prediction in its
answer: what is sent is validated here, callers see to it that it is sent once, and a prediction that came this way is
known by the ids of its regions.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from label_studio_sdk.core.api_error import ApiError
from pydantic_core import to_json

from backend.domain.errors import BadInput
from backend.ports.publication import PublicationItem
from integrations.label_studio.config import KnownConfig
from integrations.label_studio.coordinates import shown_rate
from integrations.label_studio.failures import translated
from integrations.label_studio.prediction import prediction
from integrations.label_studio.task_data import PAGE_FRAMES_FIELD, task_data
from integrations.label_studio.validate import check_prediction

#: A call is answered within seconds, long before any time-out, and is far below the 250 MB at which the server fails.
MAX_TASKS, MAX_BYTES = 100, 20_000_000


@dataclass(frozen=True, slots=True)
class _Task:
    """A task with its prediction, as JSON, and its place in the caller's list."""

    position: int
    body: bytes


def import_new(
    client: Any, project_id: int, config: KnownConfig, items: Sequence[PublicationItem]
) -> list[int | BadInput]:
    """See `LabelingTool.publish_new`."""
    found: dict[int, int | BadInput] = {}
    batches = _batches(_tasks(items, config, found))
    # The next batch is put together while the server takes in the one before.
    with ThreadPoolExecutor(1, "import") as sender:
        sent: tuple[list[_Task], Future[list[int]]] | None = None
        for batch in batches:
            _settle(sent, found)
            sent = batch, sender.submit(_import, client, project_id, batch)
        _settle(sent, found)
    return [found[position] for position in range(len(items))]


def _settle(sent: tuple[list[_Task], Future[list[int]]] | None, found: dict[int, int | BadInput]) -> None:
    """Wait for the batch that is on its way and write down its tasks' ids."""
    if sent is not None:
        batch, made = sent
        found |= {task.position: task_id for task, task_id in zip(batch, made.result(), strict=True)}


def _tasks(items: Sequence[PublicationItem], config: KnownConfig, found: dict[int, int | BadInput]) -> Iterator[_Task]:
    """The tasks that can be sent; of the others `found` gets the reason."""
    for position, item in enumerate(items):
        try:
            yield _Task(position, _body(item, config))
        except BadInput as error:
            found[position] = error


def _body(item: PublicationItem, config: KnownConfig) -> bytes:
    """Raises `BadInput` where it isn't what Label Studio can show."""
    rate = shown_rate(item)
    data = task_data(item, rate)
    body = prediction(item, config, rate, data[PAGE_FRAMES_FIELD])
    if not body["result"]:
        raise BadInput(f"the result of run {item.run_id} has no regions to know it by", code="not_for_bulk")
    del body["neighbors"]
    encoded = to_json({"data": data, "predictions": [body]})
    check_prediction(body, config, item.shown.frame_count, len(data[PAGE_FRAMES_FIELD]), len(encoded))
    return encoded


def _batches(tasks: Iterable[_Task]) -> Iterator[list[_Task]]:
    batch, size = list[_Task](), 0
    for task in tasks:
        if batch and (len(batch) == MAX_TASKS or size + len(task.body) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += len(task.body)
    if batch:
        yield batch


def _import(client: Any, project_id: int, batch: Sequence[_Task]) -> list[int]:
    """The ids of the new tasks, in order."""
    body = b"[" + b",".join(task.body for task in batch) + b"]"
    with translated(f"importing {len(batch)} tasks into its project {project_id}"):
        # Through the SDK's own connection, with its key: its `import_tasks` walks over every value of the body first,
        # which takes longer than the server does.
        answer = client._client_wrapper.httpx_client.request(
            f"api/projects/{project_id}/import",
            method="POST",
            params={"return_task_ids": "true"},
            content=body,
            headers={"content-type": "application/json"},
        )
        if answer.status_code != 201:
            raise ApiError(status_code=answer.status_code, headers=dict(answer.headers), body=answer.text)
        return [int(task_id) for task_id in answer.json()["task_ids"]]
