"""The hold-out: which source videos nobody trains on, for ever, and how videos that show the same stay on one side.

A video's side is a function of its bytes. Copies that were encoded anew, scaled or cut have other bytes, so pictures
are compared too: by the perceptual hashes of frames spread over the clip.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from backend.domain.datasets import Split

#: (frames,) uint64, a 64-bit perceptual hash each.
FrameHashes = NDArray[np.uint64]

_SALT = b"premask hold-out, 1:"


@dataclass(frozen=True, slots=True)
class Likeness:
    """When two videos show the same: `frames_share` of the frames of either look like a frame of the other, that is
    differ in at most `bits` of 64."""

    bits: int
    frames_share: float


@dataclass(frozen=True, slots=True)
class Placement:
    """A video's side. `twin_of`: the video it resembles, whose side it follows; None: its own bytes decided."""

    split: Split
    twin_of: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A video whose side is known."""

    split: Split
    hashes: FrameHashes


def side_of(sha256: str, holdout_share: float) -> Split:
    """The side of a video by its bytes alone: the same for ever, whatever other videos there are."""
    number = int.from_bytes(hashlib.sha256(_SALT + sha256.encode()).digest()[:8], "big")
    return Split.HOLDOUT if number < holdout_share * 2**64 else Split.TRAIN


def place(
    new: Mapping[str, FrameHashes], known: Mapping[str, Source], holdout_share: float, likeness: Likeness
) -> dict[str, Placement]:
    """The sides of new videos, by SHA-256; those of `known` stay.

    New videos that resemble each other, also by way of a third, go together. With a known one they go to its side; with
    known ones of both sides they are on neither; with none the bytes of the one with the smallest SHA-256 decide. So
    the order in which videos came doesn't matter.
    """
    placed: dict[str, Placement] = {}
    names = sorted(new)
    hashes = {name: new[name] for name in names} | {name: source.hashes for name, source in known.items()}
    for group in _groups(names, twins(names, hashes, likeness, among=names)):
        met = twins(group, hashes, likeness, among=sorted(known))
        sides = {known[other].split for _, other in met}
        if not met:
            leader = group[0]
            split = side_of(leader, holdout_share)
            placed |= {name: Placement(split, None if name == leader else leader) for name in group}
            continue
        split = sides.pop() if len(sides) == 1 else Split.NEITHER
        nearest = dict(reversed(met))
        placed |= {name: Placement(split, nearest.get(name, met[0][1])) for name in group}
    return placed


def twins(
    names: Collection[str], hashes: Mapping[str, FrameHashes], likeness: Likeness, among: Collection[str]
) -> list[tuple[str, str]]:
    """The pairs (one of `names`, another of `among`) that show the same, in order."""
    others = [name for name in among if len(hashes[name])]
    if not others:
        return []
    lengths = np.array([len(hashes[name]) for name in others])
    starts = np.cumsum(lengths) - lengths
    frames = np.concatenate([hashes[name] for name in others])
    found = []
    for name in sorted(names):
        if not len(hashes[name]):
            continue
        alike = np.bitwise_count(hashes[name][:, None] ^ frames[None]) <= likeness.bits
        of_theirs = np.add.reduceat(alike.any(axis=0).astype(np.int64), starts) / lengths
        of_ours = np.logical_or.reduceat(alike, starts, axis=1).mean(axis=0)
        same = np.maximum(of_theirs, of_ours) >= likeness.frames_share
        found += [(name, others[place]) for place in np.flatnonzero(same) if others[place] != name]
    return found


def _groups(names: list[str], pairs: list[tuple[str, str]]) -> list[list[str]]:
    """The names, those that are linked together; each group sorted, and the groups by their first."""
    at = {name: place for place, name in enumerate(names)}
    rows, columns = [at[one] for one, _ in pairs], [at[other] for _, other in pairs]
    links = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(links, directed=False)
    groups: dict[int, list[str]] = {}
    for name, label in zip(names, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(name)
    return list(groups.values())
