"""What a run says of its time: each second counts for one stage."""

import pytest

from backend.domain.runs import Stage
from workers.pipeline import progress as progresses
from workers.pipeline.progress import Progress


def test_what_is_done_for_another_stage_counts_for_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progresses.time, "perf_counter", lambda: clock[0])
    told = list[tuple[Stage, float]]()
    progress = Progress(lambda stage, share: told.append((stage, share)))
    with progress.stage(Stage.DECODE):
        clock[0] += 1.0
        for _ in range(2):
            with progress.counted(Stage.SEGMENT):
                clock[0] += 10.0
        clock[0] += 2.0
    with progress.stage(Stage.SEGMENT):
        clock[0] += 100.0
    assert progress.timings_s == {"decode": 3.0, "segment": 120.0}
    assert told == [(Stage.DECODE, 0.0), (Stage.SEGMENT, 0.0)]
