"""`premask train`: System 1 learns by GRPO."""

import json
import logging
import os
import tomllib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from backend.domain.errors import BadInput, Misconfigured
from backend.profiles import ModelProfile, load_profile
from backend.settings import RewardSettings, TrainingSettings, get_settings

if TYPE_CHECKING:
    from workers.learning.downstream import Follows
    from workers.learning.items import ItemSource, TrainingItem

app = typer.Typer(no_args_is_help=True, help="Retrain System 1 by GRPO, and serve the rewards for it.")

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}

Profile = Annotated[str | None, typer.Option(help="Model profile: a name or a TOML file.")]


@app.callback()
def train() -> None:
    """Retrain System 1 by GRPO, and serve the rewards for it."""


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Folder of the training; one that was stopped goes on.")],
    items: Annotated[str, typer.Option(help="shapeworld, or the folder of a frozen data set.")] = "shapeworld",
    base: Annotated[
        Path | None, typer.Option(help="Checkpoint of System 1 to begin with; default: the profile's.")
    ] = None,
    profile: Profile = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with [training] and [reward], over the settings.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End after the step that is under way then; what was learned is kept.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the draws and of the sampling.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="shapeworld: only this kind; may be repeated.")] = None,
    level: Annotated[list[str] | None, typer.Option(help="shapeworld: only this level; may be repeated.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdict as one JSON object.")] = False,
) -> None:
    """Train: metrics.jsonl while it goes on; at the end verdict.json and, unless a guard stopped it, checkpoint/."""
    _quieten()
    training, weights = _settings(config, {"steps": steps, "seed": seed, "minutes_max": minutes})
    models = _with_base(load_profile(profile or get_settings().model.profile), base)
    source, held_out = _items(items, training, kind, level)
    from workers.learning.run import train as run_training

    _limit_threads(models)
    verdict = run_training(
        models, source, held_out, _downstream(models, training), out, training, weights,
        say=(lambda _: None) if as_json else partial(print, flush=True),
    )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        pass  # one of several processes says it
    elif as_json:
        print(json.dumps(verdict.to_json()))
    elif verdict.guard:
        print(f"stopped by the guard {verdict.guard} after {verdict.steps} steps: {verdict.reason}")
    else:
        print(f"the checkpoint is {verdict.checkpoint}")
    if verdict.guard:
        raise typer.Exit(3)


def _quieten() -> None:
    """Notices of the libraries would stand between the lines that are asked for."""
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _settings(config: Path | None, options: dict[str, Any]) -> tuple[TrainingSettings, RewardSettings]:
    settings = get_settings()
    try:
        given = tomllib.loads(config.read_text()) if config else {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"the configuration {config} can't be read: {error}") from error
    if other := sorted(given.keys() - {"training", "reward"}):
        raise BadInput(f"{config} has {', '.join(other)}; it may have the tables [training] and [reward]")
    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        training = TrainingSettings.model_validate(settings.training.model_dump() | given.get("training", {}) | chosen)
        return training, RewardSettings.model_validate(settings.reward.model_dump() | given.get("reward", {}))
    except ValidationError as error:
        raise BadInput(f"{config or 'the settings of the training'}: {error}") from error


def _with_base(profile: ModelProfile, base: Path | None) -> ModelProfile:
    if base is None:
        return profile
    if not (base / "config.json").is_file():
        raise BadInput(f"there is no checkpoint in {base}: config.json is missing")
    weights = profile.system1.weights.model_copy(
        update={"source": "path", "name": str(base.resolve()), "revision": None}
    )
    return profile.model_copy(
        update={"system1": profile.system1.model_copy(update={"weights": weights, "server": None})}
    )


def _items(
    name: str, training: TrainingSettings, kinds: list[str] | None, levels: list[str] | None
) -> tuple["ItemSource", list["TrainingItem"]]:
    """What is learned from, and what is held out."""
    if name == "shapeworld":
        from workers.shapeworld.training.items import held_out, training_scenes

        return training_scenes(training.seed, kinds, levels), held_out(training.held_out_items)
    if kinds or levels:
        raise BadInput("--kind and --level choose scenes of shapeworld; a data set is what it is")
    return _frozen(Path(name), training.seed)


def _frozen(folder: Path, seed: int) -> tuple["ItemSource", list["TrainingItem"]]:
    """The items of a folder with `train.parquet`, `holdout.parquet` and the videos as `media/<sha256>`."""
    from backend.domain.datasets import DatasetItem, Split
    from backend.services.manifests import read_manifest
    from workers.learning import frozen
    from workers.learning.items import Shuffled

    def media(row: DatasetItem) -> Path:
        path = folder / "media" / row.media_sha256
        if not path.is_file():
            raise BadInput(f"the data set in {folder} lacks the video media/{row.media_sha256}: fetch its media")
        return path

    def read(split: Split) -> "list[TrainingItem]":
        path = folder / f"{split}.parquet"
        if not path.is_file():
            raise BadInput(f"there are no items {str(folder)!r}: write shapeworld, or a folder with {path.name}")
        return frozen.items(read_manifest(path.read_bytes()), media)

    items, held_out = read(Split.TRAIN), read(Split.HOLDOUT)
    if not items or not held_out:
        raise BadInput(f"the data set in {folder} has {len(items)} items to learn from and {len(held_out)} held out")
    # The manifest's order is by video; what is measured first is to be of many.
    order = Shuffled("held out", held_out, seed=0)
    return Shuffled(f"data set {folder.name}", items, seed), [order.draw(n) for n in range(len(held_out))]


def _downstream(profile: ModelProfile, training: TrainingSettings) -> "Follows":
    """System 2 and SAM2: behind the reward service if there is one, else here."""
    from workers.learning.downstream import load_downstream, version_of

    if training.reward_url is None:
        return load_downstream(profile)
    from workers.learning.service import RemoteDownstream

    token = training.reward_token.get_secret_value() if training.reward_token else None
    remote = RemoteDownstream(
        training.reward_url, version_of(profile), token=token, timeout_s=training.reward_timeout_s
    )  # fmt: skip
    remote.check()
    return remote


@app.command("serve-rewards")
def serve_rewards(
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8010,
    profile: Profile = None,
) -> None:
    """Serve System 2 and SAM2 to trainings on other machines (training.reward_url); until Ctrl-C."""
    _quieten()
    models, settings = load_profile(profile or get_settings().model.profile), get_settings()
    token = settings.training.reward_token
    if token is None and host not in _LOOPBACK:
        raise Misconfigured(f"at {host} others can reach the service: set training.reward_token, here and there")
    from workers.learning.downstream import load_downstream, version_of
    from workers.learning.service import make_server

    _limit_threads(models)
    server = make_server(
        load_downstream(models), version_of(models), host, port, token=token.get_secret_value() if token else None
    )
    print(f"rewards are served at http://{host}:{server.server_address[1]}", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve_forever()


def _limit_threads(profile: ModelProfile) -> None:
    if profile.device == "cpu" and (threads := get_settings().worker.torch_threads or profile.cpu_threads):
        import torch

        torch.set_num_threads(threads)
