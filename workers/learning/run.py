"""One training from its base to a checkpoint that the product loads: the composition of this package.

The folder holds `metrics.jsonl`, `training.json` (what was asked for), `checkpoint-N/` to go on from, and at the end
`verdict.json` and, unless a guard stopped it, `checkpoint/`.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from backend.domain.errors import BadInput, Misconfigured
from backend.profiles import ModelProfile
from backend.settings import RewardSettings, TrainingSettings
from workers.learning import held_out
from workers.learning.deadline import Deadline
from workers.learning.downstream import Follows
from workers.learning.items import ItemSource, TrainingItem
from workers.learning.judging import Judge
from workers.learning.libraries import LoraConfig, PartialState, PrinterCallback
from workers.learning.samples import Preparer, Sample, ahead
from workers.learning.trainer import OmniGRPOTrainer, check_trl, grpo_config
from workers.learning.watch import Watch
from workers.pipeline.engines.presenting import load_processor
from workers.pipeline.engines.thinker import load_model

log = logging.getLogger(__name__)

#: The language model's linear layers; the towers' have other paths.
LANGUAGE_LAYERS = r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a training ended. `guard` and `reason` are None if it went to its end; `checkpoint` is None if it didn't."""

    steps: int
    guard: str | None
    reason: str | None
    checkpoint: str | None
    held_out_first: dict[str, Any] | None
    held_out_last: dict[str, Any] | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Finite:
    """A list of items as a source, for the loader."""

    items: Sequence[TrainingItem]
    name: str = "held out"

    def draw(self, number: int) -> TrainingItem:
        return self.items[number]


def train(
    profile: ModelProfile, source: ItemSource, held_out_items: Sequence[TrainingItem], downstream: Follows,
    folder: Path, settings: TrainingSettings, weights: RewardSettings, *, say: Callable[[str], None] = print,
) -> Verdict:  # fmt: skip
    """Train the profile's System 1 in that folder, or go on there.

    Raises `BadInput` for a folder that holds a training of other settings or one that has ended, `Misconfigured` where
    the settings can't be.
    """
    check_trl()
    if profile.system1.server is not None:
        raise Misconfigured(f"model profile {profile.name} has System 1 on a server; training needs its weights here")
    processes = PartialState(cpu=profile.device == "cpu")
    folder.mkdir(parents=True, exist_ok=True)
    asked = _asked(profile, source, settings, weights)
    if processes.is_main_process:
        _claim(folder, asked)
    processes.wait_for_everyone()
    begin = time.monotonic()
    judge = Judge(downstream, weights, settings.keyframes)
    deadline = None if settings.minutes_max is None else Deadline(60 * settings.minutes_max)
    trainer, preparer = _trainer(profile, source, judge, folder, settings, processes, deadline)
    measuring = Judge(downstream, weights, settings.keyframes, masks=settings.held_out_masks)

    def evaluate() -> dict[str, Any]:
        share = held_out_items[: settings.held_out_items][processes.process_index :: processes.num_processes]
        return held_out.figures(held_out.measure(trainer, _one_by_one(preparer, share, settings.loaders), measuring))

    watch = Watch(folder / "metrics.jsonl", settings.guards, settings.evaluate_every_steps, evaluate, say, deadline)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(watch)
    last = _last_state(folder)
    step = int(last.name.rpartition("-")[2]) if last else -1
    watch.take_up(step)
    processes.wait_for_everyone()
    if processes.is_main_process:
        watch.cut(step)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    return _conclude(trainer, watch, folder, profile, time.monotonic() - begin)


