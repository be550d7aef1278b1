"""Model versions: making one of new weights, in the artifact bucket and in the database; and showing them to people in
the registry, which follows the database."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from backend.db.repositories import models as repository
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import ModelVersion, VerdictRow
from backend.domain.errors import BadInput
from backend.domain.promotions import Alias
from backend.domain.text import is_storable
from backend.ports.registry import Curves, ModelRegistry, RegisteredVersion
from backend.ports.storage import ObjectStore
from backend.profiles import ModelProfile, Weights
from backend.services import promotions
from backend.services import weights as weight_files
from backend.settings import StorageSettings

#: The models of a profile that can be given other weights.
ROLES = ("system1", "system2", "segmenter")


def publish_profile(
    store: ObjectStore, storage: StorageSettings, base: ModelProfile, paths: Mapping[str, Path], trained_on: str
) -> ModelProfile:
    """The profile `base` with the weights at those paths in place of its own; no transaction may be open.

    All weights that lie on this machine go into the artifact bucket, so that every worker can fetch them and the
    version stays what it is when this machine's files change. `paths`: by role. Raises `BadInput`.
    """
    settings = base.model_dump(mode="json")
    for role, path in paths.items():
        if role not in ROLES:
            raise BadInput(f"a profile has no model {role!r}; it has: {', '.join(ROLES)}")
        part = settings[role]
        told = part["weights"] or settings["system1"]["weights"]
        # Weights from here can't be those on a server.
        part |= {"server": None} if "server" in part else {}
        part["weights"] = told | {"source": "path", "name": str(path), "revision": None, "trained_on": trained_on}
    return ModelProfile.model_validate(settings).with_weights(lambda weights: _stored(store, storage, weights))


def _stored(store: ObjectStore, storage: StorageSettings, weights: Weights) -> Weights:
    if weights.source != "path":
        return weights
    digest = weight_files.publish(store, storage, weights.path)
    return weights.model_copy(update={"source": "stored", "name": digest})


def register(
    session: Session, profile: ModelProfile, parent: str | None = None, origin: Mapping[str, Any] | None = None
) -> ModelVersion:
    """The model version that the profile is; a new one is written down with its parent's digest and its origin.

    Raises `NotFound` for an unknown parent, `BadInput`.
    """
    if not is_storable(profile.model_dump_json()):
        raise BadInput("a profile's words must be ones that a database takes")
    before = None if parent is None else repository.by_digest(session, parent)
    version_id = repository.ensure(session, profile.digest, profile.name, profile.model_dump(mode="json"))
    version = repository.get(session, version_id)
    if version.parent_id is None and not version.origin and before is not None and before.id != version_id:
        version.parent_id, version.origin = before.id, dict(origin or {})
        session.flush()
    return version


def page(
    session: Session, limit: int, before_id: int | None = None, profile_name: str | None = None
) -> list[tuple[ModelVersion, list[Alias]]]:
    """Versions, newest first, each with the aliases that it has."""
    found = repository.page(session, limit, before_id, profile_name)
    held = {name: promotions.aliases(session, name) for name in {row.profile_name for row in found}}
    return [(row, [a for a, digest in held[row.profile_name].items() if digest == row.digest]) for row in found]


def whole(session: Session, digest: str) -> tuple[ModelVersion, list[Alias], Sequence[VerdictRow]]:
    """The version of that digest, or of its beginning, with its aliases and the verdicts on it. Raises `NotFound`,
    `BadInput`."""
    row = repository.by_digest(session, digest)
    held = promotions.aliases(session, row.profile_name)
    return row, [a for a, one in held.items() if one == row.digest], repository.verdicts_of(session, row.id)


def show_in_registry(
    registry: ModelRegistry, version: ModelVersion, storage: StorageSettings, curves: Curves | None = None
) -> None:
    """Raises `ServiceUnavailable`."""
    registry.register(_registered(version, storage), curves)


def mirror(factory: SessionFactory, registry: ModelRegistry, profile_name: str, storage: StorageSettings) -> None:
    """Bring the registry's aliases to what the database says. Raises `ServiceUnavailable`; a later call mends it."""
    with session_scope(factory) as session:
        # Held meanwhile, so that of two who tell the registry the later one tells what is true.
        repository.lock_mirror(session)
        digests = promotions.aliases(session, profile_name)
        for digest in digests.values():
            if digest is not None:
                registry.register(_registered(repository.by_digest(session, digest), storage))
        registry.set_aliases(profile_name, {alias.value: digest for alias, digest in digests.items()})


def _registered(version: ModelVersion, storage: StorageSettings) -> RegisteredVersion:
    profile = ModelProfile.model_validate(version.profile)
    weights = profile.system1.weights
    is_ours = weights.source == "stored"
    source = weight_files.uri_of(storage, weights.name) if is_ours else f"{weights.source}:{weights.name}"
    tags = {f"origin.{name}": str(value) for name, value in version.origin.items()}
    return RegisteredVersion(version.profile_name, version.digest, source, weights.trained_on, tags)
