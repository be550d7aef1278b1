"""`premask models add` and `premask models gate`: a candidate is made, and measured beside the champion."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.api.schemas.models import ModelVersionDetail
from backend.bootstrap import Container, bootstrap
from backend.cli.output import AsJson, print_json, print_table
from backend.db.repositories import models as rows
from backend.domain.datasets import DatasetItem, Split
from backend.domain.errors import BadInput, ServiceUnavailable
from backend.profiles import ModelProfile
from backend.services import models, promotions

if TYPE_CHECKING:
    from workers.evaluation.gate import Role, Verdict
    from workers.evaluation.suites import Model, Suite

#: The gate measured the candidate and refused it; 1 is for what could not be done.
REFUSED = 3

Weights = Annotated[Path | None, typer.Option(help="A checkpoint: a folder or a file.")]
SUITE_HELP = (
    "dataset:DIGEST (what it holds out; if fresh, what is new of that), shapeworld:SPLIT[:A:B[:KIND,…[:LEVEL,…]]], or "
    "a folder in the layout of MeViS; may be given more than once."
)
_DATASET = "dataset:"


def add(
    trained_on: Annotated[str, typer.Option(help="What the new weights learned from, in a sentence.")],
    system1: Weights = None,
    system2: Weights = None,
    segmenter: Weights = None,
    parent: Annotated[
        str | None, typer.Option(help="The version they were trained from; default: the champion.")
    ] = None,
    origin: Annotated[str | None, typer.Option(help="A JSON object: data set, steps, kl, …")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a model version of a parent's profile and new weights; all of it goes into the artifact bucket."""
    container = bootstrap()
    given = {"system1": system1, "system2": system2, "segmenter": segmenter}
    paths = {role: path.resolve() for role, path in given.items() if path is not None}
    if not paths:
        raise BadInput("name at least one checkpoint: --system1, --system2 or --segmenter")
    with container.transaction() as session:
        if parent is None:
            before = rows.get(session, promotions.champion_of(session, container.profile))
        else:
            before = rows.by_digest(session, parent)
    base = ModelProfile.model_validate(before.profile)
    profile = models.publish_profile(container.store, container.settings.storage, base, paths, trained_on)
    with container.transaction() as session:
        version = models.register(session, profile, before.digest, _origin(origin))
        made = ModelVersionDetail.whole(*models.whole(session, version.digest))
    if container.registry is not None:
        try:
            models.show_in_registry(container.registry, version, container.settings.storage)
        except ServiceUnavailable as error:
            typer.echo(f"It is there; but MLflow was not told: {error}", err=True)
    if as_json:
        print_json(made)
    else:
        typer.echo(f"Model version {made.digest} of {made.profile_name}.")


