"""`premask shapeworld`: the proving ground, where the small models are measured."""

import json
import sys
from typing import Annotated, Any

import typer

from backend.domain.errors import BadInput
from backend.profiles import load_profile
from backend.settings import get_settings

app = typer.Typer(no_args_is_help=True, help="The proving ground: measure the models on clips with known truth.")

#: The seeds no training of ours may render.
TEST_SEEDS = range(10_000, 10_060)


@app.callback()
def shapeworld() -> None:
    """The proving ground: measure the models on clips with known truth."""


@app.command()
def evaluate(
    seeds: Annotated[str | None, typer.Option(help="A:B, from A up to B - 1; default: the test split.")] = None,
    split: Annotated[str, typer.Option(help="Only `test` so far.")] = "test",
    profile: Annotated[str | None, typer.Option(help="Model profile: a name or a TOML file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Each model alone with true input, and the whole pipeline: five clips a seed, figures with 95% intervals."""
    if split != "test":
        raise BadInput(f"there is no split {split!r}; there is: test")
    chosen = TEST_SEEDS if seeds is None else _seeds(seeds)
    settings = get_settings()
    from workers.pipeline.omni import load_pipeline
    from workers.shapeworld.evaluate import Scores
    from workers.shapeworld.evaluate import evaluate as run

    pipeline = load_pipeline(
        load_profile(profile or settings.model.profile), settings.pipeline, settings.worker.torch_threads
    )

    def show(scores: Scores) -> None:
        if sys.stderr.isatty():
            print(f"\r{scores.clips} clips", end="", file=sys.stderr, flush=True)

    figures = run(pipeline, chosen, show).to_json()
    if as_json:
        print(json.dumps(figures))
    else:
        _print_table(figures)


def _seeds(text: str) -> range:
    first, _, end = text.partition(":")
    if not (first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise BadInput(f"{text!r} is no range of seeds; write A:B, as 0:10")
    return range(int(first), int(end))


def _print_table(figures: dict[str, Any]) -> None:
    from rich.console import Console

    from backend.cli.output import table

    rows = []

    def collect(prefix: str, node: dict[str, Any]) -> None:
        if set(node) == {"value", "low", "high", "n"}:
            rows.append((prefix, node["value"], f"{node['low']} to {node['high']}", node["n"]))
            return
        for key, child in node.items():
            collect(f"{prefix} {key}".strip(), child)

    collect("", {key: value for key, value in figures.items() if key != "n"})
    Console(highlight=False).print(table(("figure", "value", "95% interval", "of"), rows))
