"""Loading a diffusers pipeline, and the shape of its latents."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import ModelError
from steerclear.generators.accepted import denoiser_of

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # owner/name
# the end of a weight file's name that tells its variant; shards are numbered after it
VARIANT = re.compile(r"\.(\w+)(?:-\d+-of-\d+)?\.safetensors$")
# safetensors' names of types
STORED = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


def load_pipeline(
    model: str | Path,
    device: str | torch.device | None = None,
    *,
    torch_dtype: torch.dtype | str | None = None,
    variant: str | None = None,
    config: str | Path | None = None,
    **loader_keywords: Any,
) -> Any:
    """A diffusers pipeline, without its safety checker.

    Args:
        model: a folder that diffusers saved, a hub id, or a checkpoint in a single .safetensors file.
        device: where it runs; by default the CPU.
        torch_dtype: of the weights; "auto" for each part as it is stored; by default float32.
        variant: which files of the folder, such as "fp16"; by default the only ones that are there.
        config: of a single file, the folder or hub id with the `model_index.json` of such a pipeline; by
            default the folder that the file lies in, or the one beside it that has its name.
        **loader_keywords: whatever else `DiffusionPipeline.from_pretrained` takes, or `from_single_file`.
            Pickled weights are loaded only with `use_safetensors=False`, code in the folder is run only with
            `trust_remote_code=True`.

    Raises:
        ModelError: if the folder, file or id is no pipeline, or its loader refuses the arguments.
    """
    folder = Path(model)
    if torch_dtype is not None and torch_dtype != "auto" and not isinstance(torch_dtype, torch.dtype):
        raise ModelError(f"torch_dtype is {torch_dtype!r}; pass a torch.dtype, or 'auto' for as it is stored")
    if folder.is_file():
        pipe = _from_file(folder, config=config, torch_dtype=torch_dtype, loader_keywords=loader_keywords)
    else:
        pipe = _from_folder(model, torch_dtype=torch_dtype, variant=variant, loader_keywords=loader_keywords)
    if getattr(pipe, "safety_checker", None) is not None:
        pipe.safety_checker = None
    pipe.set_progress_bar_config(disable=True)
    on_cpu = not device or torch.device(device).type == "cpu"
    if torch_dtype == "auto":
        return pipe if on_cpu else pipe.to(device)
    if on_cpu and torch_dtype in (None, torch.float32):
        # pipe.to would warn
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                component.float()
        return pipe
    denoiser = denoiser_of(pipe)
    # of what is stored in half precision the loaders may convert some parts; the denoiser's type decides
    return pipe.to(device or "cpu", torch_dtype or getattr(denoiser, "dtype", torch.float32))


def _from_folder(
    model: str | Path,
    torch_dtype: torch.dtype | str | None,
    variant: str | None,
    loader_keywords: dict[str, Any],
) -> Any:
    """The pipeline of a folder or hub id."""
    from diffusers import DiffusionPipeline

    loader_keywords.setdefault("use_safetensors", True)  # pickled weights are a program
    folder = Path(model)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise ModelError(
            f"{model} is no diffusers pipeline: it has no model_index.json; give the folder that has one"
        )
    if not folder.exists() and not HUB_ID.fullmatch(str(model)):
        raise ModelError(f"there is no model folder {model}; give a folder or a hub id such as 'owner/name'")
    variant = variant if variant is not None else _only_variant(folder)
    named: dict[str, Any] = {} if variant is None else {"variant": variant}
    try:
        if torch_dtype == "auto":
            if not folder.exists():
                folder = Path(DiffusionPipeline.download(model, **named))
            named[_dtype_keyword()] = stored_dtypes(folder, variant)
        elif torch_dtype is not None:
            named[_dtype_keyword()] = torch_dtype
        return DiffusionPipeline.from_pretrained(model, **{**_absent(folder), **named, **loader_keywords})
    except Exception as error:  # the loaders of three libraries raise errors of any kind on a damaged folder
        raise ModelError(f"{model} cannot be loaded as a diffusers pipeline: {_first_line(error)}") from error


def _from_file(
    file: Path,
    config: str | Path | None,
    torch_dtype: torch.dtype | str | None,
    loader_keywords: dict[str, Any],
) -> Any:
    """The pipeline of a checkpoint in a single file."""
    import diffusers

    if file.suffix != ".safetensors":
        raise ModelError(
            f"{file} is no .safetensors file; others may run code when they are loaded: convert it"
        )
    beside = [
        folder for folder in (file.with_suffix(""), file.parent) if (folder / "model_index.json").is_file()
    ]
    config = config if config is not None else next(iter(beside), None)
    if config is None:
        raise ModelError(
            f"{file} does not say which pipeline it is of; put the model_index.json and the configurations "
            f"of its parts into {file.with_suffix('')}, or pass config= with a folder or hub id that has them"
        )
    try:
        name = diffusers.DiffusionPipeline.load_config(config)["_class_name"]
        loader = getattr(getattr(diffusers, str(name), None), "from_single_file", None)
        if loader is None:
            raise ModelError(f"a {name}, which {config} names, cannot be loaded from a single file")
        if torch_dtype == "auto":
            torch_dtype = _stored_dtype([file])
        named = {} if torch_dtype is None else {_dtype_keyword(): torch_dtype}
        absent = _absent(Path(config)) if Path(config).is_dir() else {}
        return loader(str(file), config=str(config), **{**absent, **named, **loader_keywords})
    except ModelError:
        raise
    except Exception as error:  # as above
        raise ModelError(
            f"{file} cannot be loaded with {config} as its config: {_first_line(error)}"
        ) from error


def stored_dtypes(folder: Path, variant: str | None = None) -> dict[str, torch.dtype]:
    """Find the floating-point type in which each part of a model folder is stored.

    Args:
        folder: a model folder.
        variant: which files, such as "fp16"; None for the plain ones.

    Returns:
        For each part the type of most of its numbers, as `from_pretrained` takes it.
    """
    files = list(folder.glob("*/*.safetensors"))
    chosen = [path for path in files if _variant(path) == variant]
    dtypes = {}
    for part in sorted({path.parent.name for path in files}):
        # a loader takes the plain files where a part has none of the variant
        of_part = [path for path in chosen if path.parent.name == part]
        dtypes[part] = _stored_dtype(of_part or [path for path in files if path.parent.name == part])
    return {**dtypes, "default": torch.float32}


def _stored_dtype(files: Sequence[Path]) -> torch.dtype:
    """The floating-point type of most numbers in safetensors files, by their headers alone."""
    counts: Counter[torch.dtype] = Counter()
    for file in files:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__" and tensor["dtype"] in STORED:
                counts[STORED[tensor["dtype"]]] += math.prod(tensor["shape"])
    return counts.most_common(1)[0][0] if counts else torch.float32


def _only_variant(folder: Path) -> str | None:
    """The variant of a folder that has no other weights, such as "fp16"."""
    variants = {_variant(path) for path in folder.glob("*/*.safetensors")}
    return variants.pop() if len(variants) == 1 else None


def _variant(path: Path) -> str | None:
    """The variant that a weight file's name tells."""
    match = VARIANT.search(path.name)
    return match[1] if match else None


