"""Model profiles: which three models, at which sizes, spoken to in which words; in this process or on a server.

A profile is one TOML file; those shipped lie beside this module, and in `segmenters/` the sizes of SAM2, which profiles
share. Switching models is naming another profile, or another segmenter with it.
"""

import hashlib
import json
import tomllib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from backend.domain.confidence import (
    BoxEvidence,
    Calibration,
    Confidence,
    Evidence,
    FrameEvidence,
    TrackEvidence,
    names_of,
)
from backend.domain.errors import BadInput, Misconfigured

PROFILES_DIR = Path(__file__).parent
SEGMENTERS_DIR = PROFILES_DIR / "segmenters"
REPOSITORY_ROOT = PROFILES_DIR.parent.parent
_PIECE_BYTES = 2**20


class _Part(BaseModel):
    # Errors don't repeat the input: a key that was put where its variable's name belongs must not come to a log.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Weights(_Part):
    """Where weights come from: a folder or file (relative to the repository), a Hugging Face id with its revision, or
    `stored` in the artifact bucket, with their digest as name (`backend.services.weights`)."""

    source: Literal["path", "huggingface", "stored"]
    name: str
    revision: str | None = None
    license: str
    trained_on: str

    @property
    def path(self) -> Path:
        """The local path of `source = "path"` weights; raises `Misconfigured` when they are not there."""
        if self.source != "path":
            raise Misconfigured(f"the weights {self.name} ({self.source}) have no place of their own on this machine")
        path = Path(self.name)
        path = path if path.is_absolute() else REPOSITORY_ROOT / path
        if not path.exists():
            raise Misconfigured(f"the profile names weights at {self.name}, where there is nothing")
        return path

    def digest(self) -> str:
        """sha256 over the weights' bytes (local) or over id and revision (hub); that of stored ones is their name."""
        if self.source == "stored":
            return self.name
        sha = hashlib.sha256()
        if self.source == "huggingface":
            sha.update(f"{self.name}@{self.revision or 'main'}".encode())
        else:
            files = sorted(p for p in self.path.rglob("*") if p.is_file()) if self.path.is_dir() else [self.path]
            for file in files:
                sha.update(file.name.encode() + b"\0")
                with file.open("rb") as opened:  # piece by piece: one file of a large model is some gigabytes
                    while piece := opened.read(_PIECE_BYTES):
                        sha.update(piece)
        return sha.hexdigest()


