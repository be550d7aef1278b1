"""`premask datasets`: freeze what was reviewed, look at data sets, check them, and hand them to other programs."""

from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from sqlalchemy.orm import Session

from backend.api.schemas.datasets import DatasetOut
from backend.bootstrap import bootstrap
from backend.cli.output import AsJson, print_json, print_table
from backend.db.repositories import datasets as rows
from backend.db.tables import Dataset
from backend.domain.datasets import Split
from backend.domain.errors import BadInput, NotFound
from integrations.exports.layouts import Layout
from integrations.imports.layouts import PublicLayout

app = typer.Typer(no_args_is_help=True, help="Frozen data sets: make, look at, check and export them.")

Digest = Annotated[str, typer.Argument(help="The data set's digest, the beginning of it, or `latest`.")]
#: Instead of a digest: the data set that was frozen last.
_LATEST = "latest"
_SHOWN = 12


@app.callback()
def group() -> None:
    """Frozen data sets: make, look at, check and export them."""


@app.command()
def freeze(
    projects: Annotated[list[str], typer.Argument(help="The projects whose reviews are taken.")],
    parent: Annotated[
        str | None, typer.Option(help="What it goes on from, a digest or `latest`: only what is new since is fresh.")
    ] = None,
    replay_share: Annotated[float, typer.Option(help="Share of training items drawn from the parents'.")] = 0.0,
    avs_share: Annotated[float | None, typer.Option(help="Share of items in mode avs; default: as they come.")] = None,
    max_per_annotator: Annotated[int | None, typer.Option(help="Items of one person.")] = None,
    max_per_source: Annotated[int | None, typer.Option(help="Items of one video.")] = None,
    reviewed_until: Annotated[datetime | None, typer.Option(help="Only reviews until then, UTC.")] = None,
    with_empty: Annotated[bool, typer.Option(help="Keep items of which people say that nothing fits.")] = True,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Freeze the reviewed items of these projects, each with its truth and its video; a repeat finds what is there."""
    from backend.services import datasets
    from backend.services.selection import FreezeQuery

    container = bootstrap()
    with container.transaction() as session:
        found = None if parent is None else named(session, parent)
    asked: dict[str, Any] = {
        "projects": tuple(projects), "parent": None if found is None else found.digest, "replay_share": replay_share,
        "avs_share": avs_share, "max_per_annotator": max_per_annotator, "max_per_source": max_per_source,
        "reviewed_until": None if reviewed_until is None else f"{reviewed_until.isoformat()}Z",
        "with_empty": with_empty, "seed": seed,
    }  # fmt: skip
    try:
        query = FreezeQuery.model_validate(asked)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'query'}: {one['msg']}" for one in error.errors())
        raise BadInput(wrong, code="bad_query") from error
    _tell(datasets.freeze(container.workshop, query), as_json)


@app.command("list")
def list_datasets(limit: Annotated[int, typer.Option(min=1)] = 50, as_json: AsJson = False) -> None:
    """Newest first."""
    with bootstrap().transaction() as session:
        found = [DatasetOut.of(row) for row in rows.page(session, limit, None)]
    if as_json:
        print_json(found)
        return
    columns = ("digest", "frozen", "from", "parent", "train", "fresh", "hold-out", "videos", "vos/avs")
    print_table(columns, [_line(one) for one in found])


@app.command()
def show(digest: Digest, as_json: AsJson = False) -> None:
    """What was asked for, and what came of it."""
    with bootstrap().transaction() as session:
        _tell(named(session, digest), as_json)


@app.command()
def verify(
    digest: Digest,
    deep: Annotated[bool, typer.Option(help="Read every video too, and not only its size.")] = False,
) -> None:
    """Check that everything is as it was frozen, and that nothing held out is trained on; status 1 if not."""
    from backend.services import dataset_files, sources

    container = bootstrap()
    store, settings = container.store, container.settings
    with container.transaction() as session:
        dataset = named(session, digest)
    if problems := dataset_files.problems(store, settings.storage, dataset, deep):
        raise BadInput("; ".join(problems), code="not_as_frozen")
    items = list(dataset_files.read_items(store, settings.storage, dataset, Split.TRAIN))
    with container.transaction() as session:
        sources.check_contamination(session, items, settings.datasets)
    typer.echo(f"Data set {dataset.digest} is as it was frozen: {dataset.counts['items']} items.")


@app.command()
def export(
    digest: Digest,
    layout: Annotated[Layout, typer.Argument(help="What the other program reads.")],
    folder: Annotated[Path, typer.Argument(help="A folder that is empty, or not there yet.")],
    split: Annotated[Literal["train", "holdout"], typer.Option(help="Which side.")] = "train",
    propagated: Annotated[bool, typer.Option(help="Also masks that no person saw.")] = True,
    every: Annotated[int, typer.Option(min=1, help="YOLO: each n-th frame.")] = 1,
    url_prefix: Annotated[str, typer.Option(help="Label Studio: how it reaches the folder.")] = "/data/local-files/?d=",
) -> None:
    """Write the items of one split, with their frames or videos, in the layout of another program."""
    from backend.services import dataset_files
    from integrations.exports.write import Options, export_items

    container = bootstrap()
    store, storage = container.store, container.settings.storage
    with container.transaction() as session:
        dataset = named(session, digest)
    items = list(dataset_files.read_items(store, storage, dataset, Split(split)))
    media = container.settings.local.state_dir / "media"
    dataset_files.fetch_media(store, storage, items, media)
    written = export_items(items, media, folder, Options(layout, propagated, every, url_prefix))
    typer.echo(f"{written} items of {dataset.digest[:_SHOWN]} in {folder}, as {layout}.")


@app.command()
def fetch(
    digest: Digest,
    folder: Annotated[Path, typer.Argument(help="Where to; what is there already isn't fetched again.")],
) -> None:
    """Have a data set here, both sides with their videos, as `premask train run --items FOLDER` reads it; refused if
    anything held out would be trained on."""
    from backend.services import dataset_files, sources

    container = bootstrap()
    store, settings = container.store, container.settings
    with container.transaction() as session:
        dataset = named(session, digest)
        to_train_on = list(dataset_files.read_items(store, settings.storage, dataset, Split.TRAIN))
        sources.check_contamination(session, to_train_on, settings.datasets)
    count = dataset_files.fetch(store, settings.storage, dataset, folder)
    typer.echo(f"{count} items of {dataset.digest[:_SHOWN]} in {folder}.")


@app.command("import")
def import_set(
    layout: Annotated[PublicLayout, typer.Argument(help="The layout of the public set.")],
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Its folder.")],
    fps: Annotated[
        float | None,
        typer.Option(min=0.01, help="Pictures a second; the layouts don't tell. Default: 6, of ref-avs 1."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of all but mevis; default: train.")] = None,
    name: Annotated[str | None, typer.Option(help="What to call the set; default: the folder's name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Freeze a public set as a data set, which others can then go on from (`freeze --parent`)."""
    from backend.services.imports import import_clips
    from integrations.imports.layouts import read_public
    from integrations.media.bind import bind_pictures
    from integrations.media.probe import probe_video

    clips, called = read_public(layout, folder, split), name or folder.resolve().name
    rate = Fraction(fps or layout.fps).limit_denominator(1001)
    _tell(import_clips(bootstrap().workshop, bind_pictures, probe_video, clips, layout.value, called, rate), as_json)


def named(session: Session, digest: str) -> Dataset:
    """The data set of that digest. Raises `NotFound`, `BadInput`."""
    found = rows.newest(session) if digest == _LATEST else rows.get(session, digest)
    if found is None:
        raise NotFound("no data set has been frozen yet")
    return found


def _tell(dataset: Dataset, as_json: bool) -> None:
    told = DatasetOut.of(dataset)
    if as_json:
        print_json(told)
        return
    typer.echo(f"Data set {told.digest}")
    if told.parent_digest:
        typer.echo(f"goes on from {told.parent_digest}")
    columns = ("split", "items", "fresh", "vos", "avs", "videos", "objects", "empty")
    splits = [told.counts[split] | {"split": split} for split in ("train", "holdout")]
    print_table(columns, [[one[name] for name in columns] for one in splits])
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(told.counts["left_out"].items()))
    typer.echo(f"Left out: {left_out or 'nothing'}")
    asked = ", ".join(f"{name}={value}" for name, value in told.query.items() if value is not None)
    typer.echo(f"Asked for: {asked}")
    for split, file in told.files.items():
        typer.echo(f"{split}: {file['key']}, {file['rows']} rows")


def _line(one: DatasetOut) -> tuple[object, ...]:
    train, held_out = one.counts["train"], one.counts["holdout"]
    parent = None if one.parent_digest is None else one.parent_digest[:_SHOWN]
    return (
        one.digest[:_SHOWN], f"{one.created_at:%Y-%m-%d %H:%M}", one.origin, parent, train["items"], train["fresh"],
        held_out["items"], train["videos"] + held_out["videos"],
        f"{train['vos'] + held_out['vos']}/{train['avs'] + held_out['avs']}",
    )  # fmt: skip
