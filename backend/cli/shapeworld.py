"""`premask shapeworld`: the proving ground, where the small models are trained and measured."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from backend.domain.errors import BadInput
from backend.profiles import ModelProfile, load_profile
from backend.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="The proving ground: train the small models, and measure any.")

ModelName = Literal["segmenter", "system1", "system2"]


@app.callback()
def shapeworld() -> None:
    """The proving ground: train the small models, and measure any, on clips with known truth."""


@app.command()
def train(
    model: Annotated[ModelName, typer.Argument(help="Which of the three.")],
    out: Annotated[Path, typer.Option(help="Folder of the training; one that was stopped goes on.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the weights and of the scenes.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    eyes: Annotated[
        Path | None, typer.Option(help="System 1 only: the checkpoint of the System 2 it begins with.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of the training itself, on a CPU.")] = 1,
    loaders: Annotated[int, typer.Option(min=0, help="Processes that render ahead.")] = 1,
    minutes: Annotated[float | None, typer.Option(help="Stop after that time; the next call goes on.")] = None,
) -> None:
    """Train one model from nothing: progress on the screen, curve.jsonl, state.pt, and at the end checkpoint/."""
    from workers.shapeworld.training.command import train as run

    finished = run(
        model, out, seed=seed, device=device, eyes=eyes, threads=threads, loaders=loaders,
        stop_after_s=None if minutes is None else minutes * 60,
    )  # fmt: skip
    done = f"the checkpoint is {out / 'checkpoint'}" if finished else "stopped and saved; the same command goes on"
    print(done)


@app.command()
def evaluate(
    seeds: Annotated[str | None, typer.Option(help="A:B, from A up to B - 1; default: 300 of the split.")] = None,
    split: Annotated[str, typer.Option(help="test, unseen or validation.")] = "test",
    level: Annotated[str | None, typer.Option(help="easy, medium or hard; default: going round.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of instruction; may be repeated.")] = None,
    part: Annotated[
        list[str] | None, typer.Option(help="Only this: pipeline, system1, system2 or segmenter; may be repeated.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Model profile: a name or a TOML file.")] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="MODEL=PATH: these weights instead of the profile's; may be repeated.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that measure.")] = 1,
    ledger: Annotated[Path | None, typer.Option(help="Write each clip's scores here; go on with what it has.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Each model alone with true input, and the whole pipeline: a clip of every kind for each seed, 95% intervals."""
    from workers.shapeworld.evaluation import campaign
    from workers.shapeworld.evaluation.figures import figures

    wanted = campaign.cases(
        campaign.seeds(seeds, split), campaign.kinds(kind), campaign.levels([level] if level else None)
    )
    chosen = _with_checkpoints(load_profile(profile or get_settings().model.profile), checkpoint or [])

    def show(done: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{done} of {len(wanted)} clips", end="", file=sys.stderr, flush=True)

    parts = campaign.parts(part)
    scores = campaign.run(chosen, get_settings().pipeline, wanted, parts=parts, jobs=jobs, ledger=ledger, on_clip=show)
    found = figures(scores)
    if as_json:
        print(json.dumps(found))
    else:
        _print_table(found)


@app.command()
def compare(
    ledgers: Annotated[list[Path], typer.Argument(help="What evaluate --ledger wrote, one of each training.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Several trainings side by side: each figure on the clips that all of them were measured on, and their median."""
    from backend.cli.output import print_table
    from workers.shapeworld.evaluation import trainings

    found = trainings.compare(ledgers)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    rows = [
        (" ".join(path), f"{row.median:.3f}", *(f"{value:.3f}" for value in row.values), row.clips)
        for path, row in found.rows.items()
    ]
    print_table(("figure", "median", *(ledger.stem for ledger in ledgers), "of"), rows)
    print(f"{found.clips} clips that all were measured on; {found.left_out} of some only are left out")


@app.command()
def calibrate(
    seeds: Annotated[str, typer.Option(help="A:B of validation clips to fit by, one of every kind for each.")],
    check: Annotated[str, typer.Option(help="A:B of other validation clips to measure the fit by.")],
    right_iou: Annotated[
        float, typer.Option(min=0.01, max=1, help="A track counts as right from this mean IoU with the truth on.")
    ] = 0.75,
    profile: Annotated[str | None, typer.Option(help="Model profile: a name or a TOML file.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that measure.")] = 1,
    ledger: Annotated[Path | None, typer.Option(help="Write each clip's scores here; go on with what it has.")] = None,
    picture: Annotated[Path | None, typer.Option(help="A PNG to draw the reliability into.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find what the evidence for tracks, boxes and masks says of their being right, for a profile's tables
    [confidence]; and how well that holds on other clips, beside the profile's tables as they are and the models' own
    estimates."""
    from workers.evaluation.reliability_picture import draw
    from workers.shapeworld.evaluation import calibrating, campaign
    from workers.shapeworld.evaluation.scores import Part

    chosen = load_profile(profile or get_settings().model.profile)
    both = [campaign.cases(campaign.seeds(text, "validation")) for text in (seeds, check)]
    if set(both[0]) & set(both[1]):
        raise BadInput("the clips to fit by and those to measure by must be others")
    scores = campaign.run(
        chosen, get_settings().pipeline, [*both[0], *both[1]], parts=(Part.PIPELINE,), jobs=jobs, ledger=ledger
    )
    before = chosen.confidence.functions() if chosen.confidence else None
    found = calibrating.calibrated(scores[: len(both[0])], scores[len(both[0]) :], right_iou, before)
    if picture is not None:
        draw({name: (one.calibrated, one.own) for name, one in found.parts.items()}, picture)
    print(json.dumps(found.to_json()) if as_json else found.told())


def _with_checkpoints(profile: ModelProfile, assignments: list[str]) -> ModelProfile:
    """The profile with other weights for some of its models."""
    for assignment in assignments:
        model, _, path = assignment.partition("=")
        if model not in ("segmenter", "system1", "system2") or not path:
            raise BadInput(f"{assignment!r} is no checkpoint; write MODEL=PATH, as system1=runs/seed1/checkpoint")
        part = getattr(profile, model)
        weights = (part.weights or profile.system1.weights).model_copy(
            update={"source": "path", "name": str(Path(path).resolve()), "revision": None}
        )
        # Weights from here can't be those on a server.
        update = {"weights": weights} if model == "segmenter" else {"weights": weights, "server": None}
        profile = profile.model_copy(update={model: part.model_copy(update=update)})
    return profile


def _print_table(found: dict[str, Any]) -> None:
    """A row for each figure: over all clips with its interval, then the value at each level."""
    from backend.cli.output import print_table
    from workers.shapeworld.evaluation.figures import flat

    levels = {level: flat(node) for level, node in found["levels"].items()}

    def value(figure: dict[str, Any] | None) -> str:
        return "" if figure is None or figure["value"] is None else f"{figure['value']:.3f}"

    rows = []
    for path, figure in flat(found).items():
        interval = "" if figure["value"] is None else f"{figure['low']:.3f} to {figure['high']:.3f}"
        each = (value(level.get(path)) for level in levels.values())
        rows.append((" ".join(path), value(figure), interval, figure["n"], *each))
    print_table(("figure", "all", "95% interval", "of", *levels), rows)
