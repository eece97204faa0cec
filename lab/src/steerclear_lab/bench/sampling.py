"""How every benchmark samples the embedded model: steps, guidance, and the generator of a seed."""

from __future__ import annotations

from typing import Any

import torch

STEPS, GUIDANCE = 25, 4.0
SETTINGS: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE}


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU, which gives the same noise on every machine."""
    return torch.Generator().manual_seed(seed)
