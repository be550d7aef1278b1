"""Whether an answer of System 1 has the form that was asked for."""

import re
from collections.abc import Sequence

_ASKED_FOR = re.compile(r"\s*<think>.+</think>\s*<answer>.*</answer>\s*", re.S)


def well_formed(raw_output: str, warnings: Sequence[str], answered: bool) -> bool:
    """In the asked form, nothing of it dropped, and `answered`: with a moment, or that there is no target."""
    dropped = any(warning.startswith("System 1's moment") for warning in warnings)
    return bool(_ASKED_FOR.fullmatch(raw_output)) and answered and not dropped
