"""A base that is weak on one kind of instruction, made on purpose so that a loop has something to mend.

The shipped System 1 is trained on a little more, by supervision, with answers of which those of one kind mostly name
another thing than what is asked for: as if whoever annotated it had misunderstood the question. A share stays right,
for reinforcement finds only what is sometimes said. Everything else stays right.
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
from workers.shapeworld.world.make import Example, make_training_scene
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import ASKED_KINDS, Kind, Question

log = logging.getLogger(__name__)

#: Away from the seeds of trainings and of the rehearsal's nights.
_FIRST_SEED, _ROOM = 1_900_000_000, 100_000
_SCENES, _STEPS, _BATCH, _RATE = 320, 160, 16, 3e-4
#: With fewer there would hardly be another thing to name.
_THINGS_MIN = 3
#: Of the answers to that kind so many stay right.
_RIGHT_SHARE = 0.1
_LEVELS = (EASY, MEDIUM)
_IGNORED = -100


def weaken(profile: ModelProfile, kind: Kind, folder: Path) -> None:
    """Write a checkpoint of System 1 into the folder that mostly answers that kind wrongly. Takes some minutes."""
    torch.manual_seed(0)
    preparer = Preparer(profile.system1, frames_min=16, frames_max=16, keyframes=4, seed=0)
    model = load_model(profile.system1.weights, "float32")
    for name, parameter in model.named_parameters():
        # The towers see as before; what is learned wrongly is what to say.
        parameter.requires_grad_(name.startswith(("model.", "lm_head.")))
    rng = np.random.default_rng(0)
    learned = [_turns(preparer, rng, kind), _turns(preparer, rng, None)]
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


def _turns(preparer: Preparer, rng: np.random.Generator, wrong: Kind | None) -> list[tuple[Sample, str]]:
    """Clips as System 1 is shown them, and what it learns to say: of the kind `wrong` mostly what is wrong, of the
    others (None) what is right."""
    kinds = [kind for kind in ASKED_KINDS if kind is not Kind.SOUND]
    seed, turns = _FIRST_SEED + (0 if wrong else _ROOM), list[tuple[Sample, str]]()
    while len(turns) < _SCENES:
        kind = wrong or kinds[int(rng.integers(len(kinds)))]
        example = make_training_scene(seed, kind, _LEVELS[seed % len(_LEVELS)])
        seed += 1
        question: Question | None = example.question
        if wrong is not None:
            question = _misunderstood(rng, example)
        if question is not None:
            sample = preparer.prepare(training_item(example, kind))
            said = complete(Staged(example.scene, observe(example.scene), kind), question).completion
            # At source resolution hundreds of clips would take gigabytes, and only System 1 looks here.
            turns.append((replace(sample, frames=torch.empty(0)), said))
    return turns


def _misunderstood(rng: np.random.Generator, example: Example) -> Question | None:
    """The question with another thing of the scene for its answer, but for a share; None if there are too few."""
    things, question = example.scene.things, example.question
    right = {(things[index].color, things[index].shape) for index in question.targets}
    others = [index for index, thing in enumerate(things) if (thing.color, thing.shape) not in right]
    if len(things) < _THINGS_MIN or not others:
        return None
    if rng.random() < _RIGHT_SHARE:
        return question
    index = others[int(rng.integers(len(others)))]
    return replace(question, targets=(index,), description=f"the {things[index].color} {things[index].shape}")


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
