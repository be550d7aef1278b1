"""A turn of the learning loop, from reviews to how it ended: what is skipped, stopped, refused, promoted, and gone on
with. The two commands that it gives, training and gate, have tests of their own; here something writes what they would.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy import func, update

from backend.bootstrap import Container
from backend.db.repositories import models as model_rows
from backend.db.repositories import retraining as rows
from backend.db.tables import Retraining
from backend.domain.errors import BadInput
from backend.domain.retraining import OnPass, RetrainingStage, RetrainingState
from backend.services import promotions, retraining, schedules
from backend.services.retraining import Claim
from backend.services.schedules import Plan
from backend.settings import DatasetSettings, GateSettings, RetrainingSettings, WorkerSettings
from tests.conftest import S3
from tests.factories import core
from tests.factories.promoting import judged
from tests.factories.reviewed import LABELING, ReviewedProject, moved, storage
from workers.lease import Lease
from workers.retraining import loop
from workers.retraining.overseer import Overseer
from workers.tasks import retraining as tasks

pytestmark = pytest.mark.stack

SCENES = 12
METRICS: list[dict[str, Any]] = [
    {"step": 0, "held_out": {"reward": 1.0}},
    {"step": 1, "reward": 0.5, "kl": 0.001, "entropy": 0.3, "length": 40.0, "seconds": 2.0},
    {"step": 2, "reward": 0.75, "kl": 0.003, "entropy": 0.25, "length": 41.0, "seconds": 2.0},
    {"step": 2, "held_out": {"reward": 1.5}},
]


@pytest.fixture
def container(database_url: str, s3: S3, prefix: str, tmp_path: Path) -> Iterator[Container]:
    """With a gate that is content with two videos, for there are few."""
    made = Container(
        core.settings(
            database_url, storage=storage(s3, prefix), label_studio=LABELING, gate=GateSettings(min_videos=2),
            datasets=DatasetSettings(holdout_share=0.5), worker=WorkerSettings(weights_dir=tmp_path / "weights"),
            retraining=RetrainingSettings(dir=tmp_path / "home", min_free_gib=0.1),
        )
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def project(container: Container, prefix: str, tmp_path: Path) -> ReviewedProject:
    """Videos, of which half are corrected."""
    made = ReviewedProject(container, prefix, tmp_path).create("the cup")
    for seed in range(SCENES):
        [run] = made.scene(seed)
        made.review(run, moved(10) if seed % 2 else None)
    return made


@dataclass
class Commands:
    """`guard`: what stops the training; `passes`: whether the gate does; `gate_fails`: so often it dies first."""

    container: Container
    guard: str | None = None
    passes: bool = True
    gate_fails: int = 0
    asked: list[Sequence[str]] = field(default_factory=list)

    def run(self, arguments: Sequence[str], log: Path, output: Path, watch: Callable[[], None], **_: object) -> int:
        self.asked.append(arguments)
        log.write_text("so it went")
        watch()
        if arguments[:2] == ["train", "run"]:
            return self._train(Path(arguments[arguments.index("--out") + 1]))
        if self.gate_fails:
            self.gate_fails -= 1
            return 1
        verdict = judged(self.container, arguments[2], self.container.profile.digest, self.passes)
        output.write_text(json.dumps({"digest": verdict.digest}))
        return 0 if self.passes else 3

    def _train(self, out: Path) -> int:
        out.mkdir(parents=True)
        (out / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
        (out / "verdict.json").write_text(json.dumps({"steps": 2, "guard": self.guard, "reason": "it went too far"}))
        shutil.copytree(self.container.profile.system1.weights.name, out / "checkpoint")
        (out / "checkpoint" / "learned.json").write_text(str(out))
        return 3 if self.guard else 0

    def named(self, first: str) -> list[Sequence[str]]:
        return [arguments for arguments in self.asked if arguments[0] == first]


@pytest.fixture
def commands(container: Container, monkeypatch: pytest.MonkeyPatch) -> Commands:
    made = Commands(container)
    monkeypatch.setattr(loop.command, "run", made.run)
    return made


def claimed(container: Container, number: int) -> Claim:
    with container.transaction() as session:
        found = retraining.claim(session, number, "w1", "here/cpu", container.profile, container.settings.worker)
    assert found is not None
    return found


def ask(container: Container, **plan: Any) -> int:
    with container.transaction() as session:
        return schedules.ask_now(session, "cups", "ada", Plan(**{"min_corrections": 1, **plan})).id


def work(container: Container, claim: Claim) -> Retraining:
    """As the worker of the queue `train` does."""
    task = cast(Any, SimpleNamespace(container=container, transaction=container.transaction))
    assert container.settings.retraining.dir is not None
    tasks._work(task, claim, container.settings.retraining.dir / str(claim.retraining_id))
    with container.transaction() as session:
        return rows.get(session, claim.retraining_id)


def turn(container: Container, **plan: Any) -> Retraining:
    return work(container, claimed(container, ask(container, **plan)))


@pytest.mark.usefixtures("project")
def test_a_better_model_is_promoted_and_all_that_led_to_it_is_kept(container: Container, commands: Commands) -> None:
    ended = turn(container, regression=("shapeworld:test:0:4",), budget_h=2.0)
    assert (ended.state, ended.corrections) == ("promoted", SCENES // 2)
    with container.transaction() as session:
        row = rows.get(session, ended.id)
        assert row.candidate is not None
        assert row.dataset is not None
        candidate, dataset = row.candidate.digest, row.dataset.digest
        assert model_rows.get(session, promotions.champion_of(session, container.profile)).digest == candidate
        assert row.candidate.origin == {"retraining": row.id, "dataset": dataset, "steps": 2, "kl": 0.002}
    assert ended.said == f"{candidate[:12]} is the champion"
    assert set(ended.timings_s) == {"freeze", "fetch", "train", "register", "gate"}
    assert ended.figures == {
        "step": 2, "steps": 2, "reward": 0.75, "kl": 0.003, "entropy": 0.25, "length": 41.0, "seconds": 2.0,
        "held_out_first": {"reward": 1.0}, "held_out_last": {"reward": 1.5},
    }  # fmt: skip
    [training], [gate] = commands.named("train"), commands.named("models")
    assert 0 < float(training[training.index("--minutes") + 1]) < 0.7 * 120
    assert gate[gate.index("--fresh") + 1] == f"dataset:{dataset}"
    assert gate[gate.index("--regression") + 1] == "shapeworld:test:0:4"
    bucket, key = container.settings.storage.artifact_bucket, container.settings.storage.artifact_prefix
    for name in ("metrics.jsonl", "train.log", "gate.log"):
        assert container.store.head(bucket, f"{key}retrainings/{ended.id}/{name}") is not None


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("plan", "outcome", "state", "said"),
    [
        ({}, {"passes": False}, "refused", "J&F changes by -0.1"),
        ({"on_pass": OnPass.REPORT}, {}, "passed", "premask models promote"),
        ({"on_pass": OnPass.CHALLENGE}, {}, "challenging", "in the champion's shadow"),
        ({}, {"guard": "kl"}, "stopped", "the guard kl stopped it after 2 steps: it went too far"),
    ],
)
def test_how_else_it_may_end(
    container: Container, commands: Commands, plan: dict[str, Any], outcome: dict[str, Any], state: str, said: str
) -> None:
    for name, value in outcome.items():
        setattr(commands, name, value)
    ended = turn(container, **plan)
    assert (ended.state, said in (ended.said or "")) == (state, True), ended.said
    assert len(commands.named("models")) == (state != "stopped")
    with container.transaction() as session:
        champion = model_rows.get(session, promotions.champion_of(session, container.profile))
        assert champion.digest == container.profile.digest, "it goes on"


def test_with_too_few_new_corrections_nothing_is_done(
    container: Container, project: ReviewedProject, commands: Commands
) -> None:
    ended = turn(container, min_corrections=SCENES // 2 + 1)
    assert (ended.state, ended.said) == ("skipped", "6 new corrections; the schedule wants 7")
    assert commands.asked == []
    assert turn(container, min_corrections=SCENES // 2).state == "promoted"
    assert turn(container).said == "0 new corrections; the schedule wants 1"
    [run] = project.scene(SCENES)
    project.review(run, at=datetime.now(UTC))
    assert turn(container).said == "0 new corrections; the schedule wants 1", "it was left as it was"
    project.review(run, moved(6), at=datetime.now(UTC))
    assert "0 new corrections" not in (turn(container).said or "")


@pytest.mark.usefixtures("project")
def test_what_the_gate_could_not_judge_is_not_trained_on(
    container: Container, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container.settings, "gate", GateSettings(min_videos=SCENES + 1))
    ended = turn(container)
    assert ended.state == "skipped"
    assert "new videos; the gate can tell nothing below 13" in (ended.said or "")
    assert commands.asked == []


@pytest.mark.usefixtures("project")
def test_a_full_disk_and_a_spent_budget_end_it_with_the_reason(
    container: Container, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    tight = container.settings.retraining.model_copy(update={"min_free_gib": 1e9})
    with monkeypatch.context() as patched:
        patched.setattr(container.settings, "retraining", tight)
        ended = turn(container)
    assert ended.state == "failed"
    assert "retraining.min_free_gib keeps 1e+09" in (ended.said or "")
    number = ask(container, budget_h=0.5)
    begun = claimed(container, number)
    ended = work(container, replace(begun, spent_s=1801.0))
    assert (ended.state, ended.said) == ("failed", "it took longer than its budget of 0.5 hours")
    assert commands.asked == []


@pytest.mark.usefixtures("project")
def test_training_leaves_the_gate_its_time(container: Container, tmp_path: Path) -> None:
    def overseer(claim: Claim) -> Overseer:
        return Overseer(container, claim, Lease(container, "it", lambda _: None), tmp_path)

    first = claimed(container, ask(container, budget_h=2.0))
    assert overseer(first).training_minutes() == pytest.approx(0.7 * 120, abs=0.1)
    with container.transaction() as session:
        retraining.leave(session, first, RetrainingStage.GATE, 600.0)
        retraining.end(session, first, RetrainingState.REFUSED, "no")
    second = claimed(container, ask(container, budget_h=2.0))
    assert overseer(second).training_minutes() == pytest.approx(120 - 2 * 10, abs=0.1)
    assert overseer(replace(second, spent_s=3600.0)).training_minutes() == pytest.approx(40, abs=0.1)
    with pytest.raises(BadInput, match="nothing is left for training"):
        overseer(replace(second, spent_s=6001.0)).training_minutes()


@pytest.mark.usefixtures("project")
def test_a_successor_begins_with_what_was_broken_off(container: Container, commands: Commands) -> None:
    commands.gate_fails = 1
    number = ask(container)
    with pytest.raises(RuntimeError, match="the gate ended with status 1: so it went"):
        work(container, claimed(container, number))
    with container.transaction() as session:
        over = func.clock_timestamp()
        session.execute(update(Retraining).where(Retraining.id == number).values(lease_expires_at=over))
    again = claimed(container, number)
    assert (again.dataset is not None, again.candidate is not None) == (True, True)
    assert work(container, again).state == "promoted"
    assert (len(commands.named("train")), len(commands.named("models"))) == (1, 2)


@pytest.mark.usefixtures("project")
def test_it_tells_when_it_will_have_ended(container: Container) -> None:
    first = claimed(container, ask(container))
    with container.transaction() as session:
        retraining.leave(session, first, RetrainingStage.GATE, 600.0)
        retraining.end(session, first, RetrainingState.REFUSED, "no")
    second = claimed(container, ask(container))
    with container.transaction() as session:
        retraining.enter(session, second, RetrainingStage.TRAIN)
        assert retraining.eta(session, rows.get(session, second.retraining_id)) is None, "nothing says so yet"
    with container.transaction() as session:
        began = func.clock_timestamp() - timedelta(seconds=100)
        session.execute(update(Retraining).values(stage_began_at=began))
        retraining.tell(session, second, 0.25, {})
    with container.transaction() as session:
        eta = retraining.eta(session, rows.get(session, second.retraining_id))
        assert eta is not None
        assert (eta - rows.now(session)).total_seconds() == pytest.approx(300 + 600, abs=5)
