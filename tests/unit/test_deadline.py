"""A training that is given a time: its learning rate has come down when that is over."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.factories.small_training import SETTINGS, small_training
from workers.learning import run
from workers.learning.deadline import Annealing

# Importable only once torchvision was made so, by what is above.
from transformers import get_cosine_schedule_with_warmup  # isort: skip


def deadline(*shares: float) -> Any:
    told = iter(shares)
    return SimpleNamespace(share=lambda: next(told))


def rates(share: Any, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = share(optimizer)
    found = []
    for _ in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return found


def test_on_pace_it_is_the_cosine_to_the_bit() -> None:
    kept = deadline(*(n / 40 + 0.04 for n in range(41)))
    ours = rates(lambda it: torch.optim.lr_scheduler.LambdaLR(it, Annealing(40, 6, kept)), 40)
    assert ours == rates(lambda it: get_cosine_schedule_with_warmup(it, 6, 40), 40)


def test_behind_it_comes_down_with_the_time_and_never_up_again() -> None:
    share = Annealing(100, 2, deadline(0.0, 0.2, 0.4, 0.4, 0.9, 0.1, 1.0, 1.3))
    found = [share(step) for step in range(8)]
    assert found[:2] == [0.0, 0.5]
    assert sorted(found[2:], reverse=True) == found[2:]
    assert found[5] == found[4]
    assert found[6] < 0.01
    assert found[7] == 0.0


def test_what_goes_on_has_its_own_deadline_and_no_higher_rate() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    first = torch.optim.lr_scheduler.LambdaLR(optimizer, Annealing(100, 0, deadline(0.0, 0.6)))
    optimizer.step()
    first.step()
    rate = optimizer.param_groups[0]["lr"]
    later = torch.optim.lr_scheduler.LambdaLR(optimizer, Annealing(100, 0, deadline(0.0, 0.0, 1.05)))
    later.load_state_dict(first.state_dict())
    later.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
    later.step()
    assert optimizer.param_groups[0]["lr"] == 0.0


def test_a_training_that_runs_out_of_time_ends_annealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    class ByTheStep:
        """Over after three steps: it is asked for both groups of weights before them, and for those and the end after
        each."""

        def __init__(self, seconds_max: float) -> None:
            begun.append(seconds_max)
            self.asked = 0

        def share(self) -> float:
            self.asked += 1
            return self.asked / 11

    monkeypatch.setattr(run, "Deadline", ByTheStep)
    verdict = small_training(tmp_path, SETTINGS.model_copy(update={"steps": 50, "warmup_steps": 0, "minutes_max": 2.0}))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = [row["learning_rate"] for row in rows if "held_out" not in row]
    assert (verdict.steps, begun) == (3, [120.0])
    assert found[-1] < 0.6 * SETTINGS.learning_rate < found[0], "of fifty steps these would be the first three"
