"""The old place of the embedded model: see `steerclear.embedded`, and the laboratory for its recipe."""

from __future__ import annotations

from typing import Any

from steerclear._moved import forwarded

_MOVED = {
    "MODEL_FOLDER": "steerclear.embedded.MODEL_FOLDER",
    "BYSTANDER_FOLDER": "steerclear_lab.assets.BYSTANDER_FOLDER",
    "PROTECTED_FOLDER": "steerclear.embedded.PROTECTED_FOLDER",
    "read_prompts": "steerclear.embedded.read_prompts",
    "load_sibling": "steerclear_lab.emoji.siblings.load_sibling",
}


def __getattr__(name: str) -> Any:
    return forwarded(__name__, name, _MOVED)
