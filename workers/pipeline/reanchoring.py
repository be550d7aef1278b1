"""Re-anchoring: where a track is in doubt, System 2 is asked about that frame, too, and SAM2 starts from there as well.
[Ours]

A mask is in doubt where its score is low, or where it is suddenly much smaller or larger than on the frame before. A
run may ask about so many frames, the most doubtful first, none near one that was looked at already.
"""

from collections.abc import Iterator

from backend.domain.confidence import Confidence
from backend.domain.frames import Sampling
from backend.settings import ReanchoringSettings
from workers.pipeline import scoring
from workers.pipeline.assembling import Found
from workers.pipeline.parsing import Moment


def doubtful(
    found: Found, sampling: Sampling, settings: ReanchoringSettings, confidence: Confidence | None
) -> dict[int, Moment]:
    """The frames to ask about, each with the words for it: those of the nearest keyframe that names the track."""
    time_s = found.probe.time_s
    looked = [one.frame_index for one in found.decision.looked]
    chosen: dict[int, Moment] = {}
    for _, frame_index, description in sorted(_doubts(found, settings, confidence)):
        if len(chosen) == settings.frames:
            break
        near = min(abs(time_s(frame_index) - time_s(other)) for other in (*looked, *chosen))
        if near >= settings.apart_s:
            nominal_s = sampling.nominal_s_of(frame_index)
            chosen[frame_index] = Moment(nominal_s, nominal_s, description)
    return chosen


def _doubts(
    found: Found, settings: ReanchoringSettings, confidence: Confidence | None
) -> Iterator[tuple[float, int, str]]:
    """(how sure, frame, description of what should be there) of every mask in doubt."""
    prompts = found.decision.prompts
    said = {looked.frame_index: looked.moment.description for looked in found.decision.looked}
    for thing in found.linked:
        named = [prompts[member].frame_index for member in thing.members]
        _, _, scores = scoring.of_track(thing, found.decision, found.propagations, found.probe, confidence)
        for frame_index, score, given in scores.told():
            # A thing that has just come in is small, and is no jump.
            jumps = given.steady < settings.area_ratio
            if score < settings.below or jumps:
                nearest = min(named, key=lambda other: abs(other - frame_index))
                yield min(score, given.steady) if jumps else score, frame_index, said[nearest]
