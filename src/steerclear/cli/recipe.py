"""What decides a picture: the options of `generate`, kept in every PNG so that `replay` can make it again."""

from __future__ import annotations

import difflib
import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from steerclear import plugins
from steerclear._version import __version__
from steerclear.cli.inputs import LARGEST_SEED, read_names
from steerclear.errors import ConfigError, InputError
from steerclear.library.images import SUFFIXES, read_image

EMBEDDED = "embedded"
USUAL_GUIDANCE = 7.5  # of Stable Diffusion
MOST_STEPS = 1000  # schedulers are trained with as many noise levels
DEVICES = ("cpu", "cuda", "mps", "xpu")
DTYPES = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("model", "sequential")
LARGEST_SCALE = 100.0  # of a LoRA; far beyond what leaves a picture
# fields that pictures of earlier versions lack
ADDED_LATER = (
    "filters",
    "encoder",
    "library_version",
    "alternatives",
    "alternatives_fingerprint",
    "negative_prompt",
    "height",
    "width",
    "scheduler",
    "loras",
    "together",
    "image",
    "dtype",
    "variant",
    "config",
    "offload",
    "compile",
)
# fields that hold lists of objects: what these have, and of which type
LISTS: Mapping[str, Mapping[str, Any]] = {
    "loras": {"file": str, "sha256": str, "scale": int | float},
    "together": {"prompt": str, "seed": int},
}
OPTIONS: Mapping[plugins.Kind, str] = {"strategy": "--ladder", "filter": "--filter", "encoder": "--encoder"}


@dataclass(frozen=True)
class Preferred:
    """What pulls: a text or an image file.

    Attributes:
        text: the text.
        image: path of the image file.
        sha256: first 16 hex digits of the image file's SHA-256.
    """

    text: str | None = None
    image: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA's file.

    Attributes:
        file: its path.
        sha256: first 16 hex digits of its SHA-256.
        scale: how strongly it counts.
    """

    file: str
    sha256: str
    scale: float = 1.0


@dataclass(frozen=True)
class Asked:
    """One picture of a call that makes several.

    Attributes:
        prompt: what it should show.
        seed: of its noise.
    """

    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides one picture, and its outcome.

    Attributes:
        prompt: what the picture should show.
        seed: of the first noise, 0 to 2**63 - 1.
        steps: denoising steps.
        guidance: guidance scale.
        model: a folder, a hub id, or "embedded".
        library: a folder or address, or "embedded".
        device: a device of torch.
        ladder: names of strategies, in order.
        filters: names of filters beside those over the library.
        encoder: name of the encoder in whose space strategies steer; "" for the library's first.
        budget: most that one flagged picture may cost, as a multiple of the plain cost.
        prefer: what pulls.
        alternatives: file of prompts whose pictures may be drawn instead; "" for those that calibration kept.
        alternatives_fingerprint: 16 hex digits of that file; "" for none.
        negative_prompt: what the picture should not show; "" for none.
        height: of the picture in pixels; None for the model's own. width likewise.
        width: see height.
        scheduler: name of a scheduler class of diffusers; "" for the model's own.
        loras: LoRA files that are loaded into the model.
        together: every picture of the call that made this one, since what is computed together may round
            otherwise; empty for a picture that was made alone.
        image: which of `together` this picture is.
        dtype: of the weights, one of DTYPES; "" for the default of `load_pipeline`.
        variant: which files of the model folder.
        config: of a model in a single file, the folder or hub id of its configuration.
        offload: "model" or "sequential" to keep on the device only what runs; "" to keep all there.
        compile: whether the denoiser is compiled.
        model_fingerprint: 16 hex digits of the model's weights.
        library_fingerprint: 16 hex digits of the library's contents.
        library_version: of the library that the picture was compared with; None before it is made.
        outcome: clear, steered or withheld; "" before the picture is made.
        steerclear_version: what made it.
    """

    prompt: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = USUAL_GUIDANCE
    model: str = EMBEDDED
    library: str = EMBEDDED
    device: str = "cpu"
    ladder: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    encoder: str = ""
    budget: float | None = None
    prefer: tuple[Preferred, ...] = ()
    alternatives: str = ""
    alternatives_fingerprint: str = ""
    negative_prompt: str = ""
    height: int | None = None
    width: int | None = None
    scheduler: str = ""
    loras: tuple[Lora, ...] = ()
    together: tuple[Asked, ...] = ()
    image: int = 0
    dtype: str = ""
    variant: str = ""
    config: str = ""
    offload: str = ""
    compile: bool = False
    model_fingerprint: str = ""
    library_fingerprint: str = ""
    library_version: int | None = None
    outcome: str = ""
    steerclear_version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """The recipe as a PNG carries it."""
        document = asdict(self)
        document["prefer"] = [
            {key: value for key, value in preferred.items() if value is not None}
            for preferred in document["prefer"]
        ]
        return document

    @classmethod
    def from_dict(
        cls,
        document: Mapping[str, Any],
        source: str,
        trusted: Mapping[plugins.Kind, Collection[str]] | None = None,
    ) -> Recipe:
        """The recipe that a PNG carried.

        Args:
            document: the JSON object.
            source: the file it comes from, for messages.
            trusted: the `module:object` names that the user gave as well; no other is imported.

        Raises:
            InputError: for a damaged recipe; names the source and the first field at fault.
            ConfigError: for a filter, encoder or strategy that must not be imported because a file names it.
        """
        defaults = cls()
        values: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in ADDED_LATER and field.name not in document:
                continue
            value = document.get(field.name)
            if not _has_type(value, field.name, getattr(defaults, field.name)):
                raise InputError(f"the recipe in {source!r} is damaged: {field.name} is {value!r}")
            values[field.name] = tuple(value) if isinstance(value, list) else value
        values["prefer"] = tuple(Preferred(**preferred) for preferred in values["prefer"])
        values["loras"] = tuple(Lora(**lora) for lora in values.get("loras", ()))
        values["together"] = tuple(Asked(**asked) for asked in values.get("together", ()))
        try:
            values["guidance"] = float(values["guidance"])
        except OverflowError as error:
            raise InputError(f"the recipe in {source!r} is damaged: guidance is beyond any number") from error
        recipe = cls(**values)
        _check_trusted(recipe, source, trusted or {})
        check_recipe(recipe)
        return recipe

    def plugin_names(self) -> list[tuple[plugins.Kind, str]]:
        """Every filter, encoder and strategy that the recipe names, with its kind."""
        names: list[tuple[plugins.Kind, str]] = [("strategy", name) for name in self.ladder]
        names += [("filter", name) for name in self.filters]
        return names + ([("encoder", self.encoder)] if self.encoder else [])


