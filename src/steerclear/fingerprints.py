"""Short hashes of a file, of a module's weights and of a model folder, which change when these change."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from steerclear.errors import ModelError


def file_fingerprint(path: Path) -> str:
    """First 16 hex digits of the file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def content_fingerprint(content: bytes) -> str:
    """As `file_fingerprint`, of what was read of a file."""
    return hashlib.sha256(content).hexdigest()[:16]


def weights_fingerprint(module: Any, preprocessing: str) -> str:
    """16 hex digits over a module's weights and its preprocessing.

    The weights are hashed in float32, so a checkpoint stored in half precision has one fingerprint, loaded
    either way.

    Args:
        module: a torch module.
        preprocessing: describes what is done to its inputs.
    """
    import torch

    digest = hashlib.sha256(preprocessing.encode())
    for tensor in module.state_dict().values():
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def sampled_fingerprint(module: Any) -> str | None:
    """16 hex digits over a few weights of each tensor of a module, with its name and shape.

    It tells models apart without reading all their weights, and is the same in single and half precision.

    Args:
        module: a torch module.

    Returns:
        None where the weights are not there, since they are offloaded.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if tensor.is_meta:
            return None
        few = tensor.detach().reshape(-1)[:8].to("cpu", torch.float16)
        digest.update(f"{name}\t{tuple(tensor.shape)}\t{few.tolist()}\n".encode())
    return digest.hexdigest()[:16]


@cache
def model_fingerprint(folder: Path) -> str:
    """16 hex digits over a model folder's safetensors files: their names, sizes and contents.

    Computed once per folder and process.

    Args:
        folder: a model folder, or a model in a single file.

    Raises:
        ModelError: for a folder without safetensors files, or one that cannot be read.
    """
    digest = hashlib.sha256()
    try:
        files = [folder] if folder.is_file() else sorted(folder.rglob("*.safetensors"))
        for path in files:
            digest.update(f"{path.relative_to(folder).as_posix()}\t{path.stat().st_size}\t".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise ModelError(f"cannot read the model in {str(folder)!r}: {error.strerror or error}") from error
    if not files:
        raise ModelError(
            f"{str(folder)!r} holds no .safetensors files, which a recipe needs to name the model; "
            "save it again with pipe.save_pretrained(folder)"
        )
    return digest.hexdigest()[:16]