def _dtype_keyword() -> str:
    """What the installed diffusers calls the type of the weights: `dtype` since the middle of 2026,
    `torch_dtype` before.
    """
    import diffusers
    from diffusers.pipelines import pipeline_utils

    renamed = hasattr(pipeline_utils, "_resolve_dtype") or not diffusers.__version__.startswith("0.")
    return "dtype" if renamed else "torch_dtype"


def latent_like(pipe: Any) -> Tensor:
    """An empty batch (0, C, H, W) of latents, of the size that the pipeline makes by default."""
    denoiser = denoiser_of(pipe)
    assert denoiser is not None
    config = denoiser.config
    # a U-Net's input may hold more than the latent (inpainting), a DiT's output as well (learned variance)
    channels = config.out_channels if hasattr(pipe, "unet") else config.in_channels
    return torch.empty(0, channels, config.sample_size, config.sample_size, device=pipe._execution_device)


def native_size(pipe: Any, side: str = "width") -> int | None:
    """Height or width in pixels of the pictures that the pipeline makes by default, where it says so.

    Args:
        pipe: a diffusers pipeline.
        side: "height" or "width".
    """
    config = getattr(denoiser_of(pipe), "config", None)
    size = getattr(pipe, "default_sample_size", None) or getattr(config, "sample_size", None)
    if isinstance(size, list | tuple) and len(size) == 2:
        size = size[side == "width"]
    factor = getattr(pipe, "vae_scale_factor", None)
    return size * factor if isinstance(size, int) and isinstance(factor, int) else None


def _absent(folder: Path) -> dict[str, None]:
    """Components that the folder lacks, as arguments of its loader, which asks for them by name."""
    import diffusers

    path = folder / "model_index.json"
    index = json.loads(path.read_text()) if path.is_file() else {}
    family = getattr(diffusers, str(index.get("_class_name")), None)
    optional = getattr(family, "_optional_components", ())
    return {name: None for name, part in index.items() if part == [None, None] and name not in optional}


def _first_line(error: Exception) -> str:
    """The first line of an error's message, at most 300 characters; its type where there is no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
