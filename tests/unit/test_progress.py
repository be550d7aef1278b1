"""What a run says of its time: each second counts for one stage."""

import pytest

from backend.domain.runs import Stage
from workers.pipeline import progress as progresses
from workers.pipeline.progress import Progress


def test_a_stage_that_comes_again_counts_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progresses.time, "perf_counter", lambda: clock[0])
    told = list[tuple[Stage, float]]()
    progress = Progress(lambda stage, share: told.append((stage, share)))
    for stage, seconds in ((Stage.DECODE, 3.0), (Stage.SEGMENT, 20.0), (Stage.DECODE, 4.0), (Stage.SEGMENT, 100.0)):
        with progress.stage(stage):
            clock[0] += seconds
    assert progress.timings_s == {"decode": 7.0, "segment": 120.0}
    assert [stage for stage, _ in told] == [Stage.DECODE, Stage.SEGMENT] * 2
