"""A base that is weak on one kind of instruction, made on purpose so that a loop has something to mend.

The shipped System 1 is trained on a little more, by supervision, with answers of which those of one kind name anything
in the scene by chance: as if whoever annotated it had misunderstood the question. Everything else stays right.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.profiles import ModelProfile
from workers.learning.samples import Preparer, Sample, collate
from workers.pipeline.engines.thinker import load_model
from workers.shapeworld.training.items import training_item
from workers.shapeworld.training.system1.scenes import Staged, complete
from workers.shapeworld.world.levels import EASY, MEDIUM
from workers.shapeworld.world.make import make_training_scene
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import ASKED_KINDS, Kind

log = logging.getLogger(__name__)

#: Away from the seeds of trainings and of the rehearsal's nights.
_FIRST_SEED = 1_900_000_000
_SCENES, _STEPS, _BATCH, _RATE = 240, 80, 16, 1e-4
_LEVELS = (EASY, MEDIUM)
_IGNORED = -100


def weaken(profile: ModelProfile, kind: Kind, folder: Path) -> None:
    """Write a checkpoint of System 1 into the folder that answers that kind by chance. Takes some minutes."""
    torch.manual_seed(0)
    preparer = Preparer(profile.system1, frames_min=16, frames_max=16, keyframes=4, seed=0)
    model = load_model(profile.system1.weights, "float32")
    for name, parameter in model.named_parameters():
        # The towers see as before; what is learned wrongly is what to say.
        parameter.requires_grad_(name.startswith(("model.", "lm_head.")))
    rng = np.random.default_rng(0)
    learned = [[_turn(preparer, rng, number, one) for number in range(_SCENES)] for one in (kind, None)]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=_RATE, weight_decay=0.0)
    model.train()
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 10) * (1 - step / _STEPS)
        chosen = [turns[int(i)] for turns in learned for i in rng.integers(len(turns), size=_BATCH // 2)]
        loss = _loss(model, preparer.processor.tokenizer, chosen)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        log.info("weak base: step %d of %d, loss %.3f", step + 1, _STEPS, loss.item())
    _save(model, preparer.processor, profile.system1.dtype, folder)


def _turn(preparer: Preparer, rng: np.random.Generator, number: int, wrong: Kind | None) -> tuple[Sample, str]:
    """A clip as System 1 is shown it, and what it learns to say: of the kind `wrong` about anything that is there, of
    the others (None) what is right."""
    kinds = [kind for kind in ASKED_KINDS if kind is not Kind.SOUND]
    kind = wrong or kinds[int(rng.integers(len(kinds)))]
    level = _LEVELS[int(rng.integers(len(_LEVELS)))]
    example = make_training_scene(_FIRST_SEED + number + (0 if wrong else _SCENES), kind, level)
    staged = Staged(example.scene, observe(example.scene), kind)
    question = example.question
    if wrong is not None:
        index = int(rng.integers(len(example.scene.things)))
        thing = example.scene.things[index]
        question = replace(question, targets=(index,), description=f"the {thing.color} {thing.shape}")
    sample = preparer.prepare(training_item(example, kind))
    # At source resolution hundreds of clips would take gigabytes, and only System 1 looks here.
    return replace(sample, frames=torch.empty(0)), complete(staged, question).completion


def _loss(model: Any, tokenizer: Any, turns: Sequence[tuple[Sample, str]]) -> torch.Tensor:
    """Mean cross-entropy of the completions' tokens, their end included."""
    said = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for _, text in turns]
    batch = collate([sample for sample, _ in turns], tokenizer.pad_token_id)
    ids = torch.full((len(said), max(map(len, said))), tokenizer.pad_token_id)
    labels = torch.full_like(ids, _IGNORED)
    for row, completion in enumerate(said):
        ids[row, : len(completion)] = labels[row, : len(completion)] = torch.tensor(completion)
    begin = batch["input_ids"].shape[1]
    batch["input_ids"] = torch.cat([batch["input_ids"], ids], 1)
    batch["attention_mask"] = torch.cat([batch["attention_mask"], (labels != _IGNORED).long()], 1)
    logits = model(**batch, use_cache=False).logits[:, begin - 1 : -1].float()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)


def _save(model: Any, processor: Any, dtype: str, folder: Path) -> None:
    half = {
        name: value.to(getattr(torch, dtype)) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.config.dtype = getattr(torch, dtype)
    model.save_pretrained(folder, state_dict=half)
    processor.save_pretrained(folder)
