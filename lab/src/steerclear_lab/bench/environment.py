"""What the figures of a benchmark depend on, and the notes of a page where that has changed since."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

import steerclear
from steerclear.copy_detection.nominate import WHITENING
from steerclear.embedded import MODEL_FOLDER
from steerclear.fingerprints import file_fingerprint
from steerclear.loading import embedded_calibration
from steerclear_lab.bench.source_code import normalised
from steerclear_lab.bench.workers import threads

PACKAGE = Path(steerclear.__file__).parent
# the modules that decide which pictures are made, and which of them are flagged
PICTURE_SOURCE = (
    "nudge",
    "generators",
    "steering",
    "copy_detection",
    "filters",
    "encoders",
    "guard.py",
    "guarded_call.py",
    "code_guard.py",
    "judges.py",
    "steer_tasks.py",
    "settle.py",
    "request.py",
    "prompts.py",
    "protected.py",
    "types.py",
    "loading.py",
    "pixels.py",
)
OTHER_WEIGHTS = (
    "These figures were measured on weights that shipped before; "
    "the same command measures those that ship now."
)
OTHER_SOURCE = (
    "The source that makes these pictures has changed since these figures were measured; "
    "the same command measures again."
)
NO_SOURCE = "The source that made these pictures was not recorded when these figures were measured."


def environment(processes: Sequence[int] = (1,)) -> dict[str, Any]:
    """What the figures of a run depend on, for its document.

    Args:
        processes: how many processes made it; more than one number where it was resumed with another.

    Returns:
        Versions, the machine, and the fingerprints of the embedded weights and of the source that makes
        pictures.
    """
    import diffusers
    import transformers

    return {
        "steerclear": steerclear.__version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "weights": weights(),
        "source": source_fingerprint(),
        "cores": os.cpu_count(),
        "threads": threads(max(processes)),
        "processes": ", then ".join(map(str, processes)),
    }


@cache
def weights() -> str:
    """The fingerprint of the embedded denoiser's weights, 16 hex digits."""
    return file_fingerprint(MODEL_FOLDER / "unet" / "diffusion_pytorch_model.safetensors")


@cache
def source_fingerprint(package: Path = PACKAGE) -> str:
    """A fingerprint of what decides the pictures: the modules of `PICTURE_SOURCE`, the copy detector's
    whitening and the thresholds that ship.

    Comments, docstrings, layout and names of local variables do not change it; names of functions, classes
    and modules do.

    Args:
        package: the folder of the package `steerclear`.

    Returns:
        The first 16 hex digits of a SHA-256.
    """
    digest = sha256()
    for part in PICTURE_SOURCE:
        path = package / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(
                f"{file.relative_to(package).as_posix()}\n{normalised(file.read_text())}\n".encode()
            )
    digest.update((package / "copy_detection" / WHITENING.name).read_bytes())
    calibration = embedded_calibration()
    decisive = {key: calibration.get(key) for key in ("thresholds", "strict", "early", "alternatives")}
    digest.update(json.dumps(decisive, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def changes(
    recorded: Mapping[str, Any], *, weights_matter: bool = True, source_matters: bool = True
) -> list[str]:
    """What has changed since a document was measured, in sentences.

    Args:
        recorded: the document's environment, as `environment` made it; empty where there is none.
        weights_matter: whether the embedded model's weights decide the figures.
        source_matters: whether the source that makes pictures decides the figures.

    Returns:
        One sentence per change; none where the figures hold for what ships now.
    """
    sentences = []
    if weights_matter and recorded.get("weights") != weights():
        sentences.append(OTHER_WEIGHTS)
    if source_matters and recorded.get("source") != source_fingerprint():
        sentences.append(OTHER_SOURCE if "source" in recorded else NO_SOURCE)
    return sentences


def remark(
    recorded: Mapping[str, Any], *, weights_matter: bool = True, source_matters: bool = True
) -> list[str]:
    """`changes` as Markdown lines for the top of a page: a quotation and an empty line each."""
    sentences = changes(recorded, weights_matter=weights_matter, source_matters=source_matters)
    return [line for sentence in sentences for line in (f"> {sentence}", "")]
