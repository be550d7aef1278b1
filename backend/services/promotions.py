"""Who answers: champion and challenger of each profile, how they change, and which version a run is made with.

Aliases change under a lock and leave a row each, for ever; a champion changes only by a verdict of the gate on it and
the champion of that moment, or back to one that led before. Whoever makes or claims a run asks here.
"""

import getpass
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from backend.db.repositories import models as repository
from backend.db.repositories import projects as project_rows
from backend.db.tables import ModelVersion, Project, Promotion, Run, Video
from backend.domain.errors import BadInput, Conflict, NotFound
from backend.domain.promotions import Action, Alias, in_shadow
from backend.domain.text import is_storable
from backend.profiles import ModelProfile

log = logging.getLogger(__name__)

_SHOWN = 12


def whoami() -> str:
    """The name under which changes from this machine stand in the history."""
    return getpass.getuser()


def base_version(session: Session, profile: ModelProfile) -> int:
    """The id of the version that the profile itself is."""
    return repository.ensure(session, profile.digest, profile.name, profile.model_dump(mode="json"))


def champion_of(session: Session, profile: ModelProfile) -> int:
    """The id of the version that answers for the profile: its champion, or where none was promoted it itself."""
    return repository.champion_id(session, profile.name) or base_version(session, profile)


def version_for(session: Session, project: Project, profile: ModelProfile) -> int:
    """The id of the version that new runs of the project are made with."""
    return project.model_version_id or champion_of(session, profile)


def version_of_claim(session: Session, run: Run) -> int | None:
    """The id of the version a run is to be carried out with, if it is claimed now. None: it is wanted no more (a
    shadow of a challenger that is none any longer)."""
    profile_name = run.model_version.profile_name
    if run.shadow:
        newest = repository.latest(session, profile_name, Alias.CHALLENGER)
        return run.model_version_id if newest and newest.model_version_id == run.model_version_id else None
    pinned = run.instruction.project.model_version_id
    return pinned or repository.champion_id(session, profile_name) or run.model_version_id


def shadow_for(session: Session, project: Project, profile_name: str, video: Video) -> int | None:
    """The id of the challenger that shall run on the video beside the champion; None: none shall.

    A pinned project has none: its runs say nothing of the champion.
    """
    newest = repository.latest(session, profile_name, Alias.CHALLENGER)
    if newest is None or newest.model_version is None or newest.share is None or project.model_version_id is not None:
        return None
    name = f"{video.bucket}/{video.key}@{video.version}"
    return newest.model_version_id if in_shadow(newest.model_version.digest, name, newest.share) else None


def leading(session: Session, profile_name: str, base: ModelProfile) -> ModelVersion:
    """The profile's champion; where nobody was promoted, `base`, if it is that profile. Raises `NotFound`."""
    version_id = repository.champion_id(session, profile_name)
    if version_id is None and base.name != profile_name:
        raise NotFound(f"profile {profile_name} has no champion, and the settings' profile is {base.name}")
    return repository.get(session, version_id or base_version(session, base))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict of the gate as it is kept. `body` is its JSON form, of which `digest` is the SHA-256 (names in
    order); `candidate` and `champion` are digests of model versions."""

    digest: str
    candidate: str
    champion: str
    passed: bool
    body: Mapping[str, Any]
    page_key: str | None = None


def record_verdict(session: Session, verdict: Verdict) -> None:
    """Raises `BadInput` if the digest is not the body's, or they tell of different models; `NotFound`."""
    body = dict(verdict.body)
    found = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    said = (body.get("candidate"), body.get("champion"), body.get("passed"))
    if found != verdict.digest or said != (verdict.candidate, verdict.champion, verdict.passed):
        raise BadInput(f"verdict {verdict.digest[:_SHOWN]} is not what its body says", code="verdict_changed")
    repository.add_verdict(
        session, digest=verdict.digest, passed=verdict.passed, body=body, page_key=verdict.page_key,
        candidate_id=repository.by_digest(session, verdict.candidate).id,
        champion_id=repository.by_digest(session, verdict.champion).id,
    )  # fmt: skip


def promote(session: Session, digest: str, *, base: ModelProfile, who: str, why: str) -> Promotion:
    """Make the version the champion of its profile. `base`: the settings' profile, which leads where nobody was
    promoted.

    Raises `NotFound`; `Conflict` if the gate did not pass it against the champion of this moment.
    """
    _check_said(who, why)
    repository.lock_promotions(session)
    candidate = repository.by_digest(session, digest)
    champion = leading(session, candidate.profile_name, base)
    if candidate.id == champion.id:
        raise Conflict(f"model version {_short(candidate)} is the champion already", code="already_champion")
    verdict = repository.verdict_on(session, candidate.id, champion.id)
    if verdict is None:
        raise Conflict(
            f"no verdict compares {_short(candidate)} with the champion {_short(champion)}: run `premask models gate`",
            code="no_verdict",
        )
    if not verdict.passed:
        reasons = "; ".join(c["said"] for c in verdict.body["checks"] if c["passed"] is False)
        raise Conflict(f"the gate refused model version {_short(candidate)}: {reasons}", code="refused_by_gate")
    challenger = repository.latest(session, candidate.profile_name, Alias.CHALLENGER)
    if challenger is not None and challenger.model_version_id == candidate.id:
        _write(session, Alias.CHALLENGER, Action.WITHDRAW, candidate, None, candidate.id, who=who, why="it is promoted")
    return _write(
        session, Alias.CHAMPION, Action.PROMOTE, candidate, candidate.id, champion.id, who=who, why=why,
        verdict_id=verdict.id,
    )  # fmt: skip


