"""What is written down of a training, and how it goes on from there."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from backend.settings import GuardSettings
from workers.learning.deadline import Deadline
from workers.learning.watch import Watch


def state(step: int, **more: Any) -> Any:
    return SimpleNamespace(global_step=step, max_steps=9, is_world_process_zero=True, **more)


def watch(path: Path, said: list[str] | None = None) -> Watch:
    scores = iter([0.9, 0.8, 0.7])

    def evaluate() -> dict[str, Any]:
        return {"score": next(scores), "jf": None, "right": None, "keyframes": 1.0, "chosen": 3.0}

    return Watch(path, GuardSettings(window=2), 2, evaluate, (said if said is not None else []).append)


def going_on() -> SimpleNamespace:
    return SimpleNamespace(should_training_stop=False)


def log(watching: Watch, step: int, **logs: Any) -> Any:
    return watching.on_log(None, state(step), going_on(), {"loss": 0.1, "reward": 2.0, "entropy": 0.5, **logs})


def test_a_row_each_step_and_each_evaluation_and_what_a_kill_left_is_cut(tmp_path: Path) -> None:
    path, said = tmp_path / "metrics.jsonl", list[str]()
    first = watch(path, said)
    first.on_train_begin(None, state(0))
    for step in (1, 2, 3):
        assert not first.on_step_end(None, state(step), going_on()).should_training_stop
        log(first, step, **{"parts/masks": 0.7, "frac_reward_zero_std": 0.25})
    with path.open("a") as file:
        file.write('{"step": 4, "rew')
    rows = [json.loads(line) for line in path.read_text().splitlines()[:-1]]
    assert [(row["step"], "held_out" in row) for row in rows] == [
        (0, True),
        (1, False),
        (2, True),
        (2, False),
        (3, False),
    ]
    assert rows[1] | {"masks": 0.7, "dead_groups": 0.25, "reward": 2.0} == rows[1]
    assert "step 1/9: reward 2.000, masks 0.700" in said[1]

    again = watch(path)
    again.take_up(2)
    again.cut(2)
    assert [row["step"] for row in again.steps] == [1, 2]
    assert [row["score"] for row in again.held_out] == [0.9, 0.8]
    again.on_train_begin(None, state(2))
    assert len(again.held_out) == 2, "measured before"
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 2]


def test_out_of_time_it_is_measured_once_more_and_ends(tmp_path: Path) -> None:
    over = Deadline(1e-9)
    watching = Watch(tmp_path / "metrics.jsonl", GuardSettings(), 100, lambda: {"score": 0.5}, print, over)
    assert watching.on_step_end(None, state(1), going_on()).should_training_stop
    assert [row["step"] for row in watching.held_out] == [1]


def test_a_guard_stops_the_training_and_stays_said(tmp_path: Path) -> None:
    watching = watch(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        assert not log(watching, step).should_training_stop
    assert log(watching, 4, grad_norm=float("inf")).should_training_stop
    assert watching.stop is not None
    assert watching.stop.guard == "not_finite"
    assert log(watching, 5).should_training_stop


def test_a_step_that_lacks_rewards_has_no_reward_to_compare(tmp_path: Path) -> None:
    watching = watch(tmp_path / "metrics.jsonl")
    log(watching, 1, unanswered=0.25)
    log(watching, 2, unanswered=0.0)
    assert [row["reward"] for row in watching.steps] == [None, 2.0]


def test_the_summary_at_the_end_is_no_step(tmp_path: Path) -> None:
    watching = watch(tmp_path / "metrics.jsonl")
    watching.on_log(None, state(9), SimpleNamespace(should_training_stop=False), {"train_loss": 0.1})
    assert watching.steps == []
