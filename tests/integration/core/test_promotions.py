"""Who answers: promotion only by the gate, history for ever, rollback, pins, and what becomes of runs that wait."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from backend.bootstrap import Container
from backend.db.repositories import models as rows
from backend.db.repositories import runs as run_rows
from backend.domain.errors import BadInput, Conflict, NotFound
from backend.domain.masks import encode_mask
from backend.domain.promotions import Alias, in_shadow
from backend.services import models, promotions, results, runs, shadows
from backend.services.promotions import Verdict
from backend.settings import LabelStudioSettings
from tests.factories import core
from tests.factories.promoting import judged, promote

pytestmark = pytest.mark.stack

SAID = {"who": "ada", "why": "it is better"}


def version_of(container: Container, name: str) -> str:
    """Another version of the settings' profile, told apart by what it learned from; its digest."""
    base = container.profile
    profile = base.with_weights(lambda w: w.model_copy(update={"trained_on": name}))
    with container.transaction() as session:
        return models.register(session, profile, promotions_base(container), {"kl": 0.1}).digest


def promotions_base(container: Container) -> str:
    with container.transaction() as session:
        promotions.base_version(session, container.profile)
    return container.profile.digest


def rollback(container: Container, to: str | None = None) -> None:
    with container.transaction() as session:
        promotions.rollback(session, container.profile.name, base=container.profile, to=to, **SAID)


def champion(container: Container) -> str:
    with container.transaction() as session:
        return rows.get(session, promotions.champion_of(session, container.profile)).digest


def passed_on(container: Container, name: str) -> str:
    """A version that the gate passed against the champion of now."""
    digest = version_of(container, name)
    judged(container, digest, champion(container))
    return digest


def test_nobody_is_promoted_but_by_a_verdict_on_the_champion_of_now(container: Container) -> None:
    base = promotions_base(container)
    first, second = version_of(container, "night 1"), version_of(container, "night 2")
    with pytest.raises(Conflict, match=r"no verdict compares .* run `premask models gate`"):
        promote(container, first)
    judged(container, first, base, passed=False)
    with pytest.raises(Conflict, match=r"refused model version .*: J&F changes by -0\.1"):
        promote(container, first)
    judged(container, first, base)
    judged(container, second, base)
    promote(container, first[:12])
    assert champion(container) == first
    with pytest.raises(Conflict, match="the champion already"):
        promote(container, first)
    # The verdict on the second is of another champion's time.
    with pytest.raises(Conflict, match="no verdict compares"):
        promote(container, second)
    assert champion(container) == first
    with pytest.raises(NotFound, match="no model version"):
        promote(container, "f" * 64)


def test_the_newest_verdict_counts_and_a_changed_one_is_refused(container: Container) -> None:
    base, candidate = promotions_base(container), version_of(container, "night 1")
    judged(container, candidate, base)
    verdict = judged(container, candidate, base, passed=False)
    with pytest.raises(Conflict, match="refused"):
        promote(container, candidate)
    changed = Verdict(verdict.digest, candidate, base, True, {**verdict.body, "passed": True})
    with pytest.raises(BadInput, match="not what its body says"), container.transaction() as session:
        promotions.record_verdict(session, changed)
    judged(container, candidate, base)  # measured again, the same scores
    promote(container, candidate)


def test_rollback_goes_back_the_way_the_champions_came(container: Container) -> None:
    base = promotions_base(container)
    with pytest.raises(Conflict, match="no way back"):
        rollback(container)
    first = passed_on(container, "night 1")
    promote(container, first)
    second = passed_on(container, "night 2")
    promote(container, second)
    rollback(container)
    assert champion(container) == first
    rollback(container)
    assert champion(container) == base
    with pytest.raises(Conflict, match="no way back"):
        rollback(container)
    rollback(container, to=second[:10])
    assert champion(container) == second
    stranger = version_of(container, "never")
    with pytest.raises(Conflict, match="was never champion"):
        rollback(container, to=stranger)
    with container.transaction() as session:
        told = [(p.action, p.model_version and p.model_version.digest) for p in promotions.history(session, 50)]
    assert told == [
        ("rollback", second), ("rollback", base), ("rollback", first), ("promote", second), ("promote", first),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change", ["UPDATE promotions SET why = 'else'", "DELETE FROM promotions", "TRUNCATE promotions"]
)
def test_history_can_not_be_changed(container: Container, change: str) -> None:
    promote(container, passed_on(container, "night 1"))
    with pytest.raises(DBAPIError, match="promotions are history"), container.engine.begin() as connection:
        connection.execute(text(change))


