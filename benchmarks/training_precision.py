"""A training step of System 2's in bfloat16 and in float32, and Muon's part of it: `python -m
benchmarks.training_precision`.

The same batches of the phase `ground` are gone through with weights as they begin, forward, backward and an optimizer
step, in either precision, with Muon as torch has it and as the training has it (matrices of one shape together; in
float32 where the machine has no bfloat16), and in bfloat16 with torch's cache of converted weights besides, which the
training does without. Prints the medians of repeats, and last one JSON line; the ratio is what the training chooses
over the fastest of the six, which should be near 1 on any machine.
"""

import json
import statistics
import time
from typing import Any
from unittest import mock

import torch

from workers.shapeworld.training import optimizers
from workers.shapeworld.training.system2 import learner

REPEATS = 7
TARGET = 1.15


def _cached(device: str) -> Any:
    """bfloat16 with torch's cache of converted weights."""
    return torch.autocast(device, torch.bfloat16)


#: Whether products are in bfloat16, and how that is set.
VARIANTS = {
    "bfloat16": (True, optimizers.autocast),
    "float32": (False, optimizers.autocast),
    "bfloat16, weights cached": (True, _cached),
}


def main() -> None:
    torch.set_num_threads(1)
    trainee = learner.System2Trainee(0, "cpu")
    [phase] = [phase for phase in trainee.phases if phase.name == "ground"]
    batches = [trainee.source.batch(phase, step) for step in range(REPEATS)]
    own = optimizers.has_bfloat16("cpu")
    seconds: dict[str, list[float]] = {}
    for step, batch in enumerate(batches):
        for name, (bfloat16, autocast) in VARIANTS.items():
            with (
                mock.patch.object(optimizers, "has_bfloat16", lambda _device, has=bfloat16: has),
                mock.patch.object(learner, "autocast", autocast),
            ):
                whole, muon = _step(trainee, phase, step, batch)
            seconds.setdefault(name, []).append(whole)
            seconds.setdefault(f"{name}, Muon as torch has it", []).append(whole - muon["own"] + muon["torch"])
    medians = {name: round(statistics.median(values), 3) for name, values in seconds.items()}
    for name, median in medians.items():
        print(f"{name}: {median} s a step")
    chosen = "bfloat16" if own else "float32"
    ratio = round(medians[chosen] / min(medians.values()), 3)
    result = {"benchmark": "training_precision", "ratio": ratio, "target": TARGET, "ok": ratio <= TARGET}
    print(json.dumps(result | {"detail": {"chosen": chosen, "median_s": medians}}))


def _step(trainee: Any, phase: Any, step: int, batch: Any) -> tuple[float, dict[str, float]]:
    """Seconds of a whole step, and of Muon in it; nothing is changed, for the rates are 0."""
    adam, own = trainee.begin(phase)
    reference = torch.optim.Muon(own.param_groups, lr=0.0, adjust_lr_fn="match_rms_adamw")
    for optimizer in (adam, own, reference):
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = 0.0, 0.0
    begin = time.perf_counter()
    loss, _ = trainee.loss(phase, step, batch)
    loss.backward()
    adam.step()
    done = time.perf_counter()
    muon = {"own": _timed(own), "torch": _timed(reference)}
    trainee.modules.zero_grad(set_to_none=True)
    return done - begin + muon["own"], muon


def _timed(optimizer: torch.optim.Optimizer) -> float:
    # The first step makes the momenta.
    optimizer.step()
    begin = time.perf_counter()
    optimizer.step()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
