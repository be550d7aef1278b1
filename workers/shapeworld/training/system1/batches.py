"""Batches: what the loader process draws for a step, by the training seed, the phase and the step alone."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.training.system1 import pictures, sightings, words
from workers.shapeworld.training.system1.scenes import (
    CrossedScenes,
    LateScenes,
    Sample,
    Scenes,
    ask_about,
    doubled,
    draw_sample,
    mirrored,
)
from workers.shapeworld.training.trainee import Phase, Source
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.scene import Sound
from workers.shapeworld.world.shapes import SHAPES
from workers.shapeworld.world.sound import SAMPLE_RATE, audio

#: Scenes of a training. Each is seen in many colours and asked many questions.
SCENE_COUNT = 5_000
_SIZES = tuple(sightings.SIZES_PX.values())
#: About as often as the levels have them.
_SIZE_SHARES = (0.55, 0.33, 0.06, 0.06)
#: From here on a clip is crowded.
_CROWD_MIN = 4
#: Numbers of things that come together in a batch of clips.
_ALIKE = (range(1, 3), range(3, 4), range(4, 5), range(5, words.THING_COUNT_MAX + 1))


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and the completion that is learned."""

    question: str
    completion: str


@dataclass(frozen=True, slots=True)
class Sounds:
    """`waves` (B, samples) float32; `shapes` (B,) whose timbre, the number of shapes for silence."""

    waves: NDArray[np.float32]
    shapes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """`pieces`: of `clips` in order (eight each), or single ones. `readings` have the list given, and no clip.
    `sounds` belong to the clips, or to nothing; `drill` is sound alone. `listed`, two (clips, 6): of each clip the
    things in the order of its list, and the moments when each is nearest to the first of them. `gray`: some of the
    pieces again, without their colours."""

    pieces: pictures.Pieces
    readings: tuple[Turn, ...]
    clips: tuple[Turn, ...] = ()
    sounds: Sounds | None = None
    drill: Sounds | None = None
    listed: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    gray: pictures.Pieces | None = None

    def split(self, count: int) -> "list[Batch]":
        """`count` parts about as large, or as many as there are clips (of single pieces, pieces)."""
        count = min(count, len(self.clips) or len(self.pieces.frames))
        return [self._part(number, count) for number in range(count)]

    def _part(self, number: int, count: int) -> "Batch":
        def cut(length: int) -> slice:
            return slice(length * number // count, length * (number + 1) // count)

        def hear(sounds: Sounds | None) -> Sounds | None:
            some = cut(0 if sounds is None else len(sounds.shapes))
            return Sounds(sounds.waves[some], sounds.shapes[some]) if sounds and some.start < some.stop else None

        clips, moments = cut(len(self.clips)), sightings.MOMENT_COUNT
        shown = slice(moments * clips.start, moments * clips.stop) if self.clips else cut(len(self.pieces.frames))
        gray = cut(0 if self.gray is None else len(self.gray.frames))
        return Batch(
            pictures.some(self.pieces, shown),
            self.readings[cut(len(self.readings))],
            self.clips[clips],
            hear(self.sounds),
            hear(self.drill),
            (self.listed[0][clips], self.listed[1][clips]) if self.listed else None,
            pictures.some(self.gray, gray) if self.gray and gray.start < gray.stop else None,
        )


class System1Source(Source):
    def __init__(self, training_seed: int) -> None:
        self._seed, self._scenes = training_seed, Scenes(training_seed, SCENE_COUNT)
        self._crossed, self._late = CrossedScenes(training_seed), LateScenes(training_seed)

    def batch(self, phase: Phase, step: int) -> Batch:
        """With phase option "clips" that many whole clips of at most "things_max" things, in a share "crowded" of the
        steps of many; without, "of_one" pieces of each of "scenes". "readings": questions about given lists;
        "listen_every": in which steps there is sound with the clips, or alone; "drill": short sounds besides;
        "crossed", "crossed_readings": in which shares of the steps, and of the given lists, two things go opposite
        ways and one way is asked for; "gray": how many pieces are shown without their colours, too; "late": all other
        clips and lists are of `LateScenes`; "doubled_readings": in which share of given lists a thing stands twice."""
        rng = np.random.default_rng([self._seed, int(phase.option("stream")), step])
        every = int(phase.option("listen_every"))
        listen = every > 0 and step % every == 0
        if phase.option("clips"):
            return self._whole(rng, phase, listen)
        size = _SIZES[int(rng.choice(len(_SIZES), p=_SIZE_SHARES))]
        readings = self._readings(rng, phase)
        pieces = [self._piece(rng, size, int(phase.option("of_one"))) for _ in range(int(phase.option("scenes")))]
        heard, shown = self._sounds(rng) if listen else None, pictures.join(pieces)
        return Batch(shown, readings, (), heard, self._drill(rng, phase), None, _gray(rng, shown, phase))

    def _whole(self, rng: np.random.Generator, phase: Phase, listen: bool) -> Batch:
        """Clips of one size. Each that is rendered is also shown mirrored, with another question; all have about as
        many things, so that their completions are about as long."""
        samples, pieces = list[Sample](), list[pictures.Pieces]()
        counts, size = range(1, int(phase.option("things_max", words.THING_COUNT_MAX)) + 1), None
        scenes, kind = self._plain(phase), None
        if not listen and rng.random() < phase.option("crossed"):
            scenes, kind = self._crossed, Kind.DIRECTION
        if rng.random() < phase.option("crowded"):
            counts = range(_CROWD_MIN, words.THING_COUNT_MAX + 1)
        while len(samples) < phase.option("clips"):
            sample = draw_sample(rng, scenes, listen, size, counts, kind)
            scene = sample.staged.scene
            size = sightings.size_px(scene)
            counts = next(alike for alike in _ALIKE if len(scene.things) in alike)
            samples.append(sample)
            pieces.append(pictures.show(scene, np.arange(sightings.MOMENT_COUNT)))
            again = ask_about(rng, mirrored(sample.staged), listen)
            if again is not None and len(samples) < phase.option("clips"):
                samples.append(again)
                pieces.append(pictures.mirror(pieces[-1]))
        turns = tuple(_turn(sample) for sample in samples)
        heard = hear(rng, samples) if listen else None
        listed, meets = (np.stack(tables) for tables in zip(*(_listed(sample) for sample in samples), strict=True))
        tables, shown = (listed, meets), pictures.join(pieces)
        readings, drill = self._readings(rng, phase), self._drill(rng, phase)
        return Batch(shown, readings, turns, heard, drill, tables, _gray(rng, shown, phase))

    def _readings(self, rng: np.random.Generator, phase: Phase) -> tuple[Turn, ...]:
        count, crossed = int(phase.option("readings")), phase.option("crossed_readings")

        def draw() -> Sample:
            if rng.random() < crossed:
                return draw_sample(rng, self._crossed, kind=Kind.DIRECTION)
            sample = draw_sample(rng, self._plain(phase), bool(rng.random() < 0.1))
            mistaken = phase.option("doubled_readings")
            return doubled(rng, sample) if mistaken and rng.random() < mistaken else sample

        return tuple(_turn(draw()) for _ in range(count))

    def _plain(self, phase: Phase) -> Scenes:
        return self._late if phase.option("late") else self._scenes

    def _piece(self, rng: np.random.Generator, size: tuple[int, int], count: int) -> pictures.Pieces:
        scene = self._scenes.draw(rng, size).scene
        moments = np.sort(rng.choice(sightings.MOMENT_COUNT, count, replace=False))
        return pictures.show(scene, moments)

    def _sounds(self, rng: np.random.Generator) -> Sounds:
        return hear(rng, [draw_sample(rng, self._scenes, listening=True) for _ in range(16)])

    def _drill(self, rng: np.random.Generator, phase: Phase) -> Sounds | None:
        """Short sounds of any shape, and silence, as often each."""
        if not phase.option("drill"):
            return None
        truth = rng.integers(len(SHAPES) + 1, size=int(phase.option("drill")))
        length_s = float(rng.uniform(1.5, 3))
        waves = []
        for shape in truth:
            begins_s = float(rng.uniform(0, 0.5)) * length_s
            sound = None if shape == len(SHAPES) else Sound(SHAPES[shape], begins_s, begins_s + 0.6 * length_s)
            scene = replace(self._scenes.draw(rng).scene, duration_s=length_s, sound=sound)
            waves.append(audio(scene))
        return Sounds(np.stack(waves), truth)


def _gray(rng: np.random.Generator, shown: pictures.Pieces, phase: Phase) -> pictures.Pieces | None:
    count = int(phase.option("gray"))
    return pictures.gray(rng, pictures.some(shown, rng.permutation(len(shown.frames))[:count])) if count else None


def _turn(sample: Sample) -> Turn:
    return Turn(sample.question.text, sample.completion)


def _listed(sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = words.in_order(sample.question, sample.sightings)
    meets = [sightings.nearest(sample.staged.scene, index, order[0]) for index in order]
    rest = [0] * (words.THING_COUNT_MAX - len(order))
    return np.asarray(order + rest), np.asarray(meets + rest)


def hear(rng: np.random.Generator, samples: list[Sample]) -> Sounds:
    """A cut of each clip's sound, all as long as the shortest has them, half of it or more sounding where anything
    does."""
    length_s = min(min(sample.staged.scene.duration_s for sample in samples), float(rng.uniform(2, 8)))
    length = int(length_s * SAMPLE_RATE)
    waves = []
    for sample in samples:
        wave, sound = audio(sample.staged.scene), sample.staged.scene.sound
        latest_s = sample.staged.scene.duration_s - length_s
        begins_s = rng.uniform(0, latest_s) if latest_s > 0 else 0.0
        if sound is not None:
            low = max(0.0, min(sound.begins_s - length_s / 2, latest_s))
            high = max(low, min(sound.ends_s - length_s / 2, latest_s))
            begins_s = rng.uniform(low, high)
        begin = min(int(begins_s * SAMPLE_RATE), len(wave) - length)
        waves.append(wave[begin : begin + length])
    names = (*SHAPES, words.SILENCE)
    return Sounds(np.stack(waves), np.asarray([names.index(str(sample.heard)) for sample in samples]))
