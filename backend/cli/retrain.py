"""`premask retrain`: when the learning loop turns for a project, and what became of it each time."""

from pathlib import Path
from typing import Annotated, Any

import typer

from backend.api.schemas.retraining import RetrainingOut, ScheduleOut
from backend.bootstrap import bootstrap
from backend.cli.output import AsJson, print_json, print_table, shortened
from backend.db.repositories import retraining as rows
from backend.domain.errors import BadInput
from backend.domain.retraining import OnPass
from backend.services import promotions, retraining, schedules
from backend.services.schedules import Plan, plan_of

app = typer.Typer(no_args_is_help=True, help="Learn from what people corrected: by schedule, or now.")

Project = Annotated[str, typer.Argument(help="The project's name.")]
Number = Annotated[int, typer.Argument(help="The retraining's number.")]
MinCorrections = Annotated[
    int | None, typer.Option(min=1, help="With fewer new ones nothing is done (20).")
]  # fmt: skip
Config = Annotated[Path | None, typer.Option(help="TOML file with [training] and [reward], over the settings.")]
Replay = Annotated[float | None, typer.Option(help="Share of older items in what is learned from (0.3).")]
Regression = Annotated[
    list[str] | None,
    typer.Option(help="A suite on which it must not be worse; dataset:this is its own hold-out. May be repeated."),
]
OnPassing = Annotated[OnPass | None, typer.Option(help="What becomes of one that the gate passed.")]
Budget = Annotated[float | None, typer.Option(help="Hours that it may take in all (8).")]
Notify = Annotated[list[str] | None, typer.Option(help="https://… or mailto:…; may be repeated.")]
NotifyOn = Annotated[str | None, typer.Option(help="Tell of every `end`, of each `verdict`, or of `trouble` only.")]


def _plan(
    min_corrections: int | None, config: Path | None, replay_share: float | None, regression: list[str] | None,
    on_pass: OnPass | None, budget_h: float | None, notify: list[str] | None, notify_on: str | None,
) -> Plan:  # fmt: skip
    try:
        text = config.read_text() if config else None
    except OSError as error:
        raise BadInput(f"the configuration {config} can't be read: {error}") from error
    asked: dict[str, Any] = {
        "min_corrections": min_corrections, "config": text, "replay_share": replay_share,
        "regression": tuple(regression) if regression else None, "on_pass": on_pass, "budget_h": budget_h,
        "notify": tuple(notify) if notify else None, "notify_on": notify_on,
    }  # fmt: skip
    return plan_of({name: value for name, value in asked.items() if value is not None})


@app.command()
def schedule(
    project: Project,
    cron: Annotated[str, typer.Argument(help="Minute, hour, day, month, weekday: '0 2 * * *' is every night at two.")],
    time_zone: Annotated[str, typer.Option(help="Whose clocks: an IANA name, Europe/Berlin.")] = "UTC",
    min_corrections: MinCorrections = None,
    config: Config = None,
    replay_share: Replay = None,
    regression: Regression = None,
    on_pass: OnPassing = None,
    budget_h: Budget = None,
    notify: Notify = None,
    notify_on: NotifyOn = None,
    as_json: AsJson = False,
) -> None:
    """Have the project's corrections learned from, again and again; a second call replaces the schedule."""
    plan = _plan(min_corrections, config, replay_share, regression, on_pass, budget_h, notify, notify_on)
    with bootstrap().transaction() as session:
        made = ScheduleOut.of(schedules.set_schedule(session, project, cron, time_zone, plan))
    if as_json:
        print_json(made)
    else:
        typer.echo(f"{project} is retrained next at {made.next_at:%Y-%m-%d %H:%M} UTC.")


@app.command()
def unschedule(project: Project) -> None:
    """End the schedule; what is under way goes on."""
    with bootstrap().transaction() as session:
        schedules.remove_schedule(session, project)
    typer.echo(f"{project} is retrained no more.")


@app.command("schedules")
def list_schedules(as_json: AsJson = False) -> None:
    """All schedules, by project."""
    with bootstrap().transaction() as session:
        found = [ScheduleOut.of(row) for row in schedules.schedules(session)]
    if as_json:
        print_json(found)
        return
    lines = [(s.project, s.cron, s.time_zone, s.next_at, s.plan["min_corrections"], s.plan["on_pass"]) for s in found]
    print_table(("project", "cron", "zone", "next, UTC", "corrections", "if it passes"), lines)


@app.command()
def now(
    project: Project,
    min_corrections: MinCorrections = None,
    config: Config = None,
    replay_share: Replay = None,
    regression: Regression = None,
    on_pass: OnPassing = None,
    budget_h: Budget = None,
    notify: Notify = None,
    notify_on: NotifyOn = None,
    as_json: AsJson = False,
) -> None:
    """Once, at once: by the project's schedule, or with any option by these alone."""
    given = (min_corrections, config, replay_share, regression, on_pass, budget_h, notify, notify_on)
    plan = _plan(*given) if any(value is not None for value in given) else None
    with bootstrap().transaction() as session:
        made = schedules.ask_now(session, project, promotions.whoami(), plan)
        told = RetrainingOut.of(rows.get(session, made.id), None)
    _print(told, as_json)


@app.command("list")
def list_retrainings(
    project: Annotated[str | None, typer.Option(help="Only of this project.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """Newest first."""
    with bootstrap().transaction() as session:
        found = [RetrainingOut.of(r, retraining.eta(session, r)) for r in rows.page(session, limit, None, project)]
    if as_json:
        print_json(found)
        return
    lines = [
        (r.id, r.project, f"{r.due_at:%Y-%m-%d %H:%M}", _where(r), r.corrections, shortened(r.said)) for r in found
    ]
    print_table(("id", "project", "due, UTC", "state", "corrections", "said"), lines)


@app.command()
def show(number: Number, as_json: AsJson = False) -> None:
    """How far it is, or how it ended."""
    with bootstrap().transaction() as session:
        row = rows.get(session, number)
        told = RetrainingOut.of(row, retraining.eta(session, row))
    _print(told, as_json)


@app.command()
def cancel(number: Number, as_json: AsJson = False) -> None:
    """End it, wherever it is; a training that is under way is stopped."""
    with bootstrap().transaction() as session:
        told = RetrainingOut.of(retraining.cancel(session, number, promotions.whoami()), None)
    _print(told, as_json)


def _where(told: RetrainingOut) -> str:
    if told.state != "running" or told.stage is None:
        return told.state
    until = f", until {told.eta_at:%H:%M} UTC" if told.eta_at else ""
    return f"{told.stage} {told.stage_progress:.0%}{until}"


def _print(told: RetrainingOut, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    spent = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in told.timings_s.items())
    lines = [
        ("retraining", told.id), ("project", told.project), ("asked by", told.who), ("due, UTC", told.due_at),
        ("state", _where(told)), ("said", told.said), ("corrections", told.corrections), ("data set", told.dataset),
        ("base", told.base), ("candidate", told.candidate), ("verdict", told.verdict), ("seconds", spent or None),
        *((name, value) for name, value in told.figures.items()),
        *((f"told {n.address}", n.sent_at or n.problem) for n in told.notices),
    ]  # fmt: skip
    print_table(("", ""), lines)