def _has_type(value: Any, name: str, default: Any) -> bool:
    if name in ("ladder", "filters"):
        return isinstance(value, list) and all(isinstance(plugin, str) for plugin in value)
    if name == "prefer":
        return isinstance(value, list) and all(
            isinstance(preferred, dict)
            and set(preferred) in ({"text"}, {"image", "sha256"})
            and all(isinstance(text, str) for text in preferred.values())
            for preferred in value
        )
    if name in LISTS:
        kinds = LISTS[name]
        return isinstance(value, list) and all(
            isinstance(entry, dict)
            and set(entry) == set(kinds)
            and all(isinstance(entry[key], kind) for key, kind in kinds.items())
            for entry in value
        )
    if isinstance(value, bool) or name == "compile":
        return isinstance(value, bool) and name == "compile"
    if name in ("library_version", "height", "width"):
        return value is None or isinstance(value, int)
    if name == "budget":
        return value is None or isinstance(value, int | float)
    return isinstance(value, int | float) if isinstance(default, float) else isinstance(value, type(default))


def _check_trusted(recipe: Recipe, source: str, trusted: Mapping[plugins.Kind, Collection[str]]) -> None:
    """Refuse what only a file names: a module that would be imported, an encoder that would be fetched."""
    for kind, name in recipe.plugin_names():
        if name in trusted.get(kind, ()):
            continue
        way_out = f"if it is your own, pass {OPTIONS[kind]} {name} as well"
        if kind == "encoder" and ":" in name:
            raise ConfigError(
                f"the recipe in {source!r} names the encoder {name!r}, which is not loaded on the word of a "
                f"file; {way_out}"
            )
        try:
            plugins.check_registered(kind, name, f"the recipe in {source!r}")
        except ConfigError as error:
            raise ConfigError(f"{error}; {way_out}" if ":" in name else str(error)) from error


def check_recipe(recipe: Recipe) -> None:
    """Check everything that needs neither the model nor the library. Imports the filters and strategies.

    Raises:
        InputError: for a number or device that cannot be used.
        ConfigError: for an unknown filter or strategy.
        EncoderError: for an unknown encoder.
    """
    if not 0 <= recipe.seed <= LARGEST_SEED:
        raise InputError(f"seed {recipe.seed} is out of range; seeds go from 0 to {LARGEST_SEED}")
    if not 1 <= recipe.steps <= MOST_STEPS:
        raise InputError(f"steps is {recipe.steps}; it must be a whole number from 1 to {MOST_STEPS}")
    if not (math.isfinite(recipe.guidance) and recipe.guidance >= 0):
        raise InputError(
            f"guidance is {recipe.guidance}; it must be a finite number of at least 0, "
            f"such as {USUAL_GUIDANCE}"
        )
    if recipe.budget is not None and not (math.isfinite(recipe.budget) and recipe.budget >= 0):
        raise InputError(
            f"budget is {recipe.budget}; it must be a finite multiple of the plain cost, at least 0"
        )
    if recipe.device.partition(":")[0] not in DEVICES:
        raise InputError(
            f"device {recipe.device!r} is unknown; there are {', '.join(DEVICES)}, and cuda:1 and so on"
        )
    _check_request(recipe)
    for name in recipe.filters:
        plugins.load("filter", name)
    if recipe.encoder:
        from steerclear.encoders import encoder_name

        encoder_name(recipe.encoder)
    if recipe.ladder:
        from steerclear.nudge.ladder import strategies

        strategies(recipe.ladder)


