"""The training loop: phases of steps that can be stopped at any moment and go on as if they had not been.

The batch of a step depends on the training seed, phase and step alone, so what is saved is weights, optimizers, the
position and torch's random state. Another process renders the batches ahead.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from workers.shapeworld.training.lanes import Lanes
from workers.shapeworld.training.trainee import Figures, Phase, Source, Trainee

#: Smoothing of the figures of single steps.
_SMOOTHING = 0.97
_LOG_EVERY_STEPS = 50


class CannotResume(ValueError):
    """The folder holds a training of another recipe."""


class _Batches(Dataset[Any]):
    """The batches of a phase from a step on, by position."""

    def __init__(self, source: Source, phase: Phase, first: int) -> None:
        self._source, self._phase, self._first = source, phase, first

    def __len__(self) -> int:
        return self._phase.steps - self._first

    def __getitem__(self, position: int) -> Any:
        return self._source.batch(self._phase, self._first + position)


class Training:
    """One training in one folder: `state.pt` to go on from, `curve.jsonl` with its course, `checkpoint/` at the end."""

    def __init__(
        self, trainee: Trainee, folder: Path, recipe: dict[str, Any], *, save_every_s: float = 120,
        validate_every_s: float = 300, loaders: int = 1, lanes: int = 1,
        say: Callable[[str], None] = print,
    ) -> None:  # fmt: skip
        self._trainee, self._folder, self._recipe = trainee, folder, recipe
        self._save_every_s, self._validate_every_s, self._loaders = save_every_s, validate_every_s, loaders
        self._say, self._lanes = say, Lanes(trainee, lanes)
        self._position, self._step, self._spent_s = 0, 0, 0.0
        self._optimizers: list[torch.optim.Optimizer] = []
        self._smooth: dict[str, float] = {}
        self._validated_s = 0.0
        self._stopping = False

    def stop(self) -> None:
        """Save after the step that is being made, and return from `run`. May be called by a signal handler."""
        self._stopping = True

    def run(self, stop_after_s: float | None = None) -> bool:
        """Train until the end (True), or save and stop after that many seconds, or when told to (False).

        Goes on where the folder's training stopped. Raises `CannotResume` if that one has another recipe, and
        `FloatingPointError` when a gradient is not finite; what was saved before stays.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        state = self._load()
        begin, spent_before = time.monotonic(), self._spent_s
        while self._position < len(self._trainee.phases):
            phase = self._trainee.phases[self._position]
            self._optimizers = self._trainee.begin(phase)
            if state:
                for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                    optimizer.load_state_dict(saved)
                state = None
            saved_s = self._spent_s
            for batch in self._batches(phase):
                self._advance(phase, batch)
                self._spent_s = spent_before + time.monotonic() - begin
                self._report(phase)
                if self._stopping or (stop_after_s is not None and self._spent_s - spent_before >= stop_after_s):
                    self._save()
                    return False
                if self._spent_s - saved_s >= self._save_every_s:
                    self._save()
                    saved_s = self._spent_s
            self._validate(phase)
            self._position, self._step = self._position + 1, 0
            self._optimizers, self._smooth = [], {}
            self._save()
        self._trainee.save(self._folder / "checkpoint")
        return True

    def _batches(self, phase: Phase) -> Iterator[Any]:
        data = _Batches(self._trainee.source, phase, self._step)
        return iter(
            DataLoader(
                data, batch_size=None, num_workers=self._loaders, prefetch_factor=8 if self._loaders else None,
                worker_init_fn=_be_polite,
                # Its own: the loader's seed must not be drawn from the random numbers that training goes on with.
                generator=torch.Generator(),
            )
        )  # fmt: skip

    def _advance(self, phase: Phase, batch: Any) -> None:
        rate = phase.learning_rate_at(self._step)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            optimizer.zero_grad(set_to_none=True)
        figures = self._lanes.backward(phase, self._step, batch)
        parameters = [p for o in self._optimizers for group in o.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, phase.clip_norm)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"phase {phase.name}, step {self._step}: the gradient is {float(norm)}")
        for optimizer in self._optimizers:
            optimizer.step()
        self._step += 1
        for name, value in figures.items():
            old = self._smooth.get(name, value)
            self._smooth[name] = _SMOOTHING * old + (1 - _SMOOTHING) * value

    def _report(self, phase: Phase) -> None:
        if self._step % _LOG_EVERY_STEPS == 0 or self._step == phase.steps:
            self._write(phase, self._smooth)
        if self._spent_s - self._validated_s >= self._validate_every_s and self._step < phase.steps:
            self._validate(phase)

    def _validate(self, phase: Phase) -> None:
        figures = self._trainee.validate(phase)
        self._write(phase, {f"validation_{name}": value for name, value in figures.items()})
        self._validated_s = self._spent_s

    def _write(self, phase: Phase, figures: Figures) -> None:
        row = {"phase": phase.name, "step": self._step, "seconds": round(self._spent_s, 1)}
        row |= {name: round(value, 4) for name, value in figures.items()}
        with (self._folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        words = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
        self._say(f"{phase.name} {self._step}/{phase.steps} {self._spent_s:.0f} s: {words}")

    def _save(self) -> None:
        state = {
            "recipe": self._recipe,
            "position": self._position,
            "step": self._step,
            "spent_s": self._spent_s,
            "validated_s": self._validated_s,
            "smooth": self._smooth,
            "modules": self._trainee.modules.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        path = self._folder / "state.pt"
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def _load(self) -> dict[str, Any] | None:
        """The saved state, put in place but for the optimizers; the curve loses what came after it."""
        path = self._folder / "state.pt"
        if not path.exists():
            (self._folder / "curve.jsonl").unlink(missing_ok=True)
            return None
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        if state["recipe"] != self._recipe:
            raise CannotResume(
                f"{path} belongs to a training with {state['recipe']}, this one has {self._recipe}; "
                "go on with those settings, or choose another folder"
            )
        self._position, self._step, self._spent_s = state["position"], state["step"], state["spent_s"]
        self._validated_s, self._smooth = state["validated_s"], state["smooth"]
        self._trainee.modules.load_state_dict(state["modules"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        self._cut_curve()
        return state if state["optimizers"] else None

    def _cut_curve(self) -> None:
        path = self._folder / "curve.jsonl"
        order = [phase.name for phase in self._trainee.phases]
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        kept = [row for row in rows if (order.index(row["phase"]), row["step"]) <= (self._position, self._step)]
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))


def _be_polite(_: int) -> None:
    """A loader renders ahead when the trainer leaves it time, and leaves Ctrl-C, which a terminal sends to it too, to
    the trainer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    torch.set_num_threads(1)
