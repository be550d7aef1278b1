"""Held out: what the model in training answers, greedily, about clips that it doesn't learn from.

The measure is what people are shown: J&F of the masks that System 2 and SAM2 make of the answer. It is taken on the
resampled clip, so that it costs a small share of a whole evaluation; the gate measures whole videos.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from workers.learning.judging import Judge, Judged
from workers.learning.libraries import gather_object
from workers.learning.samples import Sample
from workers.learning.trainer import OmniGRPOTrainer

#: Samples that are answered together.
_TOGETHER = 8


def measure(trainer: OmniGRPOTrainer, samples: Iterator[Sample], judge: Judge) -> list[tuple[str, Judged]]:
    """Kind and judgement of each sample of this process."""
    found: list[tuple[str, Judged]] = []
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == _TOGETHER:
            found += _answered(trainer, batch, judge)
            batch = []
    return found + (_answered(trainer, batch, judge) if batch else [])


def _answered(trainer: OmniGRPOTrainer, samples: list[Sample], judge: Judge) -> list[tuple[str, Judged]]:
    completions = trainer.greedy(samples)
    return [
        (sample.kind, judge.judge(sample, [completion])[0])
        for sample, completion in zip(samples, completions, strict=True)
    ]


def figures(found: Sequence[tuple[str, Judged]]) -> dict[str, Any]:
    """Means over all processes' samples: `score` is that of J&F, or of right descriptions where SAM2 wasn't asked or
    didn't answer; None where neither is known. `jf_n`: of so many samples; of the others no mask is known on the frames
    that are shown, and those are the same ones each time."""
    everything: list[tuple[str, Judged]] = gather_object(list(found))
    judged = [one for _, one in everything]
    jf = [one.similarity.jf for one in judged if one.similarity is not None]
    right = [float(one.right) for one in judged if one.right is not None]
    # Of the samples alone for which SAM2 answered it would be another measure than the time before.
    whole = all(one.answered for one in judged)
    score = _mean(right) if not jf else _mean(jf) if whole else None
    by_kind = {kind: _mean([float(one.right) for k, one in everything if k == kind and one.right is not None])
               for kind in sorted({kind for kind, _ in everything})}  # fmt: skip
    return {
        "score": score, "jf": _mean(jf) if whole else None, "jf_n": len(jf), "right": _mean(right),
        "format": _mean([one.reward.format for one in judged]),
        "keyframes": _mean([one.reward.keyframes for one in judged]),
        "chosen": _mean([float(one.moments) for one in judged]), "right_by_kind": by_kind, "n": len(judged),
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None
