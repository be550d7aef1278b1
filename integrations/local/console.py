"""The launcher's lines on the terminal: one colour per service, none where nobody looks or NO_COLOR is set."""

import os
import sys
from typing import TextIO

COLOURS = (36, 33, 32, 35, 34, 96, 93, 95)
GOOD, BAD = 92, 91
WIDTH = 12


class Console:
    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._quiet, self._hushed = quiet, False
        self._stream = stream or sys.stdout
        self._colours: dict[str, int] = {}
        self._coloured = bool(os.environ.get("FORCE_COLOR")) or (self._stream.isatty() and "NO_COLOR" not in os.environ)

    def hush(self) -> None:
        """From here on the services' lines stay in their log files: somebody else draws on the terminal now."""
        self._hushed = True

    def line(self, name: str, text: str) -> None:
        """A line that a service printed, or the launcher itself ("premask")."""
        if self._hushed and name != "premask":
            return
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        self._print(name, text, colour, None)

    def good(self, name: str, text: str) -> None:
        self._print(name, text, GOOD, GOOD)

    def bad(self, name: str, text: str) -> None:
        """Trouble is said on standard error, even when quiet."""
        self._print(name, text, BAD, BAD, stream=sys.stderr)

    def _print(
        self, name: str, text: str, name_colour: int, text_colour: int | None, stream: TextIO | None = None
    ) -> None:
        if self._quiet and stream is None:
            return
        label = f"{name:>{WIDTH}} |"
        if self._coloured:
            label = f"\x1b[{name_colour}m{label}\x1b[0m"
            text = f"\x1b[{text_colour}m{text}\x1b[0m" if text_colour else text
        print(label, text, file=stream or self._stream, flush=True)