def test_of_many_who_promote_at_once_one_does(container: Container) -> None:
    candidates = [passed_on(container, f"night {n}") for n in range(4)]
    start = Barrier(4)

    def attempt(digest: str) -> str:
        start.wait()
        try:
            promote(container, digest)
        except Conflict as error:
            return error.code
        return "promoted"

    with ThreadPoolExecutor(4) as pool:
        # By then the champion is another, of whom the others' verdicts don't tell.
        assert sorted(pool.map(attempt, candidates)) == ["no_verdict"] * 3 + ["promoted"]
    with container.transaction() as session:
        assert len(promotions.history(session, 50)) == 1


def test_who_and_why_must_be_said(container: Container) -> None:
    digest = passed_on(container, "night 1")
    for said in ({"who": " ", "why": "x"}, {"who": "ada", "why": ""}, {"who": "a" * 201, "why": "x"}):
        with pytest.raises(BadInput, match="say who"), container.transaction() as session:
            promotions.promote(session, digest, base=container.profile, **said)


def claimed_with(container: Container, run_id: int) -> str:
    claim = core.claim(container, run_id)
    assert claim is not None
    return claim.model_digest


def test_runs_that_wait_are_claimed_with_the_champion_of_that_moment(container: Container) -> None:
    core.make_project(container)
    before, waiting = core.ready_run(container, "in/a.mp4"), core.ready_run(container, "in/b.mp4")
    base = claimed_with(container, before)
    first = passed_on(container, "night 1")
    promote(container, first)
    assert claimed_with(container, waiting) == first
    with container.transaction() as session:
        # What was claimed before stays what it was claimed with.
        assert run_rows.get(session, before).model_version.digest == base
        assert run_rows.get(session, waiting).model_version.digest == first
    assert claimed_with(container, core.ready_run(container, "in/c.mp4")) == first


def test_a_run_that_was_begun_stays_with_its_version_and_one_retried_begins_anew(container: Container) -> None:
    core.make_project(container)
    run_id = core.ready_run(container)
    base = claimed_with(container, run_id)
    first = passed_on(container, "night 1")
    promote(container, first)
    with container.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET lease_expires_at = now() - interval '1 s'"))
    again = core.claim(container, run_id)
    assert again is not None
    assert again.model_digest == base
    with container.transaction() as session:
        runs.postpone(session, run_id, again.fence)
    again = core.claim(container, run_id)
    assert again is not None
    assert again.model_digest == base
    with container.transaction() as session:
        runs.fail(session, run_id, again.fence, "bad_input", "it can't be done")
    with container.transaction() as session:
        runs.retry(session, run_id)
    assert claimed_with(container, run_id) == first


def test_a_new_champion_makes_no_run_missing(container: Container) -> None:
    core.make_project(container)
    core.ready_run(container)
    promote(container, passed_on(container, "night 1"))
    from backend.services import projects

    with container.transaction() as session:
        projects.add_instruction(session, "cups", projects.InstructionSpec("the plate"), container.run_spec)
    with container.transaction() as session:
        found = run_rows.page(session, 10, None)
        assert sorted((r.instruction.text, r.shadow) for r in found) == [("the cup", False), ("the plate", False)]


def test_a_pinned_project_keeps_its_version(container: Container) -> None:
    core.make_project(container)
    first = passed_on(container, "night 1")
    promote(container, first)
    pinned = version_of(container, "the one they know")
    waiting = core.ready_run(container, "in/a.mp4")
    with container.transaction() as session:
        assert promotions.pin(session, "cups", pinned[:12]).model_version is not None
    assert claimed_with(container, waiting) == pinned
    assert claimed_with(container, core.ready_run(container, "in/b.mp4")) == pinned
    with container.transaction() as session:
        promotions.pin(session, "cups", None)
    assert claimed_with(container, core.ready_run(container, "in/c.mp4")) == first


def test_a_run_that_is_there_already_with_the_champion_is_not_made_twice(container: Container) -> None:
    """Made for a pinned version, then again for the champion, then pinned no more."""
    core.make_project(container)
    done = core.ready_run(container)
    assert claimed_with(container, done) == container.profile.digest
    first = version_of(container, "pinned")
    with container.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO runs (video_id, instruction_id, model_version_id, config, config_digest)"
                " SELECT video_id, instruction_id, (SELECT id FROM model_versions WHERE digest = :digest), config,"
                " config_digest FROM runs WHERE id = :run"
            ),
            {"digest": first, "run": done},
        )
        again = connection.scalar(text("SELECT max(id) FROM runs"))
    with container.transaction() as session:
        promotions.pin(session, "cups", container.profile.digest)
    assert again is not None
    assert core.claim(container, again) is None
    status, _, reason = core.status_of(container, again)
    assert (status, reason) == ("cancelled", f"run {done} is the same with the version that answers now")
    with pytest.raises(Conflict, match="can't be retried: run"), container.transaction() as session:
        runs.retry(session, again)


