"""Label Studio's machine learning backend: masks for what a labeler clicks on a keyframe page.

Label Studio gives a user and a password (basic auth). `/setup` carries a token of the project's creator and `/predict`
the whole task: no body is logged or kept. A page that Label Studio shows must never wait for a model that is away or
late, nor break: then there is no suggestion, and the log says why.
"""

import base64
import binascii
import hmac
import logging
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from backend.api.deps import TheContainer, raw_body
from backend.api.errors import Unauthorized
from backend.bootstrap import Container
from backend.db.session import session_scope
from backend.domain.errors import Misconfigured, ServiceUnavailable
from backend.ports.pipeline import SuggestedMask
from backend.services import interactive, outbox
from integrations.label_studio.ml_backend import USER
from integrations.label_studio.suggestions import Question, answer, prompts_of, read_question
from integrations.label_studio.webhooks import parse_webhook

log = logging.getLogger(__name__)

#: A task comes with all its annotations and drafts, and each of those with its masks.
MAX_BODY_BYTES = 64 << 20


def require_password(request: Request, container: TheContainer) -> None:
    """Raises `Unauthorized` where the password is wrong, and where none is configured: the endpoints are off."""
    secret = container.settings.label_studio.ml_backend_secret
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    try:
        name, _, password = base64.b64decode(given, validate=True).partition(b":")
    except binascii.Error:
        name, password = b"", b""
    right = secret is not None and hmac.compare_digest(password, secret.get_secret_value().encode())
    if not (right and kind.lower() == "basic" and hmac.compare_digest(name, USER.encode())):
        raise Unauthorized("this needs the ML backend's user and password (basic auth)")


async def question_body(request: Request) -> bytes:
    return await raw_body(request, MAX_BODY_BYTES, "a request for masks")


RawBody = Annotated[bytes, Depends(question_body)]
router = APIRouter(prefix="/interactive", tags=["interactive"], dependencies=[Depends(require_password)])


class Health(BaseModel):
    status: str = "UP"


class Setup(BaseModel):
    model_version: str


class Predictions(BaseModel):
    """One result for a question, with the suggested regions; none where nobody asked."""

    results: list[dict[str, Any]]


class Taken(BaseModel):
    tasks: int


@router.get("/health")
def health() -> Health:
    """That the address and the password are right. Whether masks are drawn, `premask doctor` says."""
    return Health()


@router.post("/setup")
def setup(container: TheContainer) -> Setup:
    """Label Studio asks for the version; the body, which has a token in it, isn't read."""
    return Setup(model_version=container.profile.name)


@router.post("/predict")
def predict(container: TheContainer, body: RawBody) -> Predictions:
    """The masks that the clicks and boxes of the last page ask for; empty where the model is away or late."""
    question = read_question(body)
    found = [] if question is None else _drawn(container, question)
    return Predictions.model_validate(answer(question, found))


def _drawn(container: Container, question: Question) -> list[SuggestedMask | None]:
    with container.transaction() as session:
        place = question.project_id, question.task_id, question.frame_index
        page = interactive.page_of(session, *place, container.profile)
    prompts = prompts_of(question, page.size)
    if container.mask_service is None:
        log.error("no mask for task %d: interactive.service_url is not set", question.task_id)
        return []
    try:
        return interactive.draw(container.mask_service, container.settings.storage.artifact_bucket, page, prompts)
    except (Misconfigured, ServiceUnavailable) as error:
        level = logging.ERROR if isinstance(error, Misconfigured) else logging.WARNING
        log.log(level, "no mask for task %d, page %d: %s", question.task_id, question.page + 1, error)
        return []


@router.post("/webhook")
def take_changes(container: TheContainer, body: RawBody) -> Taken:
    """Events that Label Studio tells its backends: a hint which tasks changed, as at `/api/v1/events/label-studio`."""
    hint = parse_webhook(body)
    with session_scope(container.sessions) as session:
        outbox.dispatch_changes(session, hint.project_id, hint.task_ids)
    return Taken(tasks=len(hint.task_ids))
