"""`premask doctor`: what of this installation is in order, what is missing, and what to do about it.

Each check answers with a sentence or raises; only what is named in `--only` is looked at, which is how the containers'
health checks use it.
"""

import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from typing import Annotated, Literal

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from backend.bootstrap import Container, bootstrap
from backend.cli.output import print_table
from backend.db import migrate
from backend.db.repositories import outbox as outbox_rows
from backend.db.repositories import projects as project_rows
from backend.domain.errors import Misconfigured, PremaskError, ServiceUnavailable
from backend.profiles import ServerProfile, Weights
from backend.services import outages, projects
from backend.settings import Settings
from integrations.local.label_studio import TEMPLATE
from integrations.local.state import running_stack

app = typer.Typer()

_WELL = {"ok", "not_connected"}
#: Workers write a sign of life every two seconds.
ALIVE_WITHIN_S = 15.0
STARTED_BY_UP = {
    "database", "schema", "broker", "storage", "label-studio", "masks-on-demand",
    "worker-gpu", "worker-io", "worker-train",
}  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    #: A note is worth knowing and no failure.
    status: Literal["ok", "note", "failed"]
    detail: str


class Note(Exception):
    """Raised by a check for something that is missing and may be."""


class Doctor:
    """One method a check; a string is good news."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._settings = container.settings

    @cached_property
    def _health(self) -> dict[str, str | None]:
        return self._container.health()

    def checks(self) -> dict[str, Callable[[], str]]:
        return {
            "python": self.python,
            "packages": self.packages,
            "label-studio-venv": self.label_studio_venv,
            "weights": self.weights,
            "database": lambda: self._outside("database"),
            "schema": self.schema,
            "broker": lambda: self._outside("broker"),
            "storage": lambda: self._outside("storage"),
            "label-studio": self.label_studio,
            "labeling-projects": self.labeling_projects,
            "masks-on-demand": self.masks_on_demand,
            "worker-gpu": lambda: self.worker("gpu"),
            "worker-io": lambda: self.worker("io"),
            "worker-train": lambda: self.worker("train"),
            "browser": self.browser,
        }

    def python(self) -> str:
        return f"{sys.version.split()[0]} in {sys.prefix}"

    def packages(self) -> str:
        found = []
        for name in ("premask", "torch", "sam2", "transformers"):
            try:
                found.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError as error:
                raise Misconfigured(f"{name} is not installed here; run `make setup`") from error
        return ", ".join(found)

    def label_studio_venv(self) -> str:
        venv = self._settings.local.label_studio_venv
        if not (venv / "bin" / "label-studio").exists():
            raise Note(f"none in {venv}: `premask up` and `premask demo` need it; run `make setup`")
        if not (venv / TEMPLATE).exists():
            raise Note(f"{venv} has no migrated database: its first start takes half a minute longer")
        return str(venv)

    def weights(self) -> str:
        profile = self._container.profile
        parts = [_where(profile.system1.weights, profile.system1.server)]
        if profile.system2.weights is not None:
            parts.append(_where(profile.system2.weights, profile.system2.server))
        parts.append(_where(profile.segmenter.weights))
        return f"{profile.name}: " + ", ".join(dict.fromkeys(parts))

    def schema(self) -> str:
        migrate.check(self._container.engine)
        return "the one this version needs"

    def label_studio(self) -> str:
        settings = self._settings.label_studio
        if settings.url is None or settings.api_key is None:
            raise Note("none configured (PREMASK__LABEL_STUDIO__URL and __API_KEY): nothing is published")
        with urllib.request.urlopen(f"{settings.url}/health", timeout=5):
            return settings.url

    def labeling_projects(self) -> str:
        """Of each project, as those who last asked Label Studio found it."""
        with self._container.transaction() as session:
            found = outages.statuses(session)
        troubled = [f"{one.project} is {one.state}: {one.detail}" for one in found if one.state not in _WELL]
        if troubled:
            raise Misconfigured("; ".join(troubled))
        return f"{sum(one.state == 'ok' for one in found)} of {len(found)} connected, none in trouble"

    def masks_on_demand(self) -> str:
        """The process that draws them, and the way of each project's clicks to it."""
        if self._container.mask_service is None:
            raise Note("none are drawn for labelers' clicks (interactive.service_url is not set)")
        try:
            self._container.mask_service.check()
        except ServiceUnavailable as away:
            if away.code == "model_loading":
                raise Note(f"{away}; the first clicks wait for it") from away
            raise
        with self._container.transaction() as session:
            asking = [
                (row.name, row.label_studio_project_id) for row in project_rows.all_projects(session) if row.interactive
            ]
        tool, troubled = self._container.labeling_tool if asking else None, list[str]()
        for name, number in asking:
            lost = "it is not connected" if tool is None or number is None else tool.interactive_trouble(number)
            troubled += [] if lost is None else [f"{name}: {lost}"]
        if troubled:
            raise Misconfigured("; ".join(troubled) + "; `premask doctor --repair` mends it")
        return f"drawn at {self._settings.interactive.service_url}; {len(asking)} projects ask for them"

    def repair(self) -> None:
        """Bring every connected project's place in Label Studio back to what it should be: labeling configuration,
        storages, CORS, webhook, ML backend. One that is gone is made anew."""
        tool = self._container.labeling_tool
        if tool is None:
            raise Misconfigured("no labeling tool is configured, so there is nothing to repair")
        with self._container.transaction() as session:
            names = [one.project for one in outages.statuses(session) if one.label_studio_project_id is not None]
        for name in names:
            projects.connect(self._container.transaction, tool, name)

    def worker(self, queue: str) -> str:
        with self._container.transaction() as session:
            seen = outbox_rows.alive(session, ALIVE_WITHIN_S).get(queue)
        if seen is None:
            raise Misconfigured(f"no worker on the queue {queue} has given a sign of life in {ALIVE_WITHIN_S:.0f} s")
        return f"last sign of life {seen:%H:%M:%S}"

    def browser(self) -> str:
        for name in BROWSERS:
            if found := shutil.which(name):
                return found
        raise Note("no Chromium: only the browser tests need one")

    def _outside(self, part: str) -> str:
        trouble = self._health[part]
        if trouble is not None:
            raise Misconfigured(trouble)
        return "answers"


