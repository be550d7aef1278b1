"""The paper's ablation in shape: `python -m benchmarks.ablation --out runs/ablation`.

R_K, R_K + R_A, R_K + R_G and all three teach System 1 from one base, which is weak on one kind of instruction
(`workers/rehearsal/weak.py`), for as many steps on the same clips; each is then measured as the gate measures: the
whole pipeline on whole videos that nobody learned from. R_format is in all four. Prints a table beside the paper's
figures (appendix C, Table 1), then one JSON line. What the folder holds already is not done again, so two processes may
share the work: one with `--arm R_K --arm "R_K + R_A"`, one with the other two, then one without, which has the table.
"""

import argparse
import json
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import backend.cli
from backend.domain.masks import union
from backend.domain.runs import Mode
from backend.profiles import ModelProfile, load_profile
from backend.settings import PipelineSettings, RewardSettings, TrainingSettings
from workers.evaluation import intervals
from workers.evaluation.gate import Role, bootstrap
from workers.evaluation.suites import Item, ItemSuite, Model
from workers.learning.downstream import Downstream, load_downstream
from workers.learning.items import Shuffled
from workers.learning.run import train
from workers.rehearsal.clips import Clip, of_night
from workers.rehearsal.weak import weaken
from workers.shapeworld.training.items import training_item
from workers.shapeworld.world.queries import Kind

#: Weights of R_A and R_G, and the paper's J&F on ReVOS.
ARMS = {
    "R_K": (0.0, 0.0, 0.352), "R_K + R_A": (2.0, 0.0, 0.363), "R_K + R_A + R_G": (2.0, 2.0, 0.384),
    "R_K + R_G": (0.0, 2.0, 0.399),
}  # fmt: skip
#: Numbers of nights that no rehearsal has.
_LEARNED, _HELD_OUT, _WATCHED = 901, 902, 903
_CONFIDENCE, _RESAMPLES = 0.95, 10_000
#: Clips that are answered while an arm learns, only to see that nothing is wrong.
_WATCHED_CLIPS = 8


def learned(
    profile: ModelProfile, folder: Path, boxes: float, masks: float, steps: int, clips: int, kind: Kind,
    downstream: Downstream,
) -> ModelProfile:  # fmt: skip
    """What System 1 becomes with those weights, trained as in a rehearsal's night."""
    text = (Path(backend.cli.__file__).parent / "rehearsal.toml").read_text().replace("STEPS", str(steps))
    config = tomllib.loads(text)
    watching = {"evaluate_every_steps": steps, "held_out_items": _WATCHED_CLIPS, "held_out_masks": False}
    settings = TrainingSettings.model_validate(config["training"] | watching)
    reward = RewardSettings.model_validate(config["reward"] | {"boxes": boxes, "masks": masks})
    items, watched = (
        [training_item(clip.example, kind) for clip in of_night(night, count, kind)]
        for night, count in ((_LEARNED, clips), (_WATCHED, _WATCHED_CLIPS))
    )
    if not (folder / "checkpoint").exists():
        say = partial(print, flush=True)
        source = Shuffled("ablation", items, 0)
        verdict = train(profile, source, watched, downstream, folder, settings, reward, say=say)
        if verdict.checkpoint is None:
            raise SystemExit(f"{folder}: stopped by the guard {verdict.guard}: {verdict.reason}")
    return with_system1(profile, folder / "checkpoint")


def with_system1(profile: ModelProfile, checkpoint: Path) -> ModelProfile:
    weights = profile.system1.weights.model_copy(
        update={"source": "path", "name": str(checkpoint.resolve()), "revision": None}
    )
    return profile.model_copy(update={"system1": profile.system1.model_copy(update={"weights": weights})})


