"""Short hashes that change with a file, a module's weights, or a model folder."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from steerclear.errors import ModelError


def file_fingerprint(path: Path) -> str:
    """First 16 hex digits of the file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def weights_fingerprint(module: Any, preprocessing: str) -> str:
    """16 hex digits over a module's weights and what is done before it; the same in half precision, if stored in it."""
    import torch

    digest = hashlib.sha256(preprocessing.encode())
    for tensor in module.state_dict().values():
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@cache
def model_fingerprint(folder: Path) -> str:
    """16 hex digits that change with any weight of a model folder: SHA-256 over its safetensors files.

    Names and sizes count as well as contents. Found once per folder and process. Raises ModelError for a
    folder without safetensors files, or one that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = sorted(folder.rglob("*.safetensors"))
        for path in files:
            digest.update(f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\t".encode())
            with path.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError as error:
        raise ModelError(f"cannot read the model in {str(folder)!r}: {error.strerror or error}") from error
    if not files:
        raise ModelError(
            f"{str(folder)!r} holds no .safetensors files, which a recipe needs to name the model; "
            "save it again with pipe.save_pretrained(folder)"
        )
    return digest.hexdigest()[:16]
