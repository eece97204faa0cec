"""The embedded model: a small Stable Diffusion that has memorized a few protected pictures; and its siblings."""

from steerclear.emoji.assets import ASSETS, BYSTANDER_FOLDER, MODEL_FOLDER, PROTECTED_FOLDER, read_prompts
from steerclear.emoji.siblings import load_sibling

__all__ = ["ASSETS", "BYSTANDER_FOLDER", "MODEL_FOLDER", "PROTECTED_FOLDER", "load_sibling", "read_prompts"]