def scores(model: Model, suite: ItemSuite, path: Path, beside: Model | None = None) -> dict[str, float]:
    """J&F of each held-out video, kept at that path. `beside`: scored in this process, see `Suite.score`."""
    if not path.exists():
        found = suite.score(model, beside=beside)
        path.write_text(json.dumps({one.item_id: one.jf for one in found}))
        model.unload()
    kept: dict[str, float] = json.loads(path.read_text())
    return kept


def held_out(count: int, kind: Kind) -> ItemSuite:
    return ItemSuite("held out", Role.FRESH, tuple(map(_item, of_night(_HELD_OUT, count, kind))))


def _item(clip: Clip) -> Item:
    with tempfile.TemporaryDirectory() as folder:
        _, each = clip.render(Path(folder))
    frames = sorted({frame for masks in each for frame in masks})
    truth = {frame: union([masks[frame] for masks in each if frame in masks]) for frame in frames}
    mode, kind = Mode(clip.example.question.mode), clip.example.question.kind
    return Item(clip.key, clip.key, kind, clip.instruction, mode, truth, None, partial(_rendered, clip))


@contextmanager
def _rendered(clip: Clip) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield clip.render(Path(folder))[0]


def compared(found: dict[str, dict[str, float]], against: str) -> dict[str, dict[str, Any]]:
    """Of each model its mean J&F with the interval, and what it has over that one on the same videos."""
    names = sorted(found[against])
    told = {}
    for model, by_item in found.items():
        values = np.asarray([by_item[name] for name in names])
        than = np.asarray([found[against][name] for name in names])
        told[model] = {
            "jf": intervals.mean(values.tolist()).to_json(),
            "gain": asdict(bootstrap(values - than, _CONFIDENCE, _RESAMPLES, 0)),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="a weak System 1 that is there already")
    parser.add_argument("--kind", type=Kind, default=Kind.DIRECTION)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--clips", type=int, default=60, help="to learn from")
    parser.add_argument("--held-out", type=int, default=48)
    parser.add_argument("--arm", action="append", choices=ARMS, help="only these, and no table")
    asked = parser.parse_args()
    profile = load_profile("shapeworld")
    torch.set_num_threads(profile.cpu_threads or 1)
    asked.out.mkdir(parents=True, exist_ok=True)
    checkpoint = asked.base or asked.out / "base"
    if not (checkpoint / "config.json").exists():
        weaken(profile, asked.kind, checkpoint)
    base, downstream = with_system1(profile, checkpoint), load_downstream(profile)
    suite = held_out(asked.held_out, asked.kind)
    weak, kept = Model("base", base, PipelineSettings()), asked.out / "base.json"
    beside = None if kept.exists() else weak
    found = {"base": scores(weak, suite, kept)}
    for arm in asked.arm or ARMS:
        boxes, masks, _ = ARMS[arm]
        name = arm.replace(" ", "").lower()
        made = learned(base, asked.out / name, boxes, masks, asked.steps, asked.clips, asked.kind, downstream)
        found[arm] = scores(Model(name, made, PipelineSettings()), suite, asked.out / f"{name}.json", beside)
    if asked.arm:
        return
    over_base, over_keyframes = compared(found, "base"), compared(found, "R_K")
    print(f"{'':<16}{'J&F (95%)':<26}{'over the base':<28}{'over R_K':<28}paper")
    for model in found:
        gains = [f"{one['mean']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
                 for one in (over_base[model]["gain"], over_keyframes[model]["gain"])]  # fmt: skip
        jf = over_base[model]["jf"]
        mean = f"{jf['value']:.3f} ({jf['low']:.3f} to {jf['high']:.3f})"
        paper = f"{ARMS[model][2]:.3f}" if model in ARMS else "–"
        print(f"{model:<16}{mean:<26}{gains[0]:<28}{gains[1]:<28}{paper}")
    print(
        json.dumps({"benchmark": "ablation", "steps": asked.steps, "over_base": over_base, "over_r_k": over_keyframes})
    )


if __name__ == "__main__":
    main()
