"""What a run tells while it goes on: seconds by stage, warnings in order, and how far it is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from backend.domain.runs import Stage
from backend.ports.pipeline import StageListener
from workers.pipeline.decision import Decision


@dataclass(slots=True)
class Progress:
    listener: StageListener | None
    timings_s: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        self.tell(stage, 0.0)
        begin = time.perf_counter()
        yield
        spent = time.perf_counter() - begin
        self.timings_s[stage.value] = round(self.timings_s.get(stage.value, 0.0) + spent, 4)

    def go_on(self, decision: Decision) -> None:
        """Begin with what was said and spent up to the decision."""
        self.warnings = list(decision.warnings)
        for stage, seconds in decision.timings_s.items():
            self.timings_s[stage] = round(self.timings_s.get(stage, 0.0) + seconds, 4)

    def tell(self, stage: Stage, share: float) -> None:
        if self.listener is not None:
            self.listener(stage, share)
