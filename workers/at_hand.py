"""The video that this process worked on last: its file stays for the next instruction on it, and what comes next is
best about it, too. One at a time, as a worker process carries out one run at a time."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from backend.bootstrap import Container
from backend.ports.storage import ObjectVersion
from workers import process


@dataclass(slots=True)
class _Held:
    version: ObjectVersion
    folder: "tempfile.TemporaryDirectory[str]"
    model_digest: str


_held: _Held | None = None


def worked_on() -> tuple[ObjectVersion, str] | None:
    """The video of the last run, and the digest of the model version that carried it out; None: nothing yet."""
    return None if _held is None else (_held.version, _held.model_digest)


def video(container: Container, version: ObjectVersion, model_digest: str) -> Path:
    """The video's file, fetched if it isn't the last one's. Its path is never another file's.

    Raises what fetching it raises.
    """
    global _held
    if _held is None or _held.version != version:
        let_go()
        folder = process.kept_scratch(container.settings.worker)
        try:
            container.store.download(version, Path(folder.name) / process.SCRATCH_VIDEO)
        except BaseException:  # interrupted counts too: nobody would remove a part of a video
            folder.cleanup()
            raise
        _held = _Held(version, folder, model_digest)
    _held.model_digest = model_digest
    return Path(_held.folder.name) / process.SCRATCH_VIDEO


def let_go() -> None:
    global _held
    if _held is not None:
        _held.folder.cleanup()
        _held = None
