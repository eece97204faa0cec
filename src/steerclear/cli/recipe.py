"""What decides a picture: the options of `generate`, kept whole in every PNG so that `replay` can make it again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steerclear import embedded
from steerclear._version import __version__
from steerclear.cli.inputs import LARGEST_SEED
from steerclear.errors import ConfigError, InputError, ModelError
from steerclear.fingerprints import model_fingerprint
from steerclear.library.images import SUFFIXES, read_image

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.encoders import Encoder
    from steerclear.guard import Guard
    from steerclear.library import Library

EMBEDDED = "embedded"
USUAL_GUIDANCE = 7.5  # of Stable Diffusion
MOST_STEPS = 1000  # schedulers are trained with as many noise levels
DEVICES = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True)
class Preferred:
    """What pulls: a text, or an image file with the first 16 hex digits of its SHA-256."""

    text: str | None = None
    image: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that decides one picture, and what came of it.

    model, library: a folder (or hub id), or "embedded"; ladder: strategy names, in order; budget: multiple of
    the plain cost; the fingerprints are 16 hex digits of the model's weights and of the library's contents.
    """

    prompt: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = USUAL_GUIDANCE
    model: str = EMBEDDED
    library: str = EMBEDDED
    device: str = "cpu"
    ladder: tuple[str, ...] = ()
    budget: float | None = None
    prefer: tuple[Preferred, ...] = ()
    model_fingerprint: str = ""
    library_fingerprint: str = ""
    outcome: str = ""
    steerclear_version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["prefer"] = [{k: v for k, v in one.items() if v is not None} for one in found["prefer"]]
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any], source: str) -> Recipe:
        """The recipe that a PNG carried. Raises InputError that names `source` and the first field at fault."""
        defaults = cls()
        values: dict[str, Any] = {}
        for one in fields(cls):
            value = found.get(one.name)
            if not _fits(value, one.name, getattr(defaults, one.name)):
                raise InputError(f"the recipe in {source!r} is damaged: {one.name} is {value!r}")
            values[one.name] = value
        values["ladder"] = tuple(values["ladder"])
        values["prefer"] = tuple(Preferred(**one) for one in values["prefer"])
        values["guidance"] = float(values["guidance"])
        return check(cls(**values))


def _fits(value: Any, name: str, default: Any) -> bool:
    if name == "ladder":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if name == "prefer":
        return isinstance(value, list) and all(
            isinstance(one, dict)
            and set(one) in ({"text"}, {"image", "sha256"})
            and all(isinstance(v, str) for v in one.values())
            for one in value
        )
    if isinstance(value, bool):
        return False
    if name == "budget":
        return value is None or isinstance(value, (int, float))
    return isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))


def check(recipe: Recipe) -> Recipe:
    """The recipe itself, if its numbers and names can be used; else an InputError or ConfigError."""
    if not 0 <= recipe.seed <= LARGEST_SEED:
        raise InputError(f"seed {recipe.seed} is out of range; seeds go from 0 to {LARGEST_SEED}")
    if not 1 <= recipe.steps <= MOST_STEPS:
        raise InputError(f"steps is {recipe.steps}; it must be a whole number from 1 to {MOST_STEPS}")
    if not (math.isfinite(recipe.guidance) and recipe.guidance >= 0):
        raise InputError(
            f"guidance is {recipe.guidance}; it must be a finite number of at least 0, such as {USUAL_GUIDANCE}"
        )
    if recipe.budget is not None and not (math.isfinite(recipe.budget) and recipe.budget >= 0):
        raise InputError(
            f"budget is {recipe.budget}; it must be a finite multiple of the plain cost, at least 0"
        )
    if recipe.device.partition(":")[0] not in DEVICES:
        raise InputError(
            f"device {recipe.device!r} is unknown; there are {', '.join(DEVICES)}, and cuda:1 and so on"
        )
    if recipe.ladder:
        from steerclear.nudge.ladder import strategies

        strategies(recipe.ladder)
    return recipe


