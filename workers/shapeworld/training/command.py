"""One training as a command: the model's recipe, its folder, and a clean end when it is told to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from backend.domain.errors import BadInput
from workers.shapeworld.training.loop import CannotResume, Training
from workers.shapeworld.training.optimizers import has_bfloat16
from workers.shapeworld.training.trainee import Trainee

MODELS = ("segmenter", "system1", "system2")
_WITH_EYES = "system1"
#: The segmenter is trained in float32 anyway.
_THINKERS = ("system1", "system2")


def train(
    model: str, folder: Path, *, seed: int = 0, device: str = "cpu", eyes: Path | None = None, threads: int = 1,
    loaders: int = 1, stop_after_s: float | None = None,
) -> bool:  # fmt: skip
    """Train the model in the folder, or go on there; False if it was stopped before its end. `eyes`: the checkpoint
    whose vision tower System 1 begins with.

    Raises `BadInput` for a device that isn't there, for a folder that holds a training of another recipe, and where
    eyes are missing or not wanted.
    """
    if (eyes is None) == (model == _WITH_EYES):
        raise BadInput(
            f"{_WITH_EYES} begins with System 2's eyes: name the folder of its checkpoint with --eyes"
            if eyes is None else f"{model} begins from nothing: leave out --eyes, which {_WITH_EYES} alone takes"
        )  # fmt: skip
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("there is no CUDA device here; train with --device cpu")
    torch.set_num_threads(threads)
    if model in _THINKERS and not has_bfloat16(device):
        print("this CPU has no bfloat16 of its own: training in float32")
    begun = () if eyes is None else (eyes,)
    trainee: Trainee = import_module(f"{__package__}.{model}").trainee(seed, device, *begun)
    phases = [asdict(phase) | {"options": dict(phase.options or {})} for phase in trainee.phases]
    recipe: dict[str, Any] = {"model": model, "seed": seed, "phases": phases} | dict(trainee.origin)
    training = Training(trainee, folder, recipe, loaders=loaders, lanes=threads if device == "cpu" else 1)
    with _stopped_by_signals(training):
        try:
            return training.run(stop_after_s)
        except CannotResume as error:
            raise BadInput(str(error)) from error


@contextmanager
def _stopped_by_signals(training: Training) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the training after its step, saved."""
    before = {which: signal.signal(which, lambda *_: training.stop()) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
