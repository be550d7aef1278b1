"""Data sets: reviewed items frozen under a digest, with their media, for ever.

The state is read in one transaction; media are fetched and manifests written with no session open; what was frozen is
recorded in another, last. Whatever breaks off leaves objects under their own hashes, which the next try finds.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version as distribution_version
from typing import Any

from backend.db.repositories import datasets as repository
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import Dataset
from backend.domain.datasets import DatasetItem, Split, digest_of, in_order
from backend.domain.errors import BadInput
from backend.domain.runs import Mode
from backend.ports.labeling import ReviewReader
from backend.ports.media import FrameHasher
from backend.ports.storage import ObjectStore
from backend.services import dataset_files, reviewed, sources
from backend.services.reviewed import Candidate
from backend.services.selection import FreezeQuery, Selection, select
from backend.settings import DatasetSettings, StorageSettings

log = logging.getLogger(__name__)

REVIEWS = "reviews"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What freezing needs from outside."""

    factory: SessionFactory
    store: ObjectStore
    reader: ReviewReader
    hasher: FrameHasher
    storage: StorageSettings
    settings: DatasetSettings


def freeze(workshop: Workshop, query: FreezeQuery) -> Dataset:
    """The data set of that query on what the database holds now; the one that is there, if it was frozen before.

    Raises `BadInput` where there is nothing to freeze or the mix can't be had, `NotFound` for an unknown project or
    parent, `Conflict` naming the videos if held-out ones would be trained on, and `ServiceUnavailable`.
    """
    with session_scope(workshop.factory) as session:
        repository.read_one_state(session)
        repository.check_projects(session, query.projects)
        found, out = reviewed.candidates(session, workshop.reader, query)
    placed = _placed(workshop, found, out)
    older, ancestors = _older(workshop, query)
    candidates = [replace(item, fresh=item.item_id not in ancestors) for item in placed]
    selection = select(candidates, older, query)
    origins = {one.item.question: (one.review_version_id, one.run_id) for one in found}
    out += selection.left_out
    return record(workshop, Selection(selection.items, +out), REVIEWS, query.model_dump(mode="json"), origins)


def record(
    workshop: Workshop, selection: Selection, origin: str, query: dict[str, Any],
    origins: dict[tuple[str, str, str], tuple[int, int]],
) -> Dataset:  # fmt: skip
    """Write a data set of those items, unless it is there. `origins`: review version and run of a question's answer."""
    items = in_order(selection.items)
    if not items:
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(selection.left_out.items())) or "none reviewed"
        raise BadInput(f"there is nothing to freeze ({why})", code="nothing_to_freeze")
    digest = digest_of(items, {"origin": origin, "query": query})
    with session_scope(workshop.factory) as session:
        sources.check_contamination(session, items, workshop.settings)
        dataset = repository.find(session, digest)
    if dataset is None:
        files = dataset_files.put_manifests(workshop.store, workshop.storage, digest, items)
        made = Dataset(
            digest=digest, parent_digest=query.get("parent"), origin=origin, query=query, files=files,
            counts=_counts(items, selection.left_out), code_version=distribution_version("premask"),
        )  # fmt: skip
        dataset = _add(workshop, made, [_row(place, item, origins) for place, item in enumerate(items)])
    dataset_files.put_description(workshop.store, workshop.storage, dataset)
    return dataset


def _add(workshop: Workshop, made: Dataset, rows: list[dict[str, Any]]) -> Dataset:
    """The data set as it is recorded: this one, or the same that another freeze was quicker with."""
    with session_scope(workshop.factory) as session:
        repository.lock_placing(session)
        if (known := repository.find(session, made.digest)) is not None:
            return known
        repository.add(session, made, rows)
        session.refresh(made)
    log.info("data set %s: %d items", made.digest[:12], len(rows))
    return made


def _placed(workshop: Workshop, found: Sequence[Candidate], out: Counter[str]) -> list[DatasetItem]:
    """The items with their media kept and their sides decided; those whose media are nowhere are left out."""
    videos = {one.item.source_id: one.video_id for one in found}
    new, gone = sources.keep(workshop.factory, workshop.store, workshop.hasher, videos, workshop.storage)
    with session_scope(workshop.factory) as session:
        sources.decide(session, new, workshop.settings)
    with session_scope(workshop.factory) as session:
        rows = repository.sources(session, videos.keys())
    out["media gone"] += sum(one.item.source_id in gone for one in found)
    return [
        replace(
            one.item, split=Split(rows[one.item.source_id].split), media_key=rows[one.item.source_id].media_key,
            media_size_bytes=rows[one.item.source_id].media_size_bytes,
        )
        for one in found
        if one.item.source_id not in gone
    ]  # fmt: skip


def _older(workshop: Workshop, query: FreezeQuery) -> tuple[list[DatasetItem], set[str]]:
    """What the parent and those before it trained on and still stands, the newest answer to each question, where any of
    it is to be replayed; and the ids of all their items."""
    if query.parent is None:
        return [], set()
    with session_scope(workshop.factory) as session:
        chain = repository.lineage(session, query.parent)
        known = repository.item_ids(session, [dataset.id for dataset in chain])
    if not query.replay_share:
        return [], known
    answers: dict[tuple[str, str, str], DatasetItem] = {}
    for dataset in chain:
        for item in dataset_files.read_items(workshop.store, workshop.storage, dataset, Split.TRAIN):
            answers.setdefault(item.question, item)
    with session_scope(workshop.factory) as session:
        names = {(p.target, p.annotation_id): p for p in (item.provenance for item in answers.values())}
        asked = [(target, number) for target, number in names if target is not None and number is not None]
        standing = repository.standing(session, asked)
    return [item for item in answers.values() if _stands(item, standing)], known


def _stands(item: DatasetItem, standing: dict[tuple[str, int], str]) -> bool:
    """Whether nobody has taken the answer back or changed it; imports are nobody's."""
    said = item.provenance
    if said.target is None or said.annotation_id is None:
        return True
    return standing.get((said.target, said.annotation_id)) == said.review_digest


def _row(
    place: int, item: DatasetItem, origins: dict[tuple[str, str, str], tuple[int, int]]
) -> dict[str, Any]:  # fmt: skip
    version_id, run_id = origins.get(item.question, (None, None)) if item.fresh else (None, None)
    return {
        "position": place, "item_id": item.item_id, "source_sha256": item.source_id, "split": item.split.value,
        "fresh": item.fresh, "mode": item.mode.value, "review_version_id": version_id, "run_id": run_id,
    }  # fmt: skip


def _counts(items: Sequence[DatasetItem], left_out: Counter[str]) -> dict[str, Any]:
    def of(split: Split) -> dict[str, int]:
        part = [item for item in items if item.split is split]
        return {
            "items": len(part),
            "fresh": sum(item.fresh for item in part),
            **{mode.value: sum(item.mode is mode for item in part) for mode in Mode},
            "videos": len({item.source_id for item in part}),
            "objects": sum(len(item.objects) for item in part),
            "empty": sum(not item.objects for item in part),
        }

    return {
        "items": len(items), "train": of(Split.TRAIN), "holdout": of(Split.HOLDOUT), "left_out": dict(left_out),
    }  # fmt: skip
