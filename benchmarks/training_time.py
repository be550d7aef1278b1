"""How long all three small models take from nothing, by a sample of every phase: `python -m benchmarks.training_time`.

As `make train` does it, the segmenter is trained beside the Thinkers, System 2 and then System 1 with two threads. Each
phase is begun with the recipe's options and goes on for some steps; the last half of them is timed, the loader's work
included, while the other process is as busy. A phase's seconds are its steps' mean times the recipe's steps, and the
share that validations every five minutes add. Scenes that System 1's loader makes once in a training are made before,
and their seconds added. Prints the seconds of each phase and last one JSON line; the ratio is that of the slower
process, which has both cores when the other is done, to four hours: at most so long.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from workers.shapeworld.training import segmenter, system1, system2
from workers.shapeworld.training.loop import Training
from workers.shapeworld.training.trainee import Phase, Trainee

SAMPLE_STEPS = 24
TARGET_S = 4 * 3600
VALIDATE_EVERY_S = 300
#: The processes of `make train`, and with how many threads each model is trained.
PROCESSES = (("segmenter",), ("system2", "system1"))
#: A System 2's eyes; whose they are doesn't change what a step takes.
EYES = Path(system2.__file__).parents[2] / "checkpoints/system2"
THREADS = {"segmenter": 1, "system2": 1, "system1": 2}


class _Timed(Training):
    """Knows when each step of a phase was done."""

    done_s: dict[str, list[float]]

    def _advance(self, phase: Phase, batch: Any) -> None:
        super()._advance(phase, batch)
        self.done_s.setdefault(phase.name, []).append(time.monotonic())


def main() -> None:
    context = get_context("spawn")
    results: Any = context.Queue()
    finished = context.Event()
    running = [context.Process(target=_sample, args=(models, results, finished)) for models in PROCESSES]
    for process in running:
        process.start()
    seconds = dict(results.get() for _ in PROCESSES)
    finished.set()
    for process in running:
        process.join()
    totals = {" and ".join(models): round(sum(seconds[models].values())) for models in PROCESSES}
    for of_process in seconds.values():
        for name, value in of_process.items():
            print(f"{name}: {value:.0f} s")
    ratio = round(max(totals.values()) / TARGET_S, 3)
    result = {"benchmark": "training_time", "ratio": ratio, "target": 1.0, "ok": ratio <= 1}
    print(json.dumps(result | {"detail": {"seconds": totals, "cores": os.cpu_count()}}))


def _sample(models: tuple[str, ...], results: Any, finished: Any) -> None:
    """Put this process' models with the seconds of each of their phases, then go on until the other has, too."""
    torch.set_num_threads(1)
    trainees = {model: _begun(model) for model in models}
    results.put((models, {name: s for model in models for name, s in _seconds(model, trainees[model])}))
    while not finished.is_set():
        for _ in _seconds(models[0], _begun(models[0]), finished):
            pass


def _begun(model: str) -> Trainee:
    if model == "segmenter":
        return segmenter.trainee(0, "cpu")
    if model == "system2":
        return system2.trainee(0, "cpu")
    return system1.trainee(0, "cpu", EYES)


def _seconds(model: str, trainee: Trainee, finished: Any = None) -> Iterator[tuple[str, float]]:
    """Of each phase as a whole; fewer when it is told that the other process is done."""
    if model == "system1":
        begin = time.monotonic()
        # Made when they are first drawn, and kept: a sample is too short to draw them all.
        source: Any = trainee.source
        for scenes in (source._scenes, source._crossed):
            for number in range(scenes.count):
                scenes[number]
        yield "system1: its scenes", time.monotonic() - begin
    validations: list[float] = []
    validate = trainee.validate

    def timed(phase: Phase) -> Any:
        begin = time.monotonic()
        figures = validate(phase)
        validations.append(time.monotonic() - begin)
        return figures

    trainee.validate = timed  # type: ignore[method-assign]
    for phase in trainee.phases:
        if finished is not None and finished.is_set():
            return
        trainee.phases = (replace(phase, steps=SAMPLE_STEPS),)
        with tempfile.TemporaryDirectory() as folder:
            training = _Timed(trainee, Path(folder), {}, validate_every_s=1e9, lanes=THREADS[model], say=lambda _: None)
            training.done_s = {}
            training.run()
        done_s = training.done_s[phase.name]
        step_s = (done_s[-1] - done_s[SAMPLE_STEPS // 2]) / (SAMPLE_STEPS - 1 - SAMPLE_STEPS // 2)
        yield f"{model}: {phase.name}", phase.steps * step_s * (1 + statistics.mean(validations) / VALIDATE_EVERY_S)


if __name__ == "__main__":
    main()
