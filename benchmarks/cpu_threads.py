"""One thread against two for the small models, alone and beside busy neighbours: `python -m benchmarks.cpu_threads`.

Says why the shapeworld profile asks for one thread. Prints medians, and last one JSON line; the ratio is two
threads' time over one thread's beside a busy process per core.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 5


def _busy() -> None:
    while True:
        pass


def _measure(threads: int, path: str) -> float:
    """Median seconds of the whole pipeline on one clip, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cpu_threads", str(threads), path], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def _annotate(threads: int, path: Path) -> None:
    from backend.domain.runs import Mode
    from backend.profiles import load_profile
    from backend.settings import PipelineSettings
    from workers.pipeline.omni import load_pipeline

    pipeline = load_pipeline(load_profile("shapeworld"), PipelineSettings(), torch_threads=threads)
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        pipeline.annotate(path, "the blue square", Mode.VOS)
        seconds.append(time.perf_counter() - begin)
    print(statistics.median(seconds))


def main() -> None:
    from workers.shapeworld.world import levels, make, queries, video

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        video.write(make.make_scene(1002, queries.Kind.ATTRIBUTE, levels.MEDIUM).scene, path)
        detail = {}
        for neighbours in (0, os.cpu_count() or 1):
            processes = [multiprocessing.Process(target=_busy, daemon=True) for _ in range(neighbours)]
            for process in processes:
                process.start()
            for threads in (1, 2):
                detail[f"{threads}_threads_{neighbours}_neighbours_s"] = round(_measure(threads, str(path)), 2)
                print(
                    threads,
                    "threads,",
                    neighbours,
                    "busy neighbours:",
                    detail[f"{threads}_threads_{neighbours}_neighbours_s"],
                )
            for process in processes:
                process.terminate()
    crowded = {k: v for k, v in detail.items() if "_0_" not in k}
    one, two = crowded.values()
    print(
        json.dumps(
            {
                "benchmark": "cpu_threads",
                "ratio": round(two / one, 2),
                "target": 1.0,
                "ok": two >= one,
                "detail": detail,
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _annotate(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
