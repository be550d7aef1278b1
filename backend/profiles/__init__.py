"""Model profiles: which three models, at which sizes, spoken to in which words.

A profile is one TOML file; those shipped lie beside this module. Switching models is naming another profile.
"""

import hashlib
import json
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.domain.errors import BadInput, Misconfigured

PROFILES_DIR = Path(__file__).parent
REPOSITORY_ROOT = PROFILES_DIR.parent.parent


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Weights(_Part):
    """Where weights come from: a folder or file (relative to the repository) or a Hugging Face id with its revision."""

    source: Literal["path", "huggingface"]
    name: str
    revision: str | None = None
    license: str
    trained_on: str

    @property
    def path(self) -> Path:
        """The local path of `source = "path"` weights; raises `Misconfigured` when they are not there."""
        path = Path(self.name)
        path = path if path.is_absolute() else REPOSITORY_ROOT / path
        if not path.exists():
            raise Misconfigured(f"the profile names weights at {self.name}, where there is nothing")
        return path

    def digest(self) -> str:
        """sha256 over the weights' bytes (local) or over id and revision (hub)."""
        sha = hashlib.sha256()
        if self.source == "huggingface":
            sha.update(f"{self.name}@{self.revision or 'main'}".encode())
        else:
            files = sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]
            for file in files:
                sha.update(file.name.encode() + b"\0" + file.read_bytes())
        return sha.hexdigest()


class System1Profile(_Part):
    weights: Weights
    dtype: Literal["float32", "bfloat16"]
    prompts: str = Field(description="template folder, relative to the repository")
    max_frames: int = Field(description="frames shown per clip; the paper: 24")
    #: Pixels a frame at most, after the smart resize; the paper: 128 * 28 * 28.
    max_pixels: int
    min_pixels: int
    #: n sampled frames are shown as n / nominal_fps seconds; the released code: 2.
    nominal_fps: float
    #: The order of the media and the text in the user's turn.
    content_order: tuple[Literal["text", "audio", "video"], ...]
    audio_max_s: float
    max_new_tokens: int
    max_instruction_chars: int = 2000


class System2Profile(_Part):
    #: None: System 1's weights serve both roles.
    weights: Weights | None = None
    dtype: Literal["float32", "bfloat16"]
    prompts: str
    #: Pixels a keyframe; the paper: 900 * 28 * 28.
    max_pixels: int
    min_pixels: int
    content_order: tuple[Literal["text", "image"], ...]
    coordinates: Literal["absolute", "thousandths"]
    max_new_tokens: int
    batch_size: int


class SegmenterProfile(_Part):
    weights: Weights
    #: A configuration of the `sam2` package, and hydra overrides to it.
    config: str
    overrides: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"]
    encoder_batch_size: int
    #: Holes of at most so many pixels of SAM2's own mask (a quarter of its picture's side) are filled; Meta's default
    #: for video: 8. 0: none.
    fill_hole_area: int = Field(0, ge=0)


class ModelProfile(_Part):
    name: str
    summary: str
    device: Literal["cpu", "cuda"]
    #: Threads of the CPU kernels; None: torch's choice, every core. Small models gain nothing from a second thread, and
    #: beside other processes its waiting by spinning makes them many times slower (docs/benchmarks.md).
    cpu_threads: int | None = Field(None, ge=1)
    system1: System1Profile
    system2: System2Profile
    segmenter: SegmenterProfile

    def check_instruction(self, text: str) -> None:
        """Raises `BadInput` if System 1 can't be asked that."""
        limit = self.system1.max_instruction_chars
        if not text.strip():
            raise BadInput("the instruction is empty", code="invalid_instruction")
        if len(text) > limit:
            raise BadInput(
                f"the instruction has {len(text)} characters; model profile {self.name} takes {limit}",
                code="invalid_instruction",
            )

    @cached_property
    def digest(self) -> str:
        """Identity of the model version: the three weights' digests and every setting that shapes their output."""
        weights = [self.system1.weights, self.system2.weights or self.system1.weights, self.segmenter.weights]
        settings = self.model_dump(mode="json", exclude={"name", "summary", "device", "cpu_threads"})
        sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for part in weights:
            sha.update(part.digest().encode())
        return sha.hexdigest()


def load_profile(name_or_path: str) -> ModelProfile:
    """The profile of that name, or the one in the TOML file at that path. Raises `Misconfigured`."""
    path = PROFILES_DIR / f"{name_or_path}.toml"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PROFILES_DIR.glob("*.toml")))
        raise Misconfigured(f"there is no model profile {name_or_path!r}; known: {known}, or the path of a TOML file")
    try:
        return ModelProfile.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise Misconfigured(f"model profile {path}: {error}") from error
