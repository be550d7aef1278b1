"""Video files: a scene as mp4 (H.264 and AAC), every frame at its exact time, the same bytes for the same scene."""

from pathlib import Path

import av
import numpy as np

from workers.shapeworld.world.render import frames
from workers.shapeworld.world.scene import Scene, frame_ticks
from workers.shapeworld.world.sound import SAMPLE_RATE, audio
from workers.shapeworld.world.truth import Truth, TruthBuilder


def write(scene: Scene, path: Path, side_px: int = 384) -> Truth:
    """Write the clip to `path`, its shorter side `side_px` pixels, and return its truth."""
    truth = TruthBuilder(len(scene.things))
    ticks, tick_s = frame_ticks(scene)
    with av.open(str(path), "w") as container:
        # One thread and no macroblock tree: with either, the bytes differ from run to run (the tree's only at widths
        # that aren't a multiple of 64).
        options = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        video = container.add_stream("libx264", rate=scene.frame_rate or 30, options=options)
        video.width, video.height = scene.size_px(side_px)
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = tick_s
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        for frame in frames(scene, side_px):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts, picture.time_base = ticks[frame.index], tick_s
            container.mux(video.encode(picture))
            truth.add(frame)
        container.mux(video.encode())
        samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio(scene)[None]), format="fltp", layout="mono")
        samples.sample_rate = SAMPLE_RATE
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    return truth.build()
