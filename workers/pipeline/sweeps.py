"""Sweeps: in which order the groups of prompts are carried over the frames, and by how many threads.

No model here: what it takes to advance by a frame is given by the segmenter.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from threading import Event

import torch

_PROGRESS_EVERY_S = 0.1
#: What the tracker remembers of a frame: its features, if they are still near enough to be read, and object pointers.
Memory = dict[str, torch.Tensor]


@dataclass(slots=True)
class Group:
    """The prompts of one frame that are carried equally far: rows of one batch, all boxes or all masks. `rows` are
    indices into the caller's prompts; `ahead` are the first memories of the way forward: the way back begins with them
    behind it, as in Meta's predictor."""

    frame_index: int
    span: range
    rows: list[int]
    boxes: torch.Tensor  # (n, 4) in model pixels
    masks: torch.Tensor | None = None  # (n, 1, size, size), 0 or 1
    conditioning: Memory | None = None
    memory: dict[int, Memory] = field(default_factory=dict)
    ahead: dict[int, Memory] = field(default_factory=dict)
    #: Of the memories' pixels: the same on every frame.
    positions: list[torch.Tensor] | None = None

    def forward(self, reach: int, frame_count: int) -> range:
        """At least as far as the way back needs memories."""
        stop = self.span.stop
        if self.span.start < self.frame_index:
            stop = max(stop, min(frame_count, self.frame_index + reach + 1))
        return range(self.frame_index, stop)

    @property
    def back(self) -> range:
        return range(self.frame_index - 1, self.span.start - 1, -1)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One walk over frames with the groups that join it on the way and end with it. `number`: which of all it is."""

    number: int
    order: range
    groups: tuple[Group, ...]
    reverse: bool

    def active(self, frame_index: int) -> list[Group]:
        if self.reverse:
            return [group for group in self.groups if frame_index < group.frame_index]
        return [group for group in self.groups if frame_index >= group.frame_index]

    def end(self) -> None:
        """Forget what no way back needs."""
        for group in self.groups:
            group.memory = {}
            if self.reverse or not group.back:
                group.conditioning, group.positions, group.ahead = None, None, {}


#: Advances a sweep by one frame each time it is asked, beside each other if there is a pool for it.
Advance = Callable[[Sweep, Executor | None], Iterator[None]]


def plan(groups: Sequence[Group], reach: int, frame_count: int) -> tuple[list[Sweep], list[Sweep]]:
    """The ways forward and those back. Groups whose ways end on the same frame are walked together, for they share
    most of their frames; others part company at a keyframe. `reach`: how many frames back memories are read."""

    def stop(group: Group) -> int:
        return group.forward(reach, frame_count).stop

    def start(group: Group) -> int:
        return group.span.start

    forward, back = list[Sweep](), list[Sweep]()
    for end, members in groupby(sorted(groups, key=stop), stop):
        together = tuple(members)
        order = range(min(g.frame_index for g in together), end)
        forward.append(Sweep(len(forward), order, together, reverse=False))
    for end, members in groupby(sorted((g for g in groups if g.back), key=start), start):
        together = tuple(members)
        order = range(max(g.frame_index for g in together) - 1, end - 1, -1)
        back.append(Sweep(len(forward) + len(back), order, together, reverse=True))
    return forward, back


def walk(
    forward: Sequence[Sweep], back: Sequence[Sweep], advance: Advance, lanes: int, on_progress: Callable[[float], None]
) -> None:
    """Every way forward, and every way back after those of its groups. Several ways are walked beside each other, a
    single one has its groups beside each other. Progress is told in the calling thread; what is raised there, or on
    any of the ways, ends all of them."""
    sweeps, begun = [*forward, *back], dict[int, Future[None]]()
    steps, stopped = sum(len(sweep.order) for sweep in sweeps), Event()
    done = [0] * len(sweeps)

    def go(number: int, pool: Executor | None) -> Iterator[None]:
        sweep = sweeps[number]
        if sweep.reverse:
            for group in sweep.groups:
                group.memory = group.ahead
        for _ in advance(sweep, pool):
            done[number] += 1
            yield

    def go_alone(number: int) -> None:
        # Only for ways that were begun before this one, so the pool never waits for itself.
        for earlier in {begun[id(group)] for group in sweeps[number].groups if sweeps[number].reverse}:
            earlier.result()
        for _ in go(number, None):
            if stopped.is_set():
                return

    with ThreadPoolExecutor(lanes, "segmenter") as pool:
        if lanes == 1 or len(forward) == 1:
            for number in range(len(sweeps)):
                for _ in go(number, pool):
                    on_progress(sum(done) / steps)
            return
        waiting = set[Future[None]]()
        for number, sweep in enumerate(sweeps):
            way = pool.submit(go_alone, number)
            waiting.add(way)
            if not sweep.reverse:
                begun |= {id(group): way for group in sweep.groups}
        try:
            while waiting:
                finished, waiting = wait(waiting, _PROGRESS_EVERY_S, FIRST_EXCEPTION)
                for way in finished:
                    way.result()
                on_progress(sum(done) / steps)
        finally:
            stopped.set()