def _where(weights: Weights, server: ServerProfile | None = None) -> str:
    if server is not None:
        return f"{weights.name} (as {server.model} at {server.base_url}, which was not asked)"
    if weights.source == "huggingface":
        return f"{weights.name} (fetched from the hub at first use)"
    return str(weights.path)


def examine(checks: dict[str, Callable[[], str]]) -> list[Finding]:
    findings = []
    for name, check in checks.items():
        try:
            findings.append(Finding(name, "ok", check()))
        except Note as note:
            findings.append(Finding(name, "note", str(note)))
        except (PremaskError, SQLAlchemyError, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            findings.append(Finding(name, "failed", str(error).splitlines()[0]))
    return findings


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Look at this only; may be given again.")] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="First mend every project in Label Studio: configuration, storage, webhook."),
    ] = False,
) -> None:
    """Check this installation: environments, weights, services, schema, workers. Status 1 if anything failed."""
    try:
        settings = Settings()
        physician = Doctor(bootstrap(settings))
        checks = physician.checks()
    except ValidationError as error:
        raise Misconfigured(f"the settings are not valid: {error}") from error
    if unknown := set(only or ()) - set(checks):
        raise typer.BadParameter(f"no such check: {', '.join(sorted(unknown))}; there are {', '.join(checks)}")
    if repair:
        physician.repair()
    findings = examine({name: check for name, check in checks.items() if only is None or name in only})
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print_table(["", "check", ""], [(_MARKS[f.status], f.check, f.detail) for f in findings])
    failed = {finding.check for finding in findings if finding.status == "failed"}
    if failed & STARTED_BY_UP and running_stack(settings.local.state_dir) is None:
        print(f"No stack is running in {settings.local.state_dir}; `premask up` starts one.", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


_MARKS = {"ok": "✓", "note": "·", "failed": "✗"}
