"""`premask models`: who answers, who may, and who did."""

from collections.abc import Sequence
from typing import Annotated

import typer
from sqlalchemy.orm import Session

from backend.api.schemas.models import ModelVersionDetail, ModelVersionOut, PromotionOut, ShadowFiguresOut
from backend.api.schemas.projects import ProjectOut
from backend.bootstrap import Container, bootstrap
from backend.cli import model_gate
from backend.cli.output import AsJson, print_json, print_table, shortened
from backend.db.repositories import models as rows
from backend.db.tables import Promotion
from backend.domain.errors import NotFound, ServiceUnavailable
from backend.domain.promotions import Alias
from backend.services import models, promotions, shadows

app = typer.Typer(no_args_is_help=True, help="Model versions: who answers, who may, and who did.")
app.command("add")(model_gate.add)
app.command("gate")(model_gate.gate)

Digest = Annotated[str, typer.Argument(help="A model version's digest, or enough of its beginning.")]
Why = Annotated[str, typer.Option(help="Kept in the history.")]
Who = Annotated[str | None, typer.Option(help="Kept in the history; default: the user of this process.")]
Profile = Annotated[str | None, typer.Option(help="The model profile; default: the settings'.")]
_SHOWN = 12


@app.command("list")
def list_versions(
    profile: Profile = None, limit: Annotated[int, typer.Option(min=1)] = 50, as_json: AsJson = False
) -> None:
    """Newest first, of all profiles unless one is named."""
    with bootstrap().transaction() as session:
        found = [ModelVersionOut.of(*one) for one in models.page(session, limit, None, profile)]
    if as_json:
        print_json(found)
    else:
        print_table(("version", "profile", "is", "from", "System 1 trained on"), [_row(version) for version in found])


@app.command()
def show(digest: Digest, as_json: AsJson = False) -> None:
    """One version with its origin and what the gate said of it."""
    with bootstrap().transaction() as session:
        version = ModelVersionDetail.whole(*models.whole(session, digest))
    if as_json:
        print_json(version)
        return
    print_table(("version", "profile", "is", "from", "System 1 trained on"), [_row(version)])
    typer.echo(f"\nDigest: {version.digest}")
    for name, value in version.origin.items():
        typer.echo(f"{name}: {value}")
    print_table(
        ("verdict", "against", "passed", "why not", "at"),
        [
            (v.digest[:_SHOWN], v.champion[:_SHOWN], v.passed, "; ".join(v.reasons), f"{v.created_at:%F %R}")
            for v in version.verdicts
        ],
    )


@app.command()
def promote(digest: Digest, why: Why, who: Who = None, as_json: AsJson = False) -> None:
    """Make a version the champion: only one that the gate has passed against the present one.

    Workers take it at their next claim.
    """
    container = bootstrap()
    with container.transaction() as session:
        row = promotions.promote(session, digest, base=container.profile, who=_who(who), why=why)
        change = _told(session, row)
    _tell(container, change, as_json)