def _check_request(recipe: Recipe) -> None:
    """Check what is said of the picture's size, of its call and of how the model runs."""
    for side in ("height", "width"):
        length = getattr(recipe, side)
        if length is not None and length < 1:
            raise InputError(f"{side} is {length}; it must be a whole number of pixels, at least 1")
    for option, value, known in (("dtype", recipe.dtype, DTYPES), ("offload", recipe.offload, OFFLOADS)):
        if value and value not in known:
            raise InputError(f"{option} {value!r} is unknown; there are {', '.join(known)}")
    if recipe.offload and recipe.device == "cpu":
        raise InputError(
            f"offload {recipe.offload!r} moves a model between the CPU and a GPU; pass --device cuda as well"
        )
    if recipe.scheduler:
        scheduler_class(recipe.scheduler)
    for lora in recipe.loras:
        if not (math.isfinite(lora.scale) and abs(lora.scale) <= LARGEST_SCALE):
            raise InputError(f"the scale of the LoRA {lora.file!r} is {lora.scale}; give one like 0.8")
    if recipe.together and Asked(recipe.prompt, recipe.seed) not in recipe.together[recipe.image :][:1]:
        raise InputError(f"image is {recipe.image}, which is not this picture's place among `together`")


def scheduler_class(name: str) -> Any:
    """A scheduler class of diffusers by its name.

    Raises:
        InputError: for an unknown name.
    """
    import diffusers

    if re.fullmatch(r"\w+Scheduler", name) and name in dir(diffusers):
        return getattr(diffusers, name)
    known = [other for other in dir(diffusers) if other.endswith("Scheduler")]
    stem = name.removesuffix("Scheduler").lower()
    near = [other for other in known if stem and other.lower().startswith(stem)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0) or known
    raise InputError(f"there is no scheduler {name!r} in diffusers; did you mean {near[0]}?")


def read_loras(values: Sequence[str]) -> tuple[Lora, ...]:
    """LoRA files as typed: FILE or FILE:SCALE.

    Raises:
        InputError: for a file that is not there or no .safetensors file, or a scale that is no number.
    """
    return tuple(_lora(value) for value in values)


def _lora(value: str) -> Lora:
    name, separator, scale = value.rpartition(":")
    if not separator or Path(value).is_file():
        name, scale = value, "1"
    path = Path(name)
    if not path.is_file():
        raise InputError(f"there is no LoRA file {name!r}; give FILE or FILE:SCALE")
    if path.suffix != ".safetensors":
        raise InputError(
            f"the LoRA {name!r} is no .safetensors file; others may run code when they are loaded"
        )
    try:
        return Lora(name, image_fingerprint(path), float(scale))
    except ValueError as error:
        raise InputError(
            f"the scale {scale!r} of the LoRA {name!r} is no number; give one like 0.8"
        ) from error


def read_ladder(text: str | None) -> tuple[str, ...]:
    """Strategy names as typed, separated by commas; none for the default ladder.

    Raises:
        ConfigError: for an empty name.
    """
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"the ladder {text!r} holds an empty name; write it like condition,rewrite")
    return read_names("strategy", names)


def read_filters(names: Sequence[str]) -> tuple[str, ...]:
    """Filter names as typed, without those that look at every picture anyway.

    Raises:
        InputError: for an empty name.
    """
    if not names:
        return ()
    from steerclear.filters.library import LIBRARY_FILTERS

    return tuple(name for name in dict.fromkeys(read_names("filter", names)) if name not in LIBRARY_FILTERS)


def read_encoder(name: str | None) -> str:
    """An encoder's name as typed, local paths made absolute; "" for none.

    Raises:
        InputError: for an empty name.
        EncoderError: for an unknown one.
    """
    if name is None:
        return ""
    from steerclear.encoders import encoder_name

    return encoder_name(*read_names("encoder", [name]))


def read_preferred(values: Sequence[str]) -> tuple[Preferred, ...]:
    """What should pull, as typed: an existing file is an image, anything else a text.

    Raises:
        InputError: for an empty text, or an image that is missing or unreadable.
    """
    return tuple(_preferred(value) for value in values)


def _preferred(value: str) -> Preferred:
    path = Path(value)
    try:
        is_file = path.is_file()
    except OSError:  # a text longer than any file name may be
        is_file = False
    if is_file:
        read_image(path)  # an unreadable one is bad input now, not after the model is loaded
        return Preferred(image=value, sha256=image_fingerprint(path))
    if path.suffix.lower() in SUFFIXES:
        raise InputError(f"there is no image {value!r} to prefer; give an existing file, or a text")
    if not value.strip():
        raise InputError(f"the text {value!r} to prefer is empty; say what the picture should resemble")
    return Preferred(text=value)


def image_fingerprint(path: Path) -> str:
    """First 16 hex digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
