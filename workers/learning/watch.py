"""Watch: writes down how a training goes, measures it on held-out clips, and stops it when a guard says so."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.settings import GuardSettings
from workers.learning import guards
from workers.learning.deadline import Deadline
from workers.learning.guards import Stop
from workers.learning.libraries import TrainerCallback

#: Our name of each of TRL's figures.
_NAMES = {
    "loss": "loss", "reward": "reward", "reward_std": "reward_std", "parts/format": "format",
    "parts/keyframes": "keyframes", "parts/boxes": "boxes", "parts/masks": "masks", "chosen": "chosen",
    "unanswered": "unanswered", "kl": "kl", "entropy": "entropy", "completions/mean_length": "length",
    "completions/clipped_ratio": "truncated", "frac_reward_zero_std": "dead_groups", "grad_norm": "grad_norm",
    "learning_rate": "learning_rate", "step_time": "seconds",
    "parts/absent": "absent", "parts/aid": "aid", "writing": "writing_s", "judging": "judging_s",
}  # fmt: skip
#: What is shown of a row while the training goes on.
_OF_A_STEP = ("reward", "masks", "boxes", "keyframes", "chosen", "kl", "entropy", "length", "seconds")
_OF_HELD_OUT = ("jf", "right", "keyframes", "chosen")


class Watch(TrainerCallback):  # type: ignore[misc]  # its base is Any
    """`metrics.jsonl`: a row each step, and one with `held_out` each evaluation. `stop` is set when a guard stops the
    training."""

    def __init__(
        self, path: Path, limits: GuardSettings, evaluate_every_steps: int, evaluate: Callable[[], dict[str, Any]],
        say: Callable[[str], None], deadline: Deadline | None = None,
    ) -> None:  # fmt: skip
        self._path, self._limits, self._every = path, limits, evaluate_every_steps
        self._evaluate, self._say = evaluate, say
        self._deadline = deadline
        self.steps: list[dict[str, Any]] = []
        self.held_out: list[dict[str, Any]] = []
        self.stop: Stop | None = None

    def take_up(self, step: int) -> None:
        """The rows of a training that goes on after that step; those beyond are made again."""
        kept = [row for row in self._written() if row["step"] <= step]
        self.steps = [row for row in kept if "held_out" not in row]
        self.held_out = [{"step": row["step"], **row["held_out"]} for row in kept if "held_out" in row]

    def cut(self, step: int) -> None:
        """Leave only the rows up to that step in the file."""
        kept = [row for row in self._written() if row["step"] <= step]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def _written(self) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines(True) if self._path.exists() else []
        # What a kill left of a line has no end.
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def on_train_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if not self.held_out:
            self._measure(state)

    def on_step_end(self, _: Any, state: Any, control: Any, **__: Any) -> Any:
        out_of_time = self._deadline is not None and self._deadline.share() >= 1
        control.should_training_stop |= out_of_time
        if out_of_time or state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._measure(state)
        return control

    def on_log(self, _: Any, state: Any, control: Any, logs: dict[str, Any], **__: Any) -> Any:
        if "loss" in logs:  # the summary at the end has none; an update of an older rollout has no reward
            row = {ours: _rounded(logs[theirs]) for theirs, ours in _NAMES.items() if theirs in logs}
            if row.get("unanswered"):
                row["reward"] = None  # parts of it are missing: no figure to compare with others
            self._write({"step": state.global_step, **row}, state)
            self.steps.append({"step": state.global_step, **row})
            self.stop = self.stop or guards.check(self.steps, self.held_out, self._limits)
            control.should_training_stop |= self.stop is not None
        return control

    def _measure(self, state: Any) -> None:
        begin = time.monotonic()
        found = self._evaluate()
        self.held_out.append({"step": state.global_step, **found})
        self._write({"step": state.global_step, "held_out": found}, state)
        if state.is_world_process_zero:
            seconds = time.monotonic() - begin
            self._say(f"step {state.global_step}: held out: {_shown(found, _OF_HELD_OUT)} ({seconds:.0f} s)")

    def _write(self, row: dict[str, Any], state: Any) -> None:
        if not state.is_world_process_zero:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if "held_out" not in row:
            self._say(f"step {row['step']}/{state.max_steps}: {_shown(row, _OF_A_STEP)}")


def _shown(row: dict[str, Any], names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {row[name]:.3f}" for name in names if row.get(name) is not None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