@app.command()
def rollback(
    why: Why,
    profile: Profile = None,
    to: Annotated[str | None, typer.Option(help="A version that led before; default: the one before this.")] = None,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Give the place back to the version that had it before the champion."""
    container = bootstrap()
    name = profile or container.profile.name
    with container.transaction() as session:
        row = promotions.rollback(session, name, base=container.profile, who=_who(who), why=why, to=to)
        change = _told(session, row)
    _tell(container, change, as_json)


@app.command()
def challenge(
    digest: Digest,
    why: Why,
    share: Annotated[float, typer.Option(help="Of new videos, above 0 and up to 1.")] = 0.1,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Let a version run beside the champion on some of the videos, unpublished."""
    container = bootstrap()
    with container.transaction() as session:
        row = promotions.challenge(session, digest, share, base=container.profile, who=_who(who), why=why)
        change = _told(session, row)
    _tell(container, change, as_json)


@app.command()
def withdraw(why: Why, profile: Profile = None, who: Who = None, as_json: AsJson = False) -> None:
    """End the challenge; its runs that wait are cancelled."""
    container = bootstrap()
    with container.transaction() as session:
        row = promotions.withdraw(session, profile or container.profile.name, who=_who(who), why=why)
        change = _told(session, row)
    _tell(container, change, as_json)


@app.command()
def history(profile: Profile = None, limit: Annotated[int, typer.Option(min=1)] = 50, as_json: AsJson = False) -> None:
    """Every change of champion and challenger, newest first."""
    with bootstrap().transaction() as session:
        found = [PromotionOut.of(row) for row in promotions.history(session, limit, None, profile)]
    if as_json:
        print_json(found)
        return
    columns = ("at", "profile", "alias", "action", "version", "before", "verdict", "share", "who", "why")
    print_table(columns, [_change(row) for row in found])


@app.command()
def pin(
    project: Annotated[str, typer.Argument(help="The project's name.")], digest: Digest, as_json: AsJson = False
) -> None:
    """Have a project's runs made with this version, whoever is champion."""
    _pin(project, digest, as_json)


@app.command()
def follow(project: Annotated[str, typer.Argument(help="The project's name.")], as_json: AsJson = False) -> None:
    """Have a pinned project follow the champion of its profile again."""
    _pin(project, None, as_json)


@app.command()
def compare(
    digest: Annotated[str | None, typer.Argument(help="Default: the challenger.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many pairs.")] = 50,
    as_json: AsJson = False,
) -> None:
    """What a challenger found beside the champion."""
    container = bootstrap()
    with container.transaction() as session:
        if digest is None:
            digest = promotions.aliases(session, container.profile.name)[Alias.CHALLENGER]
        if digest is None:
            raise NotFound(f"nobody challenges the champion of {container.profile.name}")
        version = rows.by_digest(session, digest)
        found = ShadowFiguresOut.model_validate(shadows.compare(session, version.profile_name, version.digest, limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("run", "shadow", "project", "champion", "champion found", "challenger found", "agreement", "s", "shadow, s"),
        [
            (p.run_id, p.shadow_run_id, p.project, p.champion_digest[:_SHOWN], p.champion_found, p.challenger_found,
             f"{p.agreement:.3f}", f"{p.champion_s:.1f}", f"{p.challenger_s:.1f}")
            for p in found.pairs
        ],
    )  # fmt: skip
    if found.pairs:
        counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.found.items())
        typer.echo(
            f"Found something: {counts}. Mean agreement {found.agreement:.3f}, {found.latency_ratio:.2f} times as long."
        )


def _pin(project: str, digest: str | None, as_json: bool) -> None:
    with bootstrap().transaction() as session:
        row = ProjectOut.model_validate(promotions.pin(session, project, digest))
    if as_json:
        print_json(row)
    else:
        typer.echo(f"Project {project} follows the champion." if digest is None else f"Project {project} is pinned.")


def _who(said: str | None) -> str:
    return said or promotions.whoami()


def _told(session: Session, row: Promotion) -> PromotionOut:
    session.refresh(row)
    return PromotionOut.of(row)


def _tell(container: Container, change: PromotionOut, as_json: bool) -> None:
    if as_json:
        print_json(change)
    else:
        who = "nobody" if change.version is None else change.version[:_SHOWN]
        before = "nobody" if change.previous is None else change.previous[:_SHOWN]
        typer.echo(f"{change.alias.capitalize()} of {change.profile_name} is {who}, before: {before}.")
    registry = container.registry
    if registry is not None:
        try:
            models.mirror(container.sessions, registry, change.profile_name, container.settings.storage)
        except ServiceUnavailable as error:
            typer.echo(f"It is done; but MLflow was not told, the next change will: {error}", err=True)


def _row(version: ModelVersionOut) -> tuple[object, ...]:
    parent = None if version.parent is None else version.parent[:_SHOWN]
    return (
        version.digest[:_SHOWN], version.profile_name, ", ".join(version.aliases), parent, shortened(version.trained_on)
    )  # fmt: skip


def _change(row: PromotionOut) -> Sequence[object]:
    short = [None if digest is None else digest[:_SHOWN] for digest in (row.version, row.previous, row.verdict)]
    return (f"{row.created_at:%F %R}", row.profile_name, row.alias, row.action, *short, row.share, row.who, row.why)
