"""Frames on disk: as many as there is room for, decoded again when they are asked for again."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from workers.pipeline.encoding import Features, FrameEncoder
from workers.pipeline.frame_store import FrameStore

COUNT, SIZE = 100, 4


def picture(frame_index: int) -> np.ndarray:
    return np.full((8, 8, 3), frame_index, np.uint8)


class Decoder:
    def __init__(self, fails_at: int | None = None) -> None:
        self.asked, self.fails_at = list[range](), fails_at

    def __call__(self, frames: range) -> Iterator[tuple[int, Any]]:
        self.asked.append(frames)
        for frame_index in frames:
            if frame_index == self.fails_at:
                raise ArithmeticError("no")
            yield frame_index, picture(frame_index)


def room(frames: int) -> int:
    return frames * SIZE * SIZE * 3


def numbers(store: FrameStore, begin: int, end: int) -> list[int]:
    pixels = store.read(begin, end)
    assert pixels.shape == (end - begin, SIZE, SIZE, 3)
    assert (pixels == pixels[:, :1, :1, :1]).all()
    return [int(n) for n in pixels[:, 0, 0, 0]]


def test_what_fits_is_written_once_and_never_decoded() -> None:
    decoder = Decoder()
    with FrameStore(COUNT, SIZE, decode=decoder, max_bytes=room(COUNT + 8)) as store:
        assert store.fits
        for frame_index in range(COUNT):
            store.write(frame_index, picture(frame_index))
        assert numbers(store, 0, COUNT) == list(range(COUNT))
    assert decoder.asked == []


@pytest.mark.parametrize("step", [1, -1])
def test_a_walk_decodes_each_frame_once_in_windows(step: int) -> None:
    decoder = Decoder()
    with FrameStore(COUNT, SIZE, decode=decoder, max_bytes=room(40)) as store:
        assert not store.fits
        assert store.window_frames == 5
        for frame_index in range(COUNT)[::step]:
            assert numbers(store, frame_index, frame_index + 1) == [frame_index]
    assert sorted(decoder.asked, key=lambda frames: frames.start) == [range(b, b + 5) for b in range(0, COUNT, 5)]


def test_the_file_does_not_grow_beyond_its_room() -> None:
    with FrameStore(COUNT, SIZE, decode=Decoder(), max_bytes=room(16)) as store:
        for begin in (90, 0, 50, 91, 3, 77):
            assert numbers(store, begin, begin + 9) == list(range(begin, begin + 9))
        assert store._file.seek(0, 2) <= room(16)


def test_many_threads_read_the_same_and_different_frames() -> None:
    with FrameStore(COUNT, SIZE, decode=Decoder(), max_bytes=room(16)) as store, ThreadPoolExecutor(8) as pool:
        wanted = np.random.default_rng(0).integers(0, COUNT - 7, 400).tolist()
        for begin, found in zip(wanted, pool.map(lambda b: numbers(store, b, b + 7), wanted), strict=True):
            assert found == list(range(begin, begin + 7))


def test_what_is_expected_is_decoded_once() -> None:
    decoder = Decoder()
    with FrameStore(COUNT, SIZE, decode=decoder, max_bytes=room(40)) as store:
        store.expect(17)
        store.expect(18)
        assert numbers(store, 15, 20) == list(range(15, 20))
    assert decoder.asked == [range(15, 20)]


def test_an_error_of_the_decoder_reaches_who_reads_and_the_next_one_tries_again() -> None:
    decoder = Decoder(fails_at=12)
    with FrameStore(COUNT, SIZE, decode=decoder, max_bytes=room(16)) as store:
        for _ in range(20):  # more often than there are places in the file
            with pytest.raises(ArithmeticError):
                store.read(10, 14)
        decoder.fails_at = None
        assert numbers(store, 10, 14) == [10, 11, 12, 13]


def test_without_a_decoder_it_is_read_after_all_is_written() -> None:
    with FrameStore(3, SIZE) as store:
        assert not store.readable
        for frame_index in range(3):
            store.write(frame_index, picture(frame_index))
        assert store.readable
        assert numbers(store, 1, 3) == [1, 2]


def test_what_is_written_can_be_read_while_the_rest_is_still_coming() -> None:
    decoder = Decoder()
    with FrameStore(COUNT, SIZE, decode=decoder, max_bytes=room(COUNT + 8)) as store:
        for frame_index in range(COUNT):
            store.write(frame_index, picture(frame_index))
            begin = max(0, frame_index - 3)
            assert numbers(store, begin, frame_index + 1) == list(range(begin, frame_index + 1))
    assert decoder.asked == []


class Batches:
    """Notes which frames were encoded together."""

    encoder_batch_size = 4

    def __init__(self) -> None:
        self.seen = list[list[int]]()

    def encode(self, pixels: Any) -> list[Features]:
        import torch

        self.seen.append([int(p[0, 0, 0]) for p in pixels])
        return [([torch.full((1, 1, 1), float(p[0, 0, 0]))], [], []) for p in pixels]


def finish(encoder: FrameEncoder) -> None:
    """Wait for what was begun: an encoder of one lane does one thing after the other."""
    encoder._lanes.submit(lambda: None).result()


@pytest.mark.parametrize("order", [range(3, 18), range(17, 2, -1), range(16, 17)])
@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_frames_are_always_encoded_with_the_same_others(order: range, cache_bytes: int) -> None:
    model = Batches()
    with FrameStore(18, SIZE, decode=Decoder(), max_bytes=0) as store, ThreadPoolExecutor(2) as pool:
        encoder = FrameEncoder(model, store, cache_bytes)
        assert encoder.frame_count == 18
        for _ in range(2):
            walked = [(i, int(features[0][0].item())) for i, features in encoder.walk(order, pool)]
            assert walked == [(i, i) for i in order]
    assert {tuple(batch) for batch in model.seen} <= {
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (8, 9, 10, 11),
        (12, 13, 14, 15),
        (16, 17),
    }
    assert (len(model.seen) == len({i // 4 for i in order})) is (cache_bytes > 0 or len(order) == 1)


def test_stored_frames_are_encoded_ahead_in_the_blocks_they_are_asked_for_in() -> None:
    model = Batches()
    with FrameStore(10, SIZE) as store:
        encoder = FrameEncoder(model, store, 10**6)
        for frame_index, batches in enumerate([0, 0, 0, 1, 1, 1, 1, 2, 2, 3]):
            store.write(frame_index, picture(frame_index))
            encoder.encode_stored(frame_index + 1)
            finish(encoder)
            assert len(model.seen) == batches
        assert [i for i, _ in encoder.walk(range(10), None)] == list(range(10))
        encoder.close()
    assert model.seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(("cache_bytes", "ahead"), [(40, 3), (39, 1)], ids=["just fits", "does not"])
def test_nothing_is_encoded_ahead_that_could_not_be_kept(cache_bytes: int, ahead: int) -> None:
    model = Batches()
    with FrameStore(10, SIZE) as store:
        encoder = FrameEncoder(model, store, cache_bytes)
        for frame_index in range(10):
            store.write(frame_index, picture(frame_index))
        encoder.encode_stored(10)
        finish(encoder)
        assert len(model.seen) == ahead
        encoder.close()