def challenge(container: Container, digest: str, share: float = 1.0) -> None:
    with container.transaction() as session:
        promotions.challenge(session, digest, share, base=container.profile, **SAID)


LEFT, WHOLE = np.zeros((48, 64), bool), np.ones((48, 64), bool)
LEFT[:, :32] = True


def finish(container: Container, run_id: int, masks: dict[int, np.ndarray]) -> None:
    """Carry the run out, with a track that has those masks (the factory's own run lengths are made up)."""
    claim = core.claim(container, run_id)
    assert claim is not None
    made = core.annotation(frame_count=30)
    encoded = {frame: encode_mask(mask) for frame, mask in masks.items()}
    made.tracks = tuple(replace(track, masks=encoded if track.index == 0 else {}) for track in made.tracks)
    with container.transaction() as session:
        results.record(
            session, run_id, claim.fence, made, core.IMAGE_KEYS, LabelStudioSettings(url="http://nobody.invalid")
        )


def test_a_challenger_runs_beside_the_champion_unpublished_and_is_compared(container: Container) -> None:
    core.make_project(container, label_studio_project_id=5)
    challenger = version_of(container, "night 1")
    challenge(container, challenger)
    run_id = core.ready_run(container)
    with container.transaction() as session:
        [shadow, run] = run_rows.page(session, 10, None)
        assert (run.id, run.shadow, shadow.shadow) == (run_id, False, True)
        assert (run.model_version.digest, shadow.model_version.digest) == (container.profile.digest, challenger)
        shadow_id = shadow.id
    assert ("runs.annotate", {"run_id": shadow_id}) in core.unsent(container)
    finish(container, run_id, {0: WHOLE, 1: WHOLE})
    finish(container, shadow_id, {0: WHOLE, 2: LEFT})
    with container.transaction() as session:
        assert len(run_rows.get_whole(session, run_id).publications) == 1
        assert run_rows.get_whole(session, shadow_id).publications == []
        unpublished = run_rows.finished_without_publication(session, run.instruction.project_id, "label_studio:6")
        assert [one.id for one in unpublished] == [run_id]
        found = shadows.compare(session, container.profile.name, challenger)
    [pair] = found.pairs
    assert (pair.run_id, pair.shadow_run_id, pair.champion_found, pair.challenger_found) == (
        run_id,
        shadow_id,
        True,
        True,
    )
    assert found.found == {"both": 1, "champion_alone": 0, "challenger_alone": 0, "neither": 0}
    assert pair.agreement == found.agreement == pytest.approx(1 / 3)  # the same, one alone, the other alone
    assert found.latency_ratio is not None


def test_a_challenger_that_is_withdrawn_or_promoted_leaves_no_shadow(container: Container) -> None:
    core.make_project(container)
    first = passed_on(container, "night 1")
    challenge(container, first)
    waiting = core.ready_run(container) + 1
    promote(container, first)
    with container.transaction() as session:
        assert promotions.aliases(session, container.profile.name) == {Alias.CHAMPION: first, Alias.CHALLENGER: None}
    assert core.claim(container, waiting) is None
    assert core.status_of(container, waiting)[::2] == ("cancelled", "its version challenges the champion no more")
    core.ready_run(container, "in/b.mp4")
    with container.transaction() as session:
        assert sum(run.shadow for run in run_rows.page(session, 10, None)) == 1
        with pytest.raises(Conflict, match="nobody challenges"):
            promotions.withdraw(session, container.profile.name, **SAID)
        with pytest.raises(Conflict, match="is the champion"):
            promotions.challenge(session, first, 0.5, base=container.profile, **SAID)
        with pytest.raises(BadInput, match="a share lies above 0"):
            promotions.challenge(session, container.profile.digest, 0.0, base=container.profile, **SAID)


def test_the_share_of_the_traffic_is_what_was_asked_for_and_always_the_same() -> None:
    names = [f"premask/in/{n}.mp4@e" for n in range(4000)]
    chosen = [in_shadow("a" * 64, name, 0.1) for name in names]
    assert 320 < sum(chosen) < 480
    assert chosen == [in_shadow("a" * 64, name, 0.1) for name in names]
    more = [in_shadow("a" * 64, name, 0.3) for name in names]
    assert all(wide for narrow, wide in zip(chosen, more, strict=True) if narrow)
    assert chosen != [in_shadow("b" * 64, name, 0.1) for name in names]
    assert all(in_shadow("a" * 64, name, 1.0) for name in names)