def ladder_names(text: str | None) -> tuple[str, ...]:
    """Strategy names as written on the command line, separated by commas; none for the default ladder."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"the ladder {text!r} holds an empty name; write it like condition,rewrite")
    return names


def read_preferred(words: Sequence[str]) -> tuple[Preferred, ...]:
    """Wishes as given on the command line: an existing file is an image, anything else a text."""
    return tuple(_preferred(one) for one in words)


def _preferred(one: str) -> Preferred:
    path = Path(one)
    try:
        is_file = path.is_file()
    except OSError:  # a text longer than any file name may be
        is_file = False
    if is_file:
        read_image(path)  # an unreadable one is bad input now, not after the model is loaded
        return Preferred(image=one, sha256=_sha256(path))
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"there is no image {one!r} to prefer; give an existing file, or a text")
    if not one.strip():
        raise InputError(f"the text {one!r} to prefer is empty; say what the picture should resemble")
    return Preferred(text=one)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def model_folder(model: str) -> Path | None:
    """The model's folder; None for a hub id."""
    folder = embedded.MODEL_FOLDER if model == EMBEDDED else Path(model)
    return folder.resolve() if folder.exists() or model == EMBEDDED else None


def usual_guidance(model: str) -> float:
    """The guidance scale in the `recipe.json` of a model folder that `train-emoji` made, at which its library was calibrated;
    else Stable Diffusion's."""
    folder = model_folder(model)
    try:
        own = json.loads((folder / "recipe.json").read_text())["guidance"] if folder else USUAL_GUIDANCE
    except (OSError, ValueError, LookupError, TypeError):  # no such file, or somebody else's
        return USUAL_GUIDANCE
    return float(own) if isinstance(own, int | float) else USUAL_GUIDANCE


def is_at_hand(library: str) -> bool:
    """Whether a library lies on this machine."""
    return library == EMBEDDED or ("://" not in library and Path(library).exists())


def open_library(name: str, model: Path | None = None) -> tuple[Library, list[Encoder]]:
    """The library of this name, and its encoders. Raises LibraryError when it is missing, foreign, or of another encoder than
    the package or the model's folder has."""
    from steerclear import loading
    from steerclear.library import Library

    library = Library.open(embedded.LIBRARY_FOLDER if name == EMBEDDED else name)
    at_hand = loading.own_descriptor(model, library) if model else None
    return library, loading.open_encoders(library, at_hand=at_hand)


def load(recipe: Recipe) -> tuple[Guard, Recipe]:
    """The guard that a recipe asks for, and the recipe with fingerprints, ladder and budget filled in.

    Whatever is cheap to check comes first: the library, the model folder, then the model itself.
    """
    preferred = [_wish(one) for one in recipe.prefer]
    _check_device(recipe.device)
    known = model_folder(recipe.model)
    library, _ = open_library(recipe.library, known)
    from steerclear.guard import Guard
    from steerclear.nudge.ladder import Budget

    _hush()
    budget = Budget() if recipe.budget is None else Budget(recipe.budget)
    guard = Guard.from_pretrained(
        known or recipe.model, library=library, preferred=preferred, ladder=recipe.ladder or None, budget=budget,
        device=recipe.device,
    )  # fmt: skip
    return guard, replace(
        recipe,
        ladder=tuple(rung.name for rung in guard.ladder.rungs),
        budget=budget.overhead,
        model_fingerprint=model_fingerprint(known or _snapshot(recipe.model)),
        library_fingerprint=library.fingerprint()[:16],
    )


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}; try cpu"
        ) from error


def _hush() -> None:
    """Keep the libraries' own bars and hints off stderr, which is for our bar and our errors."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for logging in (of_diffusers, of_transformers):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _wish(one: Preferred) -> str | Image.Image:
    if one.image is None:
        return one.text or ""
    path = Path(one.image)
    if not path.is_file():
        raise InputError(f"the preferred image {one.image!r} that the recipe names is not there; put it back")
    image = read_image(path)
    if _sha256(path) != one.sha256:
        raise InputError(
            f"the preferred image {one.image!r} has changed since: it is not the one that the recipe names"
        )
    return image


def _snapshot(hub_id: str) -> Path:
    """Where the hub's client keeps what was loaded under this id."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, local_files_only=True))
    except Exception as error:  # whatever the client raises: without the files there is no fingerprint
        raise ModelError(
            f"the files of {hub_id!r} cannot be found again; download it to a folder and give that"
        ) from error
