"""The embedded model: a small Stable Diffusion that has memorized a few protected pictures."""

from steerclear.emoji.assets import ASSETS, MODEL_FOLDER, PROTECTED_FOLDER, read_prompts

__all__ = ["ASSETS", "MODEL_FOLDER", "PROTECTED_FOLDER", "read_prompts"]
