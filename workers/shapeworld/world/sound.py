"""Sound: one timbre for each shape, over faint hiss. Mono, 16 kHz, float32 in -1 to 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.shapeworld.world.scene import Scene

SAMPLE_RATE = 16_000
_FADE_SAMPLES = 400

#: Of time (s) and pitch (Hz), in -1 to 1.
_Wave = Callable[[NDArray[Any], float], NDArray[Any]]


def _phase(time_s: NDArray[Any], pitch_hz: float | NDArray[Any]) -> NDArray[Any]:
    """Turns of a tone whose pitch may change."""
    return np.asarray(np.cumsum(np.broadcast_to(pitch_hz, time_s.shape)) / SAMPLE_RATE)


def _sine(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    return np.asarray(np.sin(2 * np.pi * pitch_hz * time_s))


def _buzz(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    return np.asarray(0.6 * np.sign(np.sin(2 * np.pi * pitch_hz * time_s)))


def _chirps(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    return np.asarray(np.sin(2 * np.pi * _phase(time_s, 600 + 2400 * (time_s * pitch_hz / 90 % 1))))


def _bell(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    struck = np.exp(-3 * (time_s * 4 % 1))
    ringing = sum(np.sin(2 * np.pi * 5 * pitch_hz * ratio * time_s) for ratio in (1, 1.51, 2.39))
    return np.asarray(0.4 * struck * ringing)


def _siren(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    return np.asarray(np.sin(2 * np.pi * _phase(time_s, 4 * pitch_hz * (1 + 0.4 * np.sin(2 * np.pi * 1.5 * time_s)))))


def _clicks(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    since_s = time_s % (9 / pitch_hz / 3)
    return np.asarray(np.exp(-since_s * 400) * np.sin(2 * np.pi * 3000 * since_s))


def _falls(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    return np.asarray(np.sin(2 * np.pi * _phase(time_s, 1800 - 1500 * (time_s * pitch_hz / 200 % 1))))


def _warble(time_s: NDArray[Any], pitch_hz: float) -> NDArray[Any]:
    high = (time_s * 8).astype(int) % 2
    return np.asarray(np.sin(2 * np.pi * _phase(time_s, pitch_hz * (2 + 2 * high))))


#: Told apart by spectrum and rhythm, so that no pitch need be known.
TIMBRES: dict[str, _Wave] = {
    "circle": _sine,
    "square": _buzz,
    "triangle": _chirps,
    "star": _bell,
    "ring": _siren,
    "cross": _clicks,
    "crescent": _falls,
    "bar": _warble,
}


def audio(scene: Scene) -> NDArray[np.float32]:
    """(samples,) the whole clip's sound; hiss alone where nothing sounds."""
    rng = np.random.default_rng([scene.seed, 2])
    time_s = np.arange(int(SAMPLE_RATE * scene.duration_s)) / SAMPLE_RATE
    hiss = rng.normal(0, rng.uniform(0.002, 0.015), len(time_s))
    if scene.sound is None:
        return hiss.astype(np.float32)
    wave = TIMBRES[scene.sound.shape](time_s, float(rng.uniform(180, 320)))
    heard = ((time_s >= scene.sound.begins_s) & (time_s < scene.sound.ends_s)).astype(np.float64)
    envelope = np.convolve(heard, np.ones(_FADE_SAMPLES) / _FADE_SAMPLES, "same")
    return np.asarray(np.clip(wave * envelope * rng.uniform(0.2, 0.6) + hiss, -1, 1), np.float32)
