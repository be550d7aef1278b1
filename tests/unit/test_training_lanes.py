"""Lanes: a batch in parts is the same batch, its gradients are those of its parts, and the same each time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.test_training_loop import PHASES, Line, Lines, outcome, train
from workers.shapeworld.training.lanes import Lanes
from workers.shapeworld.training.system1.batches import Batch, System1Source
from workers.shapeworld.training.system1.pictures import Pieces
from workers.shapeworld.training.system1.recipe import trainee
from workers.shapeworld.training.trainee import Figures, Part, Phase

EYES = Path("workers/shapeworld/checkpoints/system2")
OPTIONS = {"readings": 5, "listen_every": 2, "drill": 3, "gray": 5, "match": 1.0, "point": 1.0}
APART = Phase("apart", 4, 1e-3, options={**OPTIONS, "stream": 1, "scenes": 3, "of_one": 3})
WHOLE = Phase("whole", 4, 1e-3, options={**OPTIONS, "stream": 2, "clips": 5})
#: Of these steps the second has sound with the clips, or alone.
STEPS = (1, 2)


@pytest.fixture(scope="module")
def source() -> System1Source:
    return System1Source(3)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("phase", [APART, WHOLE], ids=lambda phase: phase.name)
def test_the_parts_of_a_batch_are_the_batch(source: System1Source, phase: Phase, step: int, count: int) -> None:
    batch = source.batch(phase, step)
    parts = batch.split(count)
    assert len(parts) == count
    assert sum((part.clips for part in parts), ()) == batch.clips
    assert sum((part.readings for part in parts), ()) == batch.readings
    _same([part.pieces for part in parts], batch.pieces)
    assert batch.gray is not None
    _same([part.gray for part in parts if part.gray is not None], batch.gray)
    for kind in ("sounds", "drill"):
        whole = getattr(batch, kind)
        some = [found for part in parts if (found := getattr(part, kind)) is not None]
        if whole is None:
            assert not some
            continue
        np.testing.assert_array_equal(np.concatenate([sounds.waves for sounds in some]), whole.waves)
        np.testing.assert_array_equal(np.concatenate([sounds.shapes for sounds in some]), whole.shapes)
    for part in parts:
        _fits(part)


def _same(parts: list[Pieces], whole: Pieces) -> None:
    for name in Pieces.__slots__:
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))


def _fits(part: Batch) -> None:
    """Pieces, sounds and lists are those of the part's clips."""
    if part.clips:
        assert len(part.pieces.frames) == 8 * len(part.clips)
        assert part.sounds is None or len(part.sounds.shapes) == len(part.clips)
        assert part.listed is not None
        assert len(part.listed[0]) == len(part.listed[1]) == len(part.clips)


def test_more_parts_than_clips_are_not_made(source: System1Source) -> None:
    assert [len(part.clips) for part in source.batch(WHOLE, 1).split(9)] == [1] * 5


@pytest.fixture
def one_thread() -> Iterator[None]:
    """A lane's products are one thread's; shared by two, sums in bfloat16 are rounded elsewhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.usefixtures("one_thread")
def test_gradients_of_lanes_are_those_of_the_parts_one_after_the_other(source: System1Source, step: int) -> None:
    learner = trainee(0, "cpu", EYES)
    batch, lanes = source.batch(WHOLE, step), Lanes(learner, 2)
    named = dict(learner.modules.named_parameters())

    def found() -> dict[str, torch.Tensor]:
        return {name: parameter.grad.clone() for name, parameter in named.items() if parameter.grad is not None}

    figures = lanes.backward(WHOLE, step, batch)
    together = found()
    lanes.backward(WHOLE, step, batch)
    torch.testing.assert_close(found(), together, rtol=0, atol=0)
    learner.modules.zero_grad()
    parts = learner.split(batch, 2)
    assert [part.share for part in parts] == [2 / 5, 3 / 5]
    said = 0.0
    for part in parts:
        loss, its = learner.loss(WHOLE, step, part.batch)
        torch.autograd.backward(loss * part.share)
        said += part.share * its["said"]
    torch.testing.assert_close(found(), together, rtol=0, atol=0)
    assert figures["said"] == pytest.approx(said, abs=1e-5)


class Halves(Line):
    """Its loss is a mean over points, and draws no random numbers."""

    def split(self, batch: Any, count: int) -> list[Part]:
        x, y = batch
        return [Part((x[n::count], y[n::count]), 1 / count) for n in range(count)]

    def loss(self, _: Phase, __: int, batch: Any) -> tuple[torch.Tensor, Figures]:
        x, y = (torch.as_tensor(part) for part in batch)
        loss = ((self.modules["line"](x)[:, 0] - y) ** 2).mean()
        return loss, {"loss": loss.item(), f"odd {float(x[0, 0])}": 1.0}


@pytest.mark.parametrize("lanes", [2, 4])
def test_a_training_in_lanes_is_the_training_of_whole_batches(tmp_path: Path, lanes: int) -> None:
    x, y = Lines().batch(PHASES[0], 0)
    whole, parts = Halves(), Halves()
    Lanes(whole, 1).backward(PHASES[0], 0, (x, y))
    figures = Lanes(parts, lanes).backward(PHASES[0], 0, (x, y))
    torch.testing.assert_close(parts.modules["line"].weight.grad, whole.modules["line"].weight.grad)
    # What one part alone says counts as it says it.
    assert [value for name, value in figures.items() if name.startswith("odd")] == [1.0] * lanes
    for folder in ("one", "another"):
        assert train(tmp_path / folder, trainee=Halves(), lanes=lanes).run()
    (one, curve), (another, same_curve) = outcome(tmp_path / "one"), outcome(tmp_path / "another")
    torch.testing.assert_close(one, another, rtol=0, atol=0)
    assert curve == same_curve
