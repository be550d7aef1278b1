"""The order in which groups are carried, and how threads share it."""

from collections.abc import Iterator
from concurrent.futures import Executor
from threading import Lock, get_ident, main_thread

import pytest
import torch

from workers.pipeline.sweeps import Group, Sweep, plan, walk

COUNT, REACH = 60, 4


def group(frame_index: int, span: range = range(COUNT)) -> Group:
    return Group(frame_index, span, [0], torch.zeros(1, 4))


def test_what_is_carried_everywhere_is_walked_together() -> None:
    groups = [group(10), group(30), group(59)]
    forward, back = plan(groups, REACH, COUNT)
    assert [sweep.order for sweep in forward] == [range(10, COUNT)]
    assert [sweep.order for sweep in back] == [range(58, -1, -1)]
    assert forward[0].active(29) == groups[:1]
    assert forward[0].active(30) == groups[:2]
    assert back[0].active(30) == groups[2:]


def test_what_is_carried_to_its_neighbours_is_walked_alone_as_far_as_memories_are_needed() -> None:
    groups = [group(10, range(31)), group(30, range(10, 33)), group(32, range(30, COUNT))]
    forward, back = plan(groups, REACH, COUNT)
    assert [(s.order, len(s.groups)) for s in forward] == [(range(10, 31), 1), (range(30, 35), 1), (range(32, 60), 1)]
    assert sorted((s.order.start, s.order.stop) for s in back) == [(9, -1), (29, 9), (31, 29)]
    # Nothing lies behind it: no memories are needed for a way back.
    [forward_only], none = plan([group(0, range(3))], REACH, COUNT)
    assert (forward_only.order, none) == (range(3), [])


class Steps:
    """Notes who was advanced when, and by which thread."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.lock, self.seen, self.threads, self.fails_at = Lock(), list[tuple[int, int, bool]](), set[int](), fails_at

    def __call__(self, sweep: Sweep, _: Executor | None) -> Iterator[None]:
        for frame_index in sweep.order:
            with self.lock:
                self.threads.add(get_ident())
                for one in sweep.active(frame_index):
                    if sweep.reverse:
                        assert one.memory is one.ahead
                    self.seen.append((one.frame_index, frame_index, sweep.reverse))
            if frame_index == self.fails_at:
                raise ArithmeticError("no")
            yield


@pytest.mark.parametrize("lanes", [1, 2, 5])
def test_every_group_sees_each_frame_of_its_ways_once_and_turns_after_going_forward(lanes: int) -> None:
    groups = [group(10, range(31)), group(30, range(10, 45)), group(44, range(30, COUNT))]
    steps, told = Steps(), list[float]()
    walk(*plan(groups, REACH, COUNT), steps, lanes, told.append)
    for one in groups:
        ways = [(i, reverse) for k, i, reverse in steps.seen if k == one.frame_index]
        assert ways == [(i, False) for i in one.forward(REACH, COUNT)] + [(i, True) for i in one.back]
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert (steps.threads == {main_thread().ident}) == (lanes == 1)


@pytest.mark.parametrize("lanes", [1, 3])
def test_an_error_on_one_way_or_in_who_is_told_ends_the_walk(lanes: int) -> None:
    groups = [group(10, range(31)), group(30, range(10, COUNT))]
    with pytest.raises(ArithmeticError):
        walk(*plan(groups, REACH, COUNT), Steps(fails_at=40), lanes, lambda _: None)

    def refuse(_: float) -> None:
        raise KeyError("lease")

    with pytest.raises(KeyError):
        walk(*plan(groups, REACH, COUNT), Steps(), lanes, refuse)
