"""Prompt templates, one folder a model family: `system1_vos.txt`, `system1_avs.txt`, `system2.txt`.

Placeholders are Python format fields; a profile names the folder, so a team can supply the exact words its weights saw.
"""

from pathlib import Path

from backend.domain.errors import Misconfigured
from backend.profiles import REPOSITORY_ROOT


def load_template(folder: str, name: str) -> str:
    """The template's text without its final line break. Raises `Misconfigured` when the file is missing."""
    path = Path(folder) if Path(folder).is_absolute() else REPOSITORY_ROOT / folder
    file = path / f"{name}.txt"
    if not file.is_file():
        raise Misconfigured(f"the model profile's prompt folder {folder} has no {name}.txt")
    return file.read_text().removesuffix("\n")


def neutralise(text: str) -> str:
    """Words of a person or a model with nothing in them that a tokenizer takes for a control token such as
    `<|VIDEO|>`."""
    return text.replace("<|", "< |").replace("|>", "| >")