class ServerProfile(_Part):
    """A model on an OpenAI-compatible server, which answers in place of one in this process.

    `weights` beside it stay what they are: they say which model that is, and under which licence.
    """

    #: Up to and with the version, as in http://gpu-1:8000/v1.
    base_url: str
    #: The name under which the server knows the model.
    model: str = Field(min_length=1)
    #: The environment variable that holds the key; None: the server asks for none.
    api_key_env: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    #: How long one request may wait for the next byte of its answer, which comes when all is written.
    timeout_s: float = Field(300.0, gt=0)
    #: So often a request is sent again after a failure that may pass.
    retries: int = Field(4, ge=0)
    max_in_flight: int = Field(8, ge=1)
    #: Sides of pictures are multiples of this (patch times merge); Qwen2.5-Omni and Qwen2.5-VL: 28, Qwen3-VL: 32.
    size_multiple_px: int = Field(28, ge=1)

    @field_validator("base_url")
    @classmethod
    def _is_bare(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("it must be an http or https address, as in http://gpu-1:8000/v1")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("it must be bare: no user, no query; a key belongs in the variable api_key_env names")
        return url.rstrip("/")


#: What of a `ServerProfile` doesn't shape its answers.
_HOW_TO_REACH = {"base_url", "api_key_env", "timeout_s", "retries", "max_in_flight"}


#: How attention is computed: by torch, or by the package flash-attn, which wants a CUDA device and 16 bits.
Attention = Literal["sdpa", "flash_attention_2"]


class System1Profile(_Part):
    weights: Weights
    #: None: the weights are loaded into this process.
    server: ServerProfile | None = None
    dtype: Literal["float32", "bfloat16"]
    attention: Attention = "sdpa"
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
    #: None: System 1's weights serve both roles, wherever they are.
    weights: Weights | None = None
    #: None: weights of its own are loaded into this process.
    server: ServerProfile | None = None
    dtype: Literal["float32", "bfloat16"]
    attention: Attention = "sdpa"
    prompts: str
    #: Pixels a keyframe; the paper: 900 * 28 * 28.
    max_pixels: int
    min_pixels: int
    content_order: tuple[Literal["text", "image"], ...]
    coordinates: Literal["absolute", "thousandths"]
    max_new_tokens: int
    batch_size: int

    @model_validator(mode="after")
    def _names_what_is_served(self) -> Self:
        if self.server is not None and self.weights is None:
            raise ValueError("[system2.server] needs [system2.weights], which say which model answers there")
        return self


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
    #: Backend of torch.compile for its parts, as "inductor", which wants a C++ compiler; None: none. Each new shape
    #: costs a compilation of seconds to minutes, which pays where clips are many.
    torch_compile: str | None = None
    #: How a person's clicks are put to it: as points, which Meta's models know; or as boxes around them, for a model
    #: that has only learned boxes (`workers/pipeline/clicks.py`).
    clicks_as: Literal["points", "boxes"] = "points"


class CalibrationProfile(_Part):
    """`backend.domain.confidence.Calibration`."""

    bias: float
    weights: dict[str, float]
    right_iou: float = Field(gt=0, le=1)

    def calibration(self) -> Calibration:
        return Calibration(self.bias, self.weights, self.right_iou)


class ConfidenceProfile(_Part):
    """What makes probabilities of evidence, measured for these weights (`premask shapeworld calibrate`)."""

    track: CalibrationProfile
    box: CalibrationProfile
    frame: CalibrationProfile

    @model_validator(mode="after")
    def _weighs_what_there_is(self) -> Self:
        kinds: dict[str, type[Evidence]] = {"track": TrackEvidence, "box": BoxEvidence, "frame": FrameEvidence}
        for what, kind in kinds.items():
            known = names_of(kind)
            if unknown := set(getattr(self, what).weights) - set(known):
                raise ValueError(
                    f"no evidence of a {what} is called {', '.join(sorted(unknown))}; there are: {', '.join(known)}"
                )
        return self

    def functions(self) -> Confidence:
        return Confidence(self.track.calibration(), self.box.calibration(), self.frame.calibration())


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
    #: None: scores are what System 2 and SAM2 make of their own answers, which are no probabilities.
    confidence: ConfidenceProfile | None = None

    def with_weights(self, change: Callable[[Weights], Weights]) -> "ModelProfile":
        """The profile with each of its models' weights put through `change`; identity is counted anew."""

        def changed(part: System1Profile | System2Profile | SegmenterProfile) -> dict[str, Any]:
            found = part.model_dump()
            return found if part.weights is None else found | {"weights": change(part.weights).model_dump()}

        parts = {name: changed(getattr(self, name)) for name in ("system1", "system2", "segmenter")}
        return ModelProfile.model_validate(self.model_dump() | parts)

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
        """Identity of the model version: the three weights' digests and every setting that shapes their output.

        A server counts with the model's name there, but not with its address: it may move.
        """
        weights = [self.system1.weights, self.system2.weights or self.system1.weights, self.segmenter.weights]
        settings = self.model_dump(mode="json", exclude={"name", "summary", "device", "cpu_threads"})
        if settings["confidence"] is None:
            # As with servers, below.
            del settings["confidence"]
        # What a run makes of a video has no clicks in it.
        del settings["segmenter"]["clicks_as"]
        if settings["segmenter"]["torch_compile"] is None:
            # As with servers, below.
            del settings["segmenter"]["torch_compile"]
        for system in (settings["system1"], settings["system2"]):
            # Without a server there must be no trace of one: versions from before there were servers stay what they
            # are.
            # The like for the attention that was the only one.
            if system["attention"] == "sdpa":
                del system["attention"]
            if (server := system.pop("server")) is not None:
                system["server"] = {name: value for name, value in server.items() if name not in _HOW_TO_REACH}
        sha = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for part in weights:
            sha.update(part.digest().encode())
        return sha.hexdigest()


def load_profile(name_or_path: str) -> ModelProfile:
    """The profile of that name, or the one in the TOML (or JSON) file at that path. Raises `Misconfigured`.

    `PROFILE+SEGMENTER` is the profile with another segmenter, such as omni-r1-7b+sam2.1-small: a profile of its own.
    """
    if (path := _file_of(name_or_path)) is None:
        name, plus, segmenter = name_or_path.rpartition("+")
        if not plus or (path := _file_of(name)) is None:
            raise Misconfigured(
                f"there is no model profile {name_or_path!r}; known: {_known(PROFILES_DIR)}, each also as "
                f"PROFILE+SEGMENTER with {_known(SEGMENTERS_DIR)}; or the path of a TOML file"
            )
        return _with_segmenter(_read(path), segmenter)
    return _read(path)


def _file_of(name_or_path: str) -> Path | None:
    for path in (PROFILES_DIR / f"{name_or_path}.toml", Path(name_or_path)):
        if path.is_file():
            return path
    return None


def _known(folder: Path) -> str:
    return ", ".join(sorted(p.stem for p in folder.glob("*.toml")))


def _read(path: Path) -> ModelProfile:
    try:
        if path.suffix == ".json":
            return ModelProfile.model_validate_json(path.read_text())
        table = tomllib.loads(path.read_text())
        if isinstance(name := table.get("segmenter"), str):
            table["segmenter"] = _segmenter(name)
        return ModelProfile.model_validate(table)
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise Misconfigured(f"model profile {path}: {error}") from error


def _segmenter(name: str) -> dict[str, Any]:
    """A segmenter that is shipped, by its name. Raises `Misconfigured`."""
    path = SEGMENTERS_DIR / f"{name}.toml"
    if not path.is_file():
        raise Misconfigured(f"there is no segmenter {name!r}; known: {_known(SEGMENTERS_DIR)}")
    return tomllib.loads(path.read_text())


def _with_segmenter(profile: ModelProfile, name: str) -> ModelProfile:
    segmenter = SegmenterProfile.model_validate(_segmenter(name))
    if segmenter == profile.segmenter:
        return profile
    named = {"name": f"{profile.name}+{name}", "summary": f"{profile.summary}; with {name} in place of its segmenter"}
    # Validated anew, not copied: a copy would keep the digest if that was asked for before.
    return ModelProfile.model_validate(profile.model_dump() | named | {"segmenter": segmenter.model_dump()})
