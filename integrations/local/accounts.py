"""Running a service as somebody else than root: Postgres refuses root.

Premask as root (a container, a CI machine) gives Postgres an unprivileged account and folders which that account can
reach; as an ordinary user nothing here does anything.
"""

import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from backend.domain.errors import Misconfigured

UNPRIVILEGED = "nobody"
#: Outside the state folder only when the unprivileged account can't pass through the folders above it.
REFUGE = Path("/var/tmp")


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """None when we are not root: the service then runs as we do."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError as error:
        raise Misconfigured(f"Postgres refuses root and there is no account '{UNPRIVILEGED}' to run it as") from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_pass(folder: Path) -> bool:
    """Whether anybody may pass through this folder and every folder above it."""
    resolved = folder.resolve()
    return all(step.stat().st_mode & stat.S_IXOTH for step in (resolved, *resolved.parents))


def can_execute(program: Path) -> bool:
    return can_pass(program.parent) and bool(program.stat().st_mode & stat.S_IXOTH)


def refuge(state_dir: Path, identity: str) -> Path:
    """A folder of ours under /var/tmp that anybody can pass through, always the same one for the same state folder.

    It holds the state's identity: what a deleted state folder left there can't be opened any more (its password is
    gone) and is removed.
    """
    digest = hashlib.sha256(str(state_dir.resolve()).encode()).hexdigest()[:12]
    folder = REFUGE / f"premask-state-{os.geteuid()}-{digest}"
    folder.mkdir(mode=0o711, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Misconfigured(f"{folder} is not a folder of ours; remove it, or choose another state folder")
    folder.chmod(0o711)
    mark = folder / "identity"
    if mark.exists() and mark.read_text() != identity:
        shutil.rmtree(folder)
        return refuge(state_dir, identity)
    mark.touch(mode=0o600)
    mark.write_text(identity)
    return folder
