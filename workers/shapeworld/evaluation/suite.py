"""The proving ground as suites: clips rendered from seeds, and clips written to a folder in the layout of MeViS."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from backend.domain import masks as rle
from backend.domain.annotation import Mask
from backend.domain.errors import BadInput
from backend.domain.runs import Mode
from workers.evaluation.gate import ItemScore, Role
from workers.evaluation.suites import Item, ItemSuite, Listener, Model, Suite
from workers.shapeworld.evaluation import campaign
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.world.export import Expression, read_export

_PREFIX = "shapeworld:"


@dataclass(frozen=True, slots=True)
class ProvingGround:
    """Clips of a split, a source video each. With `ledgers`, a folder, each model's scores are kept there and not
    measured again: a champion is measured once."""

    name: str
    role: Role
    cases: tuple[Case, ...]
    jobs: int = 1
    ledgers: Path | None = None
    #: What was found, by model version.
    _scored: dict[str, dict[Case, ClipScore]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def score(
        self, model: Model, on_item: Listener = lambda _: None, beside: Model | None = None
    ) -> tuple[ItemScore, ...]:
        ledger = None if self.ledgers is None else self.ledgers / f"{model.digest}.jsonl"
        found = campaign.run(
            model.profile, model.settings, list(self.cases), parts=(Part.PIPELINE,), jobs=self.jobs, ledger=ledger,
            on_clip=on_item, digest=model.digest, known=self._scored[beside.digest] if beside else None,
        )  # fmt: skip
        self._scored[model.digest] = {one.case: one for one in found}
        return tuple(_of(clip) for clip in found)


def _of(clip: ClipScore) -> ItemScore:
    assert clip.pipeline_j is not None
    assert clip.pipeline_f is not None
    assert clip.seconds is not None
    name = f"{clip.case.kind}-{clip.case.level}-{clip.case.seed}"
    jf = (clip.pipeline_j + clip.pipeline_f) / 2
    return ItemScore(name, name, clip.case.kind.value, jf, bool(clip.well_formed), clip.seconds)


def suite_of(text: str, role: Role, jobs: int = 1, ledgers: Path | None = None) -> Suite:
    """The suite that a command names: `shapeworld:SPLIT[:A:B[:KIND,…[:LEVEL,…]]]`, or a folder in the layout of MeViS.

    Raises `BadInput`.
    """
    if text.startswith(_PREFIX):
        split, *rest = text.removeprefix(_PREFIX).split(":")
        if len(rest) not in (0, 2, 3, 4):
            raise BadInput(f"{text!r} is no suite; write shapeworld:SPLIT, or shapeworld:SPLIT:A:B for some seeds")
        seeds = campaign.seeds(":".join(rest[:2]) or None, split)
        kinds = campaign.kinds(rest[2].split(",") if len(rest) > 2 else None)
        levels = campaign.levels(rest[3].split(",") if len(rest) > 3 else None)
        return ProvingGround(text, role, tuple(campaign.cases(seeds, kinds, levels)), jobs, ledgers)
    return folder_suite(Path(text), role)


def folder_suite(root: Path, role: Role) -> ItemSuite:
    """Clips and their truth as `export` writes them; several expressions of a clip share its source. Raises
    `BadInput`."""
    if not (root / "meta_expressions.json").is_file():
        raise BadInput(f"{root} is no suite: it has no meta_expressions.json, nor does its name begin with {_PREFIX}")
    items = tuple(
        Item(
            f"{video.name}/{number}", video.name, expression.kind.value, expression.text, Mode(expression.mode),
            _truth(expression), None, lambda path=video.path: nullcontext(path),  # type: ignore[misc]
        )
        for video in read_export(root)
        for number, expression in enumerate(video.expressions)
    )  # fmt: skip
    return ItemSuite(root.name, role, items)


def _truth(expression: Expression) -> dict[int, Mask]:
    """The union of the targets, where any is seen."""
    found = {}
    for frame_index, masks in enumerate(zip(*expression.masks, strict=True)):
        if seen := [mask for mask in masks if mask is not None]:
            found[frame_index] = rle.union(seen)
    return found
