"""One turn of the learning loop, stage by stage: freeze, fetch, train, register, gate, decide.

Every stage may be done twice: the same reviews give the same data set, a training goes on in its folder, the same
weights are the same model version, and the same scores the same verdict. Training and gate are commands that an
engineer could give by hand, in processes of their own.
"""

import hashlib
import json
import logging
import time
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from backend.bootstrap import Container
from backend.db.repositories import datasets as dataset_rows
from backend.db.repositories import models as model_rows
from backend.db.repositories import retraining as rows
from backend.db.tables import Dataset
from backend.domain.errors import Conflict, ServiceUnavailable
from backend.domain.retraining import OnPass, RetrainingStage, RetrainingState
from backend.profiles import ModelProfile
from backend.services import models, promotions, retraining
from backend.services.retraining import Claim
from backend.services.schedules import THIS_DATASET
from workers.lease import Lease
from workers.models import on_this_machine, profile_of
from workers.retraining import command, progress
from workers.retraining.overseer import Overseer

log = logging.getLogger(__name__)

#: Statuses of our commands (docs/learning.md, docs/promotion.md): a guard stopped it, the gate refused it.
_GUARDED, _REFUSED = 3, 3


class Ended(Exception):
    """The retraining is at its end, as it should be."""

    def __init__(self, state: RetrainingState, said: str) -> None:
        super().__init__(said)
        self.state = state


