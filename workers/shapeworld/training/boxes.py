"""Boxes of what a label map shows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def box_of(mask: NDArray[Any]) -> tuple[float, float, float, float]:
    """Corners of the mask's pixels, right and lower ones exclusive; zeros without any."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0, 0.0, 0.0, 0.0
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
