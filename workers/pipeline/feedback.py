"""Feedback: System 1 is asked once more, with what System 2 saw, where its first answer led to nothing or to something
doubtful; the better of the two answers is kept. [Ours]"""

from collections.abc import Sequence

from backend.domain.confidence import Confidence
from workers.pipeline import scoring
from workers.pipeline.assembling import Found
from workers.pipeline.decision import Looked


def worth(found: Found, confidence: Confidence | None) -> float:
    """The best track's score, 0 without a track. Without a calibration SAM2's estimate counts only as far as keyframes
    agree with each other."""
    best = 0.0
    for thing in found.linked:
        score, given, _ = scoring.of_track(thing, found.decision, found.propagations, found.probe, confidence)
        best = max(best, score if confidence is not None else score * given.supported * max(given.agreed, 0.5))
    return best


def in_words(looked: Sequence[Looked]) -> str:
    """What System 2 saw on each of the frames that System 1 chose, for System 1 to read."""
    if not looked:
        return "nothing could be looked at"
    return "; ".join(_one(one) for one in looked)


def _one(looked: Looked) -> str:
    minutes, seconds = divmod(looked.moment.start_s, 60)
    count = len(looked.boxes)
    found = "nothing" if not count else "one object" if count == 1 else f"{count} objects"
    return f'at {int(minutes):02d}:{seconds:05.2f}, searched for "{looked.moment.description}": {found}'