class Loop:
    """`folder` is the retraining's own, and stays for a successor on this machine."""

    def __init__(self, container: Container, claimed: Claim, lease: Lease, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._container, self._claim, self._folder = container, claimed, folder
        self._overseer = Overseer(container, claimed, lease, folder)
        self._out = folder / "run"
        self._dataset, self._candidate = claimed.dataset or "", claimed.candidate or ""

    def run(self) -> None:
        """Raises `Ended` with how it ended; `FenceLost`, `ServiceUnavailable`, `BadInput`."""
        if not self._dataset:
            self._stage(RetrainingStage.FREEZE, self._freeze)
        if not self._candidate:
            self._stage(RetrainingStage.FETCH, self._fetch)
            self._stage(RetrainingStage.TRAIN, self._train)
            self._stage(RetrainingStage.REGISTER, self._register)
        self._stage(RetrainingStage.GATE, self._gate)
        self._stage(RetrainingStage.DECIDE, self._decide)

    def _stage(self, stage: RetrainingStage, work: Callable[[], dict[str, Any]]) -> None:
        self._overseer.check()
        log.info("retraining %d: %s", self._claim.retraining_id, stage)
        with self._container.transaction() as session:
            retraining.enter(session, self._claim, stage)
        began = time.monotonic()
        found = work()
        with self._container.transaction() as session:
            retraining.leave(session, self._claim, stage, time.monotonic() - began, **found)

    def _freeze(self) -> dict[str, Any]:
        from backend.services import datasets
        from backend.services.selection import FreezeQuery

        plan, claimed = self._claim.plan, self._claim
        if claimed.corrections < plan.min_corrections:
            raise Ended(
                RetrainingState.SKIPPED,
                f"{claimed.corrections} new corrections; the schedule wants {plan.min_corrections}",
            )
        query = FreezeQuery(
            projects=(claimed.project,), reviewed_until=claimed.due_at, parent=claimed.parent,
            replay_share=plan.replay_share if claimed.parent else 0.0, avs_share=plan.avs_share,
            max_per_annotator=plan.max_per_annotator, max_per_source=plan.max_per_source,
        )  # fmt: skip
        dataset = datasets.freeze(self._container.workshop, query)
        self._check_dataset(dataset)
        self._dataset = dataset.digest
        return {"dataset_id": dataset.id}

    def _check_dataset(self, dataset: Dataset) -> None:
        """What the gate could not judge is not trained on: a night would be lost."""
        with self._container.transaction() as session:
            fresh = rows.fresh_held_out_videos(session, dataset.id)
        wanted, name = self._container.settings.gate.min_videos, f"data set {dataset.digest[:12]}"
        if fresh < wanted:
            raise Ended(
                RetrainingState.SKIPPED,
                f"{name} holds out {fresh} new videos; the gate can tell nothing below {wanted}",
            )
        if not dataset.counts["train"]["fresh"]:
            raise Ended(RetrainingState.SKIPPED, f"{name} has nothing new to learn from")

    def _fetch(self) -> dict[str, Any]:
        from backend.services import dataset_files, sources

        store, settings = self._container.store, self._container.settings
        with self._container.transaction() as session:
            dataset = dataset_rows.get(session, self._dataset)
        items = [i for s in dataset_files.SPLITS for i in dataset_files.read_items(store, settings.storage, dataset, s)]
        with self._container.transaction() as session:
            sources.check_contamination(session, items, settings.datasets)
        sizes = {item.media_sha256: item.media_size_bytes for item in items}
        self._overseer.check_disk(sum(sizes.values()))
        dataset_files.fetch(store, settings.storage, dataset, self._folder / "items")
        return {}

    def _train(self) -> dict[str, Any]:
        ended, metrics, words = self._out / "verdict.json", self._out / "metrics.jsonl", self._folder / "train.log"
        if not ended.exists():
            try:
                self._train_until_it_ends(metrics, words)
            finally:
                self._overseer.keep(metrics, words)
        verdict = json.loads(ended.read_text())
        self._overseer.tell(1.0, progress.figures(progress.rows(metrics), verdict["steps"]))
        if verdict["guard"]:
            raise Ended(
                RetrainingState.STOPPED,
                f"the guard {verdict['guard']} stopped it after {verdict['steps']} steps: {verdict['reason']}",
            )
        return {}

    def _train_until_it_ends(self, metrics: Path, words: Path) -> None:
        config, profile = self._folder / "config.toml", self._folder / "base.json"
        config.write_text(self._claim.plan.config)
        given = tomllib.loads(self._claim.plan.config).get("training", {})
        settings = self._container.settings
        steps = int(given.get("steps", settings.training.steps))
        with self._base() as base:
            profile.write_text(base.model_dump_json())
            arguments = [
                "train", "run", "--out", str(self._out), "--items", str(self._folder / "items"), "--json",
                "--profile", str(profile), "--config", str(config),
                "--minutes", f"{self._overseer.training_minutes():.3f}",
            ]  # fmt: skip
            status = command.run(
                arguments, words, self._folder / "train.json", lambda: self._overseer.watch_training(metrics, steps),
                launch=settings.retraining.launch,
            )  # fmt: skip
        if status not in (0, _GUARDED):
            raise RuntimeError(f"the training ended with status {status}: {command.last_words(words)}")

    def _base(self) -> AbstractContextManager[ModelProfile]:
        """The version that it begins with, with its weights on this machine."""
        with self._container.transaction() as session:
            version = model_rows.by_digest(session, self._claim.base)
        return on_this_machine(self._container, profile_of(self._container, version.digest, version.profile))

    def _register(self) -> dict[str, Any]:
        container, claimed = self._container, self._claim
        written = progress.rows(self._out / "metrics.jsonl")
        steps, kl = max((row["step"] for row in written), default=0), progress.mean_kl(written)
        origin = {"retraining": claimed.retraining_id, "dataset": self._dataset, "steps": steps, "kl": kl}
        with container.transaction() as session:
            base = ModelProfile.model_validate(model_rows.by_digest(session, claimed.base).profile)
        profile = models.publish_profile(
            container.store, container.settings.storage, base, {"system1": (self._out / "checkpoint").resolve()},
            f"GRPO on data set {self._dataset[:12]}, {steps} steps",
        )  # fmt: skip
        with container.transaction() as session:
            version = models.register(session, profile, claimed.base, origin)
        self._candidate = version.digest
        if container.registry is not None:
            told = {name: str(value) for name, value in origin.items()}
            shown = progress.curves(f"retraining {claimed.retraining_id}", written, told)
            try:
                models.show_in_registry(container.registry, version, container.settings.storage, shown)
            except ServiceUnavailable as error:
                log.warning("MLflow was not told of %s: %s", version.digest[:12], error)
        return {"candidate_id": version.id}

    def _gate(self) -> dict[str, Any]:
        this = f"dataset:{self._dataset}"
        arguments = ["models", "gate", self._candidate, "--fresh", this, "--json"]
        arguments += ["--jobs", str(self._container.settings.retraining.gate_jobs), "--ledgers", str(self._scores())]
        for suite in self._claim.plan.regression:
            arguments += ["--regression", this if suite == THIS_DATASET else suite]
        words, printed = self._folder / "gate.log", self._folder / "gate.json"
        status = command.run(arguments, words, printed, self._overseer.check)
        self._overseer.keep(words)
        if status not in (0, _REFUSED):
            raise RuntimeError(f"the gate ended with status {status}: {command.last_words(words)}")
        with self._container.transaction() as session:
            verdict = model_rows.verdict_by_digest(session, json.loads(printed.read_text())["digest"])
        return {"verdict_id": verdict.id}

    def _scores(self) -> Path:
        """Where models' scores on the proving ground lie, for the nights to come: what was a candidate is measured as
        the champion next, and one that stays is again. Another configuration, or other code, scores otherwise."""
        spec = self._container.run_spec
        made_by = f"{spec.config_digest} {distribution_version('premask')}"
        return self._folder.parent / "scores" / hashlib.sha256(made_by.encode()).hexdigest()[:16]

    def _decide(self) -> dict[str, Any]:
        container, plan, name = self._container, self._claim.plan, self._candidate[:12]
        with container.transaction() as session:
            verdict = rows.get(session, self._claim.retraining_id).verdict
        assert verdict is not None
        if not verdict.passed:
            reasons = "; ".join(check["said"] for check in verdict.body["checks"] if check["passed"] is False)
            raise Ended(RetrainingState.REFUSED, f"the gate refused {name}: {reasons}")
        if plan.on_pass is OnPass.REPORT:
            raise Ended(RetrainingState.PASSED, f"{name} passed the gate: `premask models promote {name}`")
        why = f"it passed the gate on data set {self._dataset[:12]}"
        said: dict[str, Any] = {"base": container.profile, "who": f"retraining {self._claim.retraining_id}", "why": why}
        if plan.on_pass is OnPass.CHALLENGE:
            with container.transaction() as session:
                promotions.challenge(session, self._candidate, plan.challenge_share, **said)
            self._tell_registry()
            raise Ended(RetrainingState.CHALLENGING, f"{name} runs in the champion's shadow")
        try:
            with container.transaction() as session:
                promotions.promote(session, self._candidate, **said)
        except Conflict as error:
            # Promoted by this very retraining, which then was broken off.
            if error.code != "already_champion":
                raise
        self._tell_registry()
        raise Ended(RetrainingState.PROMOTED, f"{name} is the champion")

    def _tell_registry(self) -> None:
        container = self._container
        if container.registry is None:
            return
        try:
            models.mirror(container.sessions, container.registry, container.profile.name, container.settings.storage)
        except ServiceUnavailable as error:
            log.warning("MLflow was not told who leads: %s", error)