def _trainer(
    profile: ModelProfile, source: ItemSource, judge: Judge, folder: Path, settings: TrainingSettings,
    processes: PartialState, deadline: Deadline | None,
) -> tuple[OmniGRPOTrainer, Preparer]:  # fmt: skip
    settings = settings.model_copy(update={"max_new_tokens": settings.max_new_tokens or profile.system1.max_new_tokens})
    args = grpo_config(
        settings, str(folder), device=profile.device, bf16=profile.system1.dtype == "bfloat16",
        processes=processes.num_processes,
    )  # fmt: skip
    # All weights are trained in full precision, or small steps would be rounded away; adapters have their own.
    policy = load_model(profile.system1.weights, profile.system1.dtype if settings.lora_rank else "float32")
    adapters: dict[str, Any] = {}
    if settings.lora_rank:
        adapters["peft_config"] = LoraConfig(
            r=settings.lora_rank, lora_alpha=settings.lora_alpha, target_modules=LANGUAGE_LAYERS
        )
    preparer = Preparer(
        profile.system1, frames_min=settings.frames_min, frames_max=settings.frames_max, keyframes=settings.keyframes,
        seed=settings.seed,
    )  # fmt: skip
    mine = settings.prompts_per_step // processes.num_processes

    def rounds(first: int) -> Iterator[list[Sample]]:
        count = -(-settings.steps // settings.updates_per_rollout)
        begins = [n * settings.prompts_per_step + processes.process_index * mine for n in range(first, count)]
        return ahead(preparer, source, [range(begin, begin + mine) for begin in begins], settings.loaders)

    processor = load_processor(profile.system1.weights)
    return OmniGRPOTrainer(policy, processor, args, judge, settings, rounds, deadline, **adapters), preparer


def _one_by_one(preparer: Preparer, items: Sequence[TrainingItem], loaders: int) -> Iterator[Sample]:
    for [sample] in ahead(preparer.as_at_inference(), _Finite(items), [[n] for n in range(len(items))], loaders):
        yield sample


def _asked(
    profile: ModelProfile, source: ItemSource, settings: TrainingSettings, weights: RewardSettings
) -> dict[str, Any]:
    """What makes a training the one it is. Where System 2 and SAM2 are, and how many loaders there are, doesn't."""
    elsewhere = {"reward_url", "reward_token", "reward_timeout_s", "loaders", "save_every_steps", "minutes_max"}
    return {
        "base": profile.system1.weights.digest(), "profile": profile.name, "profile_digest": profile.digest,
        "items": source.name, "training": settings.model_dump(mode="json", exclude=elsewhere),
        "reward": weights.model_dump(mode="json"),
    }  # fmt: skip


def _claim(folder: Path, asked: dict[str, Any]) -> None:
    path = folder / "training.json"
    if (folder / "verdict.json").exists():
        raise BadInput(f"the training in {folder} has ended (verdict.json says how); choose another folder")
    if not path.exists():
        path.write_text(json.dumps(asked, indent=2) + "\n")
        return
    there = json.loads(path.read_text())
    if there != asked:
        other = [name for name in asked if there.get(name) != asked[name]]
        raise BadInput(
            f"{path} belongs to a training with other settings ({', '.join(other)}); go on with those, or choose"
            " another folder"
        )


def _last_state(folder: Path) -> Path | None:
    """The newest saved state that is whole: the trainer's own file is written last, so a kill leaves one without."""
    states = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    whole = [path for path in states if (path / "trainer_state.json").exists()]
    return whole[-1] if whole else None


def _conclude(trainer: OmniGRPOTrainer, watch: Watch, folder: Path, profile: ModelProfile, seconds: float) -> Verdict:
    stop, checkpoint = watch.stop, folder / "checkpoint"
    if stop is None:
        save(trainer, checkpoint, profile.system1.dtype)
    first, last = (watch.held_out[0], watch.held_out[-1]) if watch.held_out else (None, None)
    verdict = Verdict(
        trainer.state.global_step, stop.guard if stop else None, stop.reason if stop else None,
        None if stop else str(checkpoint), first, last, round(seconds, 1),
    )  # fmt: skip
    if trainer.accelerator.is_main_process:
        _write_whole(folder / "verdict.json", json.dumps(verdict.to_json(), indent=2) + "\n")
        for state in folder.glob("checkpoint-*"):
            shutil.rmtree(state)
    return verdict


def save(trainer: OmniGRPOTrainer, folder: Path, dtype: str) -> None:
    """The model as the product loads it, in that precision, adapters merged into it, with its processor."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
        weights = model.state_dict()
    if trainer.accelerator.is_main_process:
        half = {name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
                for name, value in weights.items()}  # fmt: skip
        model.config.dtype = getattr(torch, dtype)
        model.save_pretrained(folder, state_dict=half)
        trainer.processing_class.save_pretrained(folder)
    trainer.accelerator.wait_for_everyone()


def _write_whole(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)
