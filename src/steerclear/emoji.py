"""The old home of the embedded model's folders; see `steerclear.embedded`, and `steerclear_lab`."""

from __future__ import annotations

from steerclear._moved import moved

__getattr__ = moved(
    __name__,
    {
        "MODEL_FOLDER": "steerclear.embedded:MODEL_FOLDER",
        "PROTECTED_FOLDER": "steerclear.embedded:PROTECTED_FOLDER",
        "read_prompts": "steerclear.embedded:read_prompts",
        "ASSETS": "steerclear_lab.assets:ASSETS",
        "BYSTANDER_FOLDER": "steerclear_lab.assets:BYSTANDER_FOLDER",
        "load_sibling": "steerclear_lab.emoji.siblings:load_sibling",
    },
)
