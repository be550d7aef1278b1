"""What System 1 and System 2 speak through: an engine takes prompts and gives completions.

The protocol lives here; its two implementations beside it: `thinker`, a model in this process, and `openai`, one on an
OpenAI-compatible server. `loading` makes those that a model profile asks for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Prompt:
    """One user turn: `content` in order, each a text or the name of a medium; the media themselves beside it.

    `video`: (T, H, W, 3) uint8 RGB; `image`: (H, W, 3) uint8 RGB; `audio`: (samples,) float32 mono at the engine's
    `sample_rate_hz`. `video_is_sized`: the frames have the size at which the model is shown them
    (`media.smart_resized`), and are not to be resized again.
    """

    content: tuple[dict[str, str], ...]
    video: NDArray[Any] | None = None
    image: NDArray[Any] | None = None
    audio: NDArray[Any] | None = None
    video_is_sized: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """`confidence`, `lowest`: geometric mean and least of the generated tokens' probabilities. `image_size`: (width,
    height) the prompt's image had after the smart resize, the frame of absolute coordinates; None without an image."""

    text: str
    confidence: float
    lowest: float
    image_size: tuple[int, int] | None


class Engine(Protocol):
    """A multimodal language model that writes greedily."""

    @property
    def sample_rate_hz(self) -> int:
        """The rate at which `Prompt.audio` must come."""

    @property
    def size_multiple_px(self) -> int:
        """Sides of pictures are brought to multiples of it."""

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        min_pixels: int,
        max_pixels: int,
        max_new_tokens: int,
        fps: float | None = None,
    ) -> list[Completion]:
        """Greedy completions, one a prompt, in order; all prompts hold the same media.

        `min_pixels`, `max_pixels`: bounds of a picture's area after the smart resize. `fps`: the nominal rate at which
        video frames are presented.
        """