def _origin(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"--origin is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput("--origin must be a JSON object")
    return found


def gate(
    digest: Annotated[str, typer.Argument(help="The candidate's digest, or enough of its beginning.")],
    fresh: Annotated[list[str], typer.Option(help=f"It must be better here. {SUITE_HELP}")],
    regression: Annotated[list[str], typer.Option(help=f"It must not be worse here. {SUITE_HELP}")],
    jobs: Annotated[int, typer.Option(min=1, help="Processes that measure on the proving ground.")] = 1,
    ledgers: Annotated[
        Path | None, typer.Option(help="Folder for scores, so that a champion is measured once.")
    ] = None,
    page: Annotated[Path | None, typer.Option(help="Write the verdict's page here, too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a candidate and the champion on the same videos, and judge; status 3 if it is refused."""
    from workers.evaluation.gate import Role, judge
    from workers.evaluation.report import page as page_of
    from workers.evaluation.suites import measure
    from workers.shapeworld.evaluation.suite import suite_of

    container = bootstrap()

    def suite(text: str, role: Role) -> "Suite":
        of_dataset = text.startswith(_DATASET)
        return _hold_out(container, text, role) if of_dataset else suite_of(text, role, jobs, ledgers)

    suites = [*(suite(text, Role.FRESH) for text in fresh), *(suite(text, Role.REGRESSION) for text in regression)]
    with container.transaction() as session:
        candidate = rows.by_digest(session, digest)
        champion = promotions.leading(session, candidate.profile_name, container.profile)
    if candidate.id == champion.id:
        raise BadInput(f"model version {candidate.digest[:12]} is the champion itself")
    kl = _kl_of(candidate.origin)
    with ExitStack() as holds:
        one, other = (_model(container, row.digest, row.profile, holds) for row in (champion, candidate))
        scores = measure(suites, one, other, _show_progress)
    verdict = judge(candidate.digest, champion.digest, scores, container.settings.gate, kl)
    html = page_of(verdict)
    _keep(container, verdict, html)
    if page is not None:
        page.write_text(html)
    _print(verdict, as_json)
    if not verdict.passed:
        raise typer.Exit(REFUSED)


def _hold_out(container: Container, text: str, role: "Role") -> "Suite":
    """What the named data set holds out, as a fresh suite only what is new in it; videos are fetched when they are
    looked at."""
    # They bring Arrow, which other commands needn't wait for.
    from backend.cli.datasets import named
    from backend.services import dataset_files
    from workers.evaluation.gate import Role
    from workers.evaluation.suites import holdout

    store, storage = container.store, container.settings.storage
    with container.transaction() as session:
        dataset = named(session, text.removeprefix(_DATASET))
    only_new = role is Role.FRESH
    held_out = dataset_files.read_items(store, storage, dataset, Split.HOLDOUT)
    items = [item for item in held_out if item.fresh or not only_new]

    @contextmanager
    def fetched(item: DatasetItem) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="premask-suite-") as folder:
            dataset_files.fetch_media(store, storage, [item], Path(folder))
            yield Path(folder) / item.media_sha256

    name = f"{_DATASET}{dataset.digest[:12]}{', what is new' if only_new else ''}"
    suite = holdout(name, role, items, fetched)
    if not suite.items:
        raise BadInput(f"{name}: nothing is held out whose masks people saw")
    return suite


def _kl_of(origin: dict[str, Any]) -> float | None:
    kl = origin.get("kl")
    if kl is not None and (isinstance(kl, bool) or not isinstance(kl, int | float)):
        raise BadInput(f"the candidate's origin says that its KL is {kl!r}, which is no number")
    return kl


def _model(container: Container, digest: str, stored: dict[str, object], holds: ExitStack) -> "Model":
    from workers.evaluation.suites import Model
    from workers.models import on_this_machine, profile_of

    profile = holds.enter_context(on_this_machine(container, profile_of(container, digest, stored)))
    return Model(digest, profile, container.settings.pipeline)


def _show_progress(what: str, done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done} items\x1b[K", end="", file=sys.stderr, flush=True)


def _keep(container: Container, verdict: "Verdict", html: str) -> None:
    """The page in the artifact bucket, the verdict in the database."""
    storage = container.settings.storage
    key = f"{storage.artifact_prefix}verdicts/{verdict.digest}.html"
    container.store.put(storage.artifact_bucket, key, html.encode(), "text/html; charset=utf-8")
    # As JSON has it: tuples are lists, and names are strings.
    body = json.loads(json.dumps(verdict.to_json()))
    kept = promotions.Verdict(verdict.digest, verdict.candidate, verdict.champion, verdict.passed, body, key)
    with container.transaction() as session:
        promotions.record_verdict(session, kept)


def _print(verdict: "Verdict", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(verdict.to_json() | {"digest": verdict.digest}, ensure_ascii=False, indent=2))
        return
    words = {True: "passed", False: "FAILED", None: "not measured"}
    print_table(("check", "", "found"), [(check.name, words[check.passed], check.said) for check in verdict.checks])
    typer.echo(f"Verdict {verdict.digest[:12]}: {'may be promoted' if verdict.passed else 'refused'}.")
