"""`premask rehearse`: the learning loop on this machine, nights in a row, with a simulated annotator.

A stack of its own is started with a System 1 that is weak on one kind of instruction. Each day clips of that kind come
in and are corrected through Label Studio's API; each night the schedule comes due. Nothing here trains, measures or
promotes: that is the product's own doing, and this watches.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backend.domain.errors import BadInput
from backend.profiles import load_profile
from backend.settings import Settings
from integrations.local.session import Interrupted, run
from integrations.local.stack import Stack

if TYPE_CHECKING:
    from workers.rehearsal.clips import Clip

app = typer.Typer()

#: What a rehearsal's stack has other than a real one: it is to be over sometime, and has few videos.
_ENVIRONMENT = {
    "PREMASK__DATASETS__HOLDOUT_SHARE": "0.5",
    "PREMASK__LABEL_STUDIO__POLL_INTERVAL_S": "5",
    "PREMASK__RETRAINING__LOOK_INTERVAL_S": "2",
    "PREMASK__RETRAINING__MIN_FREE_GIB": "1",
    "PREMASK__RETRAINING__GATE_JOBS": str(os.cpu_count() or 1),
    # The two models are measured one after the other, on a machine that does everything else besides.
    "PREMASK__GATE__LATENCY_RATIO": "5",
}
_PROFILE = "shapeworld"
#: So many seeds of seven kinds that one clip more lost than gained, as chance has it, is less than `gate.epsilon`; of
#: the levels that a rehearsal's clips have, as hard ones are several times as long.
_REGRESSION, _LEVELS = "shapeworld:validation:200000:200020", "easy,medium"


@app.command()
def rehearse(
    nights: Annotated[int, typer.Option(min=1, help="How many.")] = 3,
    kind: Annotated[str, typer.Option(help="The kind of instruction that the base is weak on.")] = "direction",
    clips: Annotated[int, typer.Option(min=2, help="That come in each day.")] = 200,
    others_every: Annotated[
        int, typer.Option(min=0, help="Each so manieth clip is of another kind, lest the others be forgotten; 0: none.")
    ] = 6,
    steps: Annotated[int, typer.Option(min=1, help="Of GRPO, each night.")] = 36,
    regression: Annotated[
        list[str] | None, typer.Option(help="Suites of the gate on which it must not be worse.")
    ] = None,
    min_videos: Annotated[int, typer.Option(min=2, help="`gate.min_videos` of the rehearsal.")] = 20,
    base: Annotated[
        Path | None, typer.Option(help="A weak System 1 that is there already; default: it is made.")
    ] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Every clip gets another clip's truth: the gate must refuse.")
    ] = False,
    state_dir: Annotated[Path, typer.Option(help="Data, logs and the weak base; a folder of its own.")] = Path(
        ".premask-rehearsal"
    ),
    picture: Annotated[Path | None, typer.Option(help="A PNG to draw the nights into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, progress on stderr.")] = False,
) -> None:
    """Nights of the learning loop in a row, on a base that is weak on purpose; status 1 unless each ended as it ought
    to: promoted, or, with --shuffled, refused."""
    from workers.rehearsal.clips import of_night, other_kinds
    from workers.rehearsal.picture import draw
    from workers.shapeworld.world.queries import ASKED_KINDS, Kind

    if kind not in {str(one) for one in ASKED_KINDS} - {str(Kind.SOUND)}:
        raise BadInput(f"no kind that can be rehearsed: {kind}")
    if (state_dir / "state.json").exists():
        raise BadInput(f"{state_dir} holds another rehearsal, or a stack; name another folder with --state-dir")
    state_dir.mkdir(parents=True, exist_ok=True)
    say = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    profile = _profile(state_dir, kind, base, say)
    os.environ.update(_ENVIRONMENT, PREMASK__MODEL__PROFILE=str(profile), PREMASK__GATE__MIN_VIDEOS=str(min_videos))
    suites = tuple(regression or (f"{_REGRESSION}:{','.join(other_kinds(kind))}:{_LEVELS}",))
    stack = Stack(state_dir, quiet=as_json, label_studio_venv=Settings().local.label_studio_venv)

    days = [of_night(night, clips, Kind(kind), others_every) for night in range(1, nights + 1)]

    async def work(started: Stack) -> int:
        os.environ.update(started.environment)
        started.console.hush()
        report = await asyncio.to_thread(_rehearse, days, kind, steps, suites, shuffled, say, state_dir / "nights.json")
        if picture is not None:
            draw(report, picture)
        typer.echo(json.dumps(report, ensure_ascii=False) if as_json else _table(report))
        return 0 if report["ok"] else 1

    try:
        raise SystemExit(asyncio.run(run(stack, work)))
    except Interrupted:
        raise SystemExit(130) from None


def _profile(folder: Path, kind: str, base: Path | None, say: Callable[[str], None]) -> Path:
    """The profile of the rehearsal: the shipped one, but for a System 1 that is weak on that kind."""
    from workers.rehearsal.weak import weaken
    from workers.shapeworld.world.queries import Kind

    profile = load_profile(_PROFILE)
    checkpoint = base or folder / f"weak-{kind}"
    if not (checkpoint / "config.json").exists():
        say(f"making a System 1 that is weak on {kind} (some minutes)")
        weaken(profile, Kind(kind), checkpoint)
    weights = profile.system1.weights.model_copy(
        update={"source": "path", "name": str(checkpoint.resolve()), "revision": None,
                "trained_on": f"{profile.system1.weights.trained_on}, then spoilt on {kind}"}
    )  # fmt: skip
    made = profile.model_copy(update={"system1": profile.system1.model_copy(update={"weights": weights})})
    path = folder / "profile.json"
    path.write_text(made.model_dump_json(indent=2))
    return path


def _rehearse(
    days: "Sequence[Sequence[Clip]]",
    kind: str,
    steps: int,
    suites: tuple[str, ...],
    shuffled: bool,
    say: Callable[[str], None],
    kept: Path,
) -> dict[str, Any]:
    """The report; `kept` has it of the nights so far, for a rehearsal that is ended before its last."""
    from backend.bootstrap import bootstrap
    from backend.services.schedules import Plan
    from workers.rehearsal.nights import Rehearsal

    config = (Path(__file__).parent / "rehearsal.toml").read_text().replace("STEPS", str(steps))
    plan = Plan(min_corrections=1, config=config, regression=suites, budget_h=3.0, replay_share=0.3)
    container = bootstrap(Settings())
    try:
        rehearsal = Rehearsal(container, plan, say, shuffled=shuffled)
        rehearsal.begin([clip for day in days for clip in day])
        told: list[dict[str, Any]] = []
        report: dict[str, Any] = {}
        for number, day in enumerate(days, start=1):
            told.append(rehearsal.night(number, day))
            ok = all(one["state"] == ("refused" if shuffled else "promoted") for one in told)
            report = {"kind": kind, "shuffled": shuffled, "nights": told, "ok": ok}
            kept.write_text(json.dumps(report, ensure_ascii=False, indent=2))
    finally:
        container.close()
    return report


def _table(report: dict[str, Any]) -> str:
    lines = [
        f"J&F on {report['kind']}, and on all, of each night's fresh videos",
        f"{'night':>5}  {'state':<9} {'before':>6} {'after':>6}  {'gain (95%)':<24}  {'on all (95%)':<24}"
        f" {'edits a task':>12}",
    ]
    for night in report["nights"]:
        fresh = next((suite for suite in night["held_out"] if suite["role"] == "fresh"), None)
        figures = f"{'–':>6} {'–':>6}  {'–':<24}  {'–':<24}"
        if fresh and (weak := fresh["kinds"].get(report["kind"])):
            before, after = weak["champion_jf"], weak["candidate_jf"]
            figures = f"{before:>6.3f} {after:>6.3f}  {_gain(weak):<24}  {_gain(fresh['all']):<24}"
        lines.append(f"{night['night']:>5}  {night['state']:<9} {figures} {night['edits_per_task']:>12.2f}")
    return "\n".join(lines)


def _gain(compared: dict[str, Any]) -> str:
    gain = compared["difference"]
    return f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
