"""The hold-out: a video's side never depends on what else there is, except that what shows the same goes together."""

import hashlib
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.datasets import Split
from backend.domain.holdout import FrameHashes, Likeness, Placement, Source, place, side_of, twins
from integrations.media.fingerprint import FRAMES, frame_hashes
from integrations.media.probe import probe_video
from tests.factories.reviewed import write_scene

LIKENESS = Likeness(bits=6, frames_share=0.5)


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def look(seed: int, noise_bits: int = 0, frames: int = 16) -> FrameHashes:
    """Hashes of a video of its own look; with noise those of a copy."""
    hashes = np.random.default_rng(seed).integers(0, 2**64, frames, dtype=np.uint64)
    return hashes ^ np.uint64(2**noise_bits - 1)


def placed(
    new: Mapping[str, FrameHashes], known: Mapping[str, Source] | None = None, share: float = 0.3
) -> dict[str, Placement]:
    return place(new, known or {}, share, LIKENESS)


def test_a_side_is_the_share_and_never_leaves_the_hold_out_when_it_grows() -> None:
    names = [name(number) for number in range(4000)]
    held = {share: {one for one in names if side_of(one, share) is Split.HOLDOUT} for share in (0.0, 0.1, 0.2, 1.0)}
    assert (len(held[0.0]), len(held[1.0])) == (0, 4000)
    assert abs(len(held[0.2]) - 800) < 100
    assert held[0.1] < held[0.2]
    # A side that changed from one version to the next would let what was held out into training.
    assert [side_of(digit * 64, 0.5).value[0] for digit in "0123456789abcdef"] == list("hhthttththhhhtth")


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 8))
def test_sides_don_t_depend_on_the_order(order: list[int], known_count: int) -> None:
    """Videos 0 to 3 are each copied once, as 4 to 7; some are known already."""
    looks = {name(n): look(n % 4, noise_bits=3 if n >= 4 else 0) for n in order}
    whole = placed(looks)
    assert {n: one.split for n, one in placed(dict(sorted(looks.items()))).items()} == {
        n: p.split for n, p in whole.items()
    }
    for n in range(4):
        assert whole[name(n)].split is whole[name(n + 4)].split
    first = {name(n): looks[name(n)] for n in order[:known_count]}
    known = {n: Source(one.split, looks[n]) for n, one in placed(first).items()}
    rest = {n: hashes for n, hashes in looks.items() if n not in known}
    sides = {n: one.split for n, one in placed(rest, known).items()} | {n: one.split for n, one in known.items()}
    for n in range(4):
        assert sides[name(n)] is sides[name(n + 4)]
    train, held = ([n for n, side in sides.items() if side is split] for split in (Split.TRAIN, Split.HOLDOUT))
    assert twins(train, looks, LIKENESS, among=held) == []


def test_copies_of_a_copy_go_together_by_way_of_it() -> None:
    """The ends of a chain don't resemble each other."""
    chain = {name(n): look(0, noise_bits=5 * n) for n in range(4)}
    assert twins([name(0)], chain, LIKENESS, among=[name(3)]) == []
    assert len({one.split for one in placed(chain).values()}) == 1


def test_a_video_between_both_sides_is_on_neither_and_so_is_its_copy() -> None:
    known = {"a": Source(Split.TRAIN, look(1)), "b": Source(Split.HOLDOUT, look(2))}
    between = np.concatenate([look(1)[:8], look(2)[:8]])
    assert placed({"c": between}, known)["c"].split is Split.NEITHER
    known["c"] = Source(Split.NEITHER, between)
    assert placed({"d": between ^ np.uint64(1)}, known)["d"].split is Split.NEITHER


@pytest.mark.parametrize(("alike", "same"), [(8, True), (7, False)])
def test_half_of_the_frames_of_either_are_enough(alike: int, same: bool) -> None:
    part = np.concatenate([look(1)[:alike], look(2)[: 16 - alike]])
    hashes = {"a": look(1), "b": part, "short": look(1, frames=16)[:2]}
    assert bool(twins(["a"], hashes, LIKENESS, among=["b"])) == same
    assert twins(["a"], hashes, LIKENESS, among=["short"]) == [("a", "short")]
    assert twins(["short"], hashes, LIKENESS, among=["a", "short"]) == [("short", "a")]


def test_copies_encoded_anew_and_scaled_are_found_and_other_videos_aren_t(tmp_path: Path) -> None:
    def hashes(seed: int, name: str, **more: int) -> FrameHashes:
        path = write_scene(tmp_path / f"{name}.mp4", seed, **more)
        return frame_hashes(path, probe_video(path))

    first = {f"scene {seed}": hashes(seed, str(seed)) for seed in range(6)}
    assert all(len(one) == min(FRAMES, 12) and one.dtype == np.uint64 for one in first.values())
    pairs = [pair for one, other in combinations(first, 2) for pair in twins([one], first, LIKENESS, among=[other])]
    assert pairs == []
    copies = {"worse": hashes(0, "worse", crf=38), "larger": hashes(0, "larger", width=160, height=120)}
    for copy in copies:
        assert twins([copy], first | copies, LIKENESS, among=list(first)) == [(copy, "scene 0")]
