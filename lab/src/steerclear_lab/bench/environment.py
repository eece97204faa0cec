"""What a benchmark's run depended on, and what its page says where the weights were not those that ship now."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from steerclear.embedded import MODEL_FOLDER
from steerclear.fingerprints import file_fingerprint
from steerclear_lab.bench.workers import threads

OTHER_WEIGHTS = "Measured on weights that shipped before; the same command measures those that ship now."


def environment(processes: Sequence[int] = (1,)) -> dict[str, Any]:
    """What a run depends on. processes: that made it; more than one number where it was resumed with another."""
    import diffusers
    import transformers

    import steerclear

    return {
        "steerclear": steerclear.__version__, "torch": torch.__version__, "diffusers": diffusers.__version__,
        "transformers": transformers.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "weights": weights(), "cores": os.cpu_count(), "threads": threads(max(processes)),
        "processes": ", then ".join(map(str, processes)),
    }  # fmt: skip


@cache
def weights() -> str:
    """The fingerprint of the embedded denoiser."""
    return file_fingerprint(MODEL_FOLDER / "unet" / "diffusion_pytorch_model.safetensors")


def remark(made: Mapping[str, Any]) -> list[str]:
    """A paragraph for the page of a document whose `environment` names other weights than the shipped ones, or none."""
    return [] if made.get("weights") == weights() else [OTHER_WEIGHTS, ""]