def rollback(
    session: Session, profile_name: str, *, base: ModelProfile, who: str, why: str, to: str | None = None
) -> Promotion:
    """Give the place back to the version from which the champion took it, or to the one that `to` names, which led
    before. Raises `NotFound`, `Conflict`."""
    _check_said(who, why)
    repository.lock_promotions(session)
    champion = leading(session, profile_name, base)
    if to is not None:
        target = repository.by_digest(session, to)
        if not repository.has_led(session, profile_name, target.id):
            raise Conflict(f"model version {_short(target)} was never champion of {profile_name}", code="never_led")
    else:
        taken = repository.promotion_of(session, profile_name, champion.id)
        if taken is None or taken.previous_id is None:
            raise Conflict(
                f"nobody was promoted over another in {profile_name}: there is no way back", code="no_way_back"
            )
        target = repository.get(session, taken.previous_id)
    if target.id == champion.id:
        raise Conflict(f"model version {_short(target)} is the champion already", code="already_champion")
    return _write(session, Alias.CHAMPION, Action.ROLLBACK, target, target.id, champion.id, who=who, why=why)


def challenge(session: Session, digest: str, share: float, *, base: ModelProfile, who: str, why: str) -> Promotion:
    """Let the version run beside the champion on that share of new videos, unpublished. Raises `NotFound`, `BadInput`,
    `Conflict` if it is the champion."""
    _check_said(who, why)
    if not 0 < share <= 1:
        raise BadInput(f"a share lies above 0 and up to 1, not at {share:g}", code="bad_share")
    repository.lock_promotions(session)
    version = repository.by_digest(session, digest)
    if version.id == leading(session, version.profile_name, base).id:
        raise Conflict(f"model version {_short(version)} is the champion", code="already_champion")
    before = repository.latest(session, version.profile_name, Alias.CHALLENGER)
    previous_id = None if before is None else before.model_version_id
    return _write(
        session, Alias.CHALLENGER, Action.CHALLENGE, version, version.id, previous_id, who=who, why=why, share=share
    )


def withdraw(session: Session, profile_name: str, *, who: str, why: str) -> Promotion:
    """End the challenge. Raises `Conflict` where there is none."""
    _check_said(who, why)
    repository.lock_promotions(session)
    before = repository.latest(session, profile_name, Alias.CHALLENGER)
    if before is None or before.model_version is None:
        raise Conflict(f"nobody challenges the champion of {profile_name}", code="no_challenger")
    version = before.model_version
    return _write(session, Alias.CHALLENGER, Action.WITHDRAW, version, None, version.id, who=who, why=why)


def pin(session: Session, project_name: str, digest: str | None) -> Project:
    """Have the project's runs made with that version whoever leads, or with None follow the champion again. Runs that
    wait are carried out so, too. Raises `NotFound`, `BadInput`."""
    project_rows.lock_watch(session)
    project = project_rows.by_name(session, project_name)
    project.model_version = None if digest is None else repository.by_digest(session, digest)
    session.flush()
    return project


def aliases(session: Session, profile_name: str) -> dict[Alias, str | None]:
    """The digest of the version that has each alias, None: nobody."""
    found = {alias: repository.latest(session, profile_name, alias) for alias in Alias}
    return {alias: row.model_version.digest if row and row.model_version else None for alias, row in found.items()}


def history(
    session: Session, limit: int, before_id: int | None = None, profile_name: str | None = None
) -> Sequence[Promotion]:
    """Newest first."""
    return repository.history(session, limit, before_id, profile_name)


def _write(
    session: Session, alias: Alias, action: Action, of: ModelVersion, version_id: int | None,
    previous_id: int | None, *, who: str, why: str, verdict_id: int | None = None, share: float | None = None,
) -> Promotion:  # fmt: skip
    row = Promotion(
        profile_name=of.profile_name, alias=alias, action=action, model_version_id=version_id, previous_id=previous_id,
        verdict_id=verdict_id, share=share, who=who, why=why,
    )  # fmt: skip
    session.add(row)
    session.flush()
    log.warning("%s of %s: %s %s, by %s: %s", alias, of.profile_name, action, _short(of), who, why)
    return row


def _check_said(who: str, why: str) -> None:
    if not who.strip() or not why.strip() or not is_storable(who + why) or len(who) > 200:
        raise BadInput("say who does it, in 200 characters at most, and why", code="unsaid")


def _short(version: ModelVersion) -> str:
    return version.digest[:_SHOWN]
