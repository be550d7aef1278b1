"""The training loop: what is stopped goes on as if it had not been; schedules; refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workers.shapeworld.training.loop import CannotResume, Training
from workers.shapeworld.training.trainee import Figures, Phase, Source, Trainee

PHASES = (Phase("first", 4, 0.1, warmup=2), Phase("second", 3, 0.05, warmup=1, decay=0))


class Lines(Source):
    """Points of a line; each step its own."""

    def batch(self, phase: Phase, step: int) -> Any:
        x = np.random.default_rng([len(phase.name), step]).normal(size=(8, 3)).astype(np.float32)
        return x, x @ np.asarray([1.0, -2.0, 0.5], np.float32)


class Line(Trainee):
    """A linear model whose loss draws random numbers, as dropout does."""

    phases = PHASES
    source = Lines()

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.modules = torch.nn.ModuleDict({"line": torch.nn.Linear(3, 1)})
        self.break_at: int | None = None

    def begin(self, _: Phase) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW([{"params": list(self.modules.parameters()), "scale": 0.5}])]

    def loss(self, _: Phase, step: int, batch: Any) -> tuple[torch.Tensor, Figures]:
        x, y = (torch.as_tensor(part) for part in batch)
        found = self.modules["line"](torch.nn.functional.dropout(x, 0.2))[:, 0]
        loss = ((found - y) ** 2).mean()
        if step == self.break_at:
            loss = loss * float("nan")
        return loss, {"loss": loss.item()}

    def validate(self, _: Phase) -> Figures:
        return {"weight": float(self.modules["line"].weight.detach().sum())}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.modules["line"].state_dict(), folder / "line.pt")


def train(folder: Path, loaders: int = 0, trainee: Trainee | None = None, **options: Any) -> Training:
    return Training(
        trainee or Line(), folder, {"model": "line", "seed": 0}, loaders=loaders, say=lambda _: None, **options
    )


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return torch.load(folder / "checkpoint" / "line.pt"), [{k: v for k, v in r.items() if k != "seconds"} for r in rows]


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_training_that_stops_after_every_step_is_the_same_training(tmp_path: Path, loaders: int) -> None:
    assert train(tmp_path / "whole").run()
    stops = 0
    while not train(tmp_path / "torn", loaders).run(stop_after_s=0):
        stops += 1
        assert stops < 20
    assert stops == 7
    weights, curve = outcome(tmp_path / "whole")
    torn_weights, torn_curve = outcome(tmp_path / "torn")
    torch.testing.assert_close(torn_weights, weights, rtol=0, atol=0)
    assert torn_curve == curve


def test_what_came_after_the_last_saving_is_made_again(tmp_path: Path) -> None:
    """As after a kill: the weights of the last saving, and a curve that knows nothing of what is lost."""
    train(tmp_path / "whole").run()
    killed = train(tmp_path / "killed", save_every_s=1e9, validate_every_s=0)
    killed.run(stop_after_s=0)
    state = (tmp_path / "killed" / "state.pt").read_bytes()
    train(tmp_path / "killed", validate_every_s=0).run(stop_after_s=0)
    (tmp_path / "killed" / "state.pt").write_bytes(state)
    train(tmp_path / "killed").run()
    (weights, _), (again, curve) = outcome(tmp_path / "whole"), outcome(tmp_path / "killed")
    torch.testing.assert_close(again, weights, rtol=0, atol=0)
    places = [(row["phase"], row["step"], "validation_weight" in row) for row in curve]
    assert len(places) == len(set(places))


def test_being_told_to_stop_ends_after_the_step_and_saves(tmp_path: Path) -> None:
    training = train(tmp_path)
    training.stop()
    assert not training.run()
    assert torch.load(tmp_path / "state.pt")["step"] == 1


def test_another_recipe_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    train(tmp_path).run(stop_after_s=0)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(CannotResume, match="choose another folder"):
        Training(Line(), tmp_path, {"model": "line", "seed": 1}, say=lambda _: None).run()
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_broken_gradient_ends_the_training_and_says_where(tmp_path: Path) -> None:
    line = Line()
    line.break_at = 2
    with pytest.raises(FloatingPointError, match="phase first, step 2"):
        train(tmp_path, trainee=line).run()


def test_the_rate_rises_stays_and_falls() -> None:
    phase = Phase("p", 100, 1.0, warmup=10, decay=0.5)
    rates = [phase.learning_rate_at(step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert set(rates[10:51]) == {1.0}
    assert rates[50:] == sorted(rates[50:], reverse=True)
    assert rates[75] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.02)
    assert Phase("p", 1000, 1.0, warmup=0, decay=0.5).learning_rate_at(999) == 0.01
