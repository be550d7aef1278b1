"""The listing: what lies in storage and no event told of is ingested. This is the path by which nothing gets lost.

A source that fits into one page of a listing is listed whole each time. Of a larger one most passes go on from the last
key seen, which finds what is named after it; every so often one starts anew, which finds everything.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import projects as project_rows
from backend.db.repositories import videos as video_rows
from backend.db.session import SessionFactory, session_scope
from backend.domain.errors import NotFound
from backend.ports.storage import ObjectStore, ObjectVersion
from backend.services.ingest import RunSpec, ingest, reason_to_ignore
from backend.settings import IngestSettings

log = logging.getLogger(__name__)

#: A source is listed from its beginning once in so many passes' time.
PASSES_PER_SWEEP = 10
_BATCH = 500
#: S3 answers with so many keys at once: listing no more than that whole costs no more than listing its end.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class _Place:
    source_id: int
    bucket: str
    prefix: str
    start_after: str | None


def reconcile(factory: SessionFactory, store: ObjectStore, settings: IngestSettings, spec: RunSpec) -> int:
    """List every project's sources; how many videos no event had told of. Raises `ServiceUnavailable`.

    A source whose bucket is not there is logged and left out, so that it can't keep the others from being seen.
    """
    with session_scope(factory) as session:
        places = _places(session, settings)
    found = 0
    for place in places:
        try:
            found += _reconcile_source(factory, store, settings, spec, place)
        except NotFound as error:
            log.warning("source %d can't be listed: %s", place.source_id, error)
    return found


def _places(session: Session, settings: IngestSettings) -> list[_Place]:
    """Where each source's pass begins; a source whose time has come starts anew."""
    now = session.scalar(func.now().select())
    sweep_every = timedelta(seconds=PASSES_PER_SWEEP * settings.reconcile_interval_s)
    places = []
    for source in project_rows.sources(session):
        if source.swept_at is None or now is None or source.swept_at + sweep_every <= now:
            source.swept_at, source.listed_until_key = now, None
        places.append(_Place(source.id, source.bucket, source.prefix, source.listed_until_key))
    return places


def _reconcile_source(
    factory: SessionFactory, store: ObjectStore, settings: IngestSettings, spec: RunSpec, place: _Place
) -> int:
    found = listed = 0
    for batch in _batches(store.list(place.bucket, place.prefix, place.start_after)):
        wanted = [version for version in batch if reason_to_ignore(version.key, settings) is None]
        with session_scope(factory) as session:
            known = video_rows.known(session, place.bucket, [(version.key, version.version) for version in wanted])
            for version in wanted:
                if (version.key, version.version) not in known:
                    found += ingest(session, version, settings, spec).created
            # In the same transaction: a pass that dies goes on where its last commit was.
            project_rows.set_checkpoint(session, place.source_id, batch[-1].key)
        listed += len(batch)
    if place.start_after is None and 0 < listed <= _PAGE:
        with session_scope(factory) as session:
            project_rows.set_checkpoint(session, place.source_id, None)
    if found:
        log.info("the listing of s3://%s/%s found %d videos no event told of", place.bucket, place.prefix, found)
    return found


def _batches(versions: Iterator[ObjectVersion]) -> Iterator[list[ObjectVersion]]:
    while batch := list(islice(versions, _BATCH)):
        yield batch
