"""Our API as a machine learning backend of a Label Studio project: masks on demand for those who label.

Making one, Label Studio asks `/health` and `/setup` of it there and then, and once more whenever backends are listed.
By itself it also makes a webhook of every event to the backend, without a secret; ours tells all that is needed, so
that one is removed. And it may take the backend's title for the version of the predictions to show, which ours is not.
"""

from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from backend.domain.errors import BadInput, Misconfigured
from integrations.label_studio.failures import translated

TITLE = "Premask: masks on demand"
#: The name that goes with the password.
USER = "premask"
#: Label Studio's word for a backend whose `/health` and `/setup` answered well.
_CONNECTED = "CO"


def ensure_backend(client: Any, project_id: int, url: str, secret: SecretStr) -> None:
    """Have the project's clicks put to `url`; doubles of ours are removed, others' backends are left alone.

    Raises `Misconfigured` where Label Studio can't reach the address, or refuses it.
    """
    shown: dict[str, Any] = {
        "url": url,
        "title": TITLE,
        "is_interactive": True,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": USER,
    }
    ours = _ours(client, project_id, url)
    wanted = {**shown, "project": project_id, "basic_auth_pass": secret.get_secret_value()}
    try:
        with translated(f"making the ML backend of its project {project_id}"):
            if not ours:
                client.ml.create(**wanted)
            elif _state(ours[0]) != _CONNECTED or any(getattr(ours[0], n, None) != v for n, v in shown.items()):
                client.ml.update(int(ours[0].id), **wanted)
    except BadInput as error:
        raise Misconfigured(
            f"{error}. Label Studio must reach our API at {url} (label_studio.ml_backend_url), which has to run; a "
            "private address has to be allowed in the environment of its server (ML_BLOCK_LOCAL_IP, or "
            "USE_DEFAULT_BANNED_SUBNETS with USER_ADDITIONAL_BANNED_SUBNETS)"
        ) from error
    _remove(client, project_id, ours[1:])
    _undo_side_effects(client, project_id, url)


def remove_backend(client: Any, project_id: int, url: str | None) -> None:
    """Nobody is asked for masks any more. The smart tools stay in the configuration, where nothing shows them."""
    _remove(client, project_id, _ours(client, project_id, url))


def backend_trouble(client: Any, project_id: int, url: str | None) -> str | None:
    """Why Label Studio gets no masks from us, in a sentence; None: it does. It asks our API on the way."""
    ours = _ours(client, project_id, url)
    if not ours:
        return "Label Studio's project has no ML backend of ours"
    state = _state(ours[0])
    if state != _CONNECTED or not ours[0].is_interactive:
        said = getattr(ours[0], "error_message", None) or "it got no answer, or its password was refused"
        return f"Label Studio's ML backend {ours[0].url} is not connected ({state}): {said}"
    return None


def _ours(client: Any, project_id: int, url: str | None) -> list[Any]:
    """By the path, as our API may have moved, or by the title."""
    with translated(f"looking at the ML backends of its project {project_id}"):
        found = list(client.ml.list(project=project_id))
    path = None if url is None else _path(url)
    return sorted((one for one in found if one.title == TITLE or _path(one.url) == path), key=lambda one: int(one.id))


def _path(url: str) -> str:
    return urlsplit(url).path.rstrip("/")


def _state(backend: Any) -> str:
    return str(getattr(backend.state, "value", backend.state))


def _remove(client: Any, project_id: int, backends: list[Any]) -> None:
    with translated(f"removing ML backends of its project {project_id}"):
        for backend in backends:
            client.ml.delete(int(backend.id))


def _undo_side_effects(client: Any, project_id: int, url: str) -> None:
    with translated(f"looking at what came with the ML backend of its project {project_id}"):
        for hook in client.webhooks.list(project=str(project_id)):
            if _path(hook.url) == f"{_path(url)}/webhook":
                client.webhooks.delete(int(hook.id))
        if client.projects.get(project_id).model_version == TITLE:
            client.projects.update(project_id, model_version="")
