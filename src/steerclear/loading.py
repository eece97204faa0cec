"""Build the parts of a guard from a library and a pipeline; `guard.py` assembles them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from steerclear import embedded
from steerclear._moved import moved
from steerclear.copy_detection import is_recognisable
from steerclear.encoders import DEFAULT, Encoder, check_consent, encoder_name, load_encoder
from steerclear.encoders.embedded import CopyDescriptor
from steerclear.errors import ConfigError, LibraryError
from steerclear.filters import EarlyVerdict, Filter
from steerclear.filters.early import Settings
from steerclear.filters.library import (
    LIBRARY_FILTERS,
    AnyFilter,
    FilterParts,
    is_over_library,
    named_filters,
)
from steerclear.filters.library import library_filters as filters_over
from steerclear.filters.rolled_out import RolledOut
from steerclear.fingerprints import file_fingerprint, sampled_fingerprint
from steerclear.generators.accepted import denoiser_of
from steerclear.library import Library, Policy
from steerclear.library.rollout import NotesVersion, Selection, Share, shares
from steerclear.library.schema import POLICIES
from steerclear.nudge.base import OrdinaryPrompts
from steerclear.nudge.ladder import Ladder, strategies
from steerclear.pipelines import latent_like, native_size
from steerclear.protected import Protected

ORDINARY_PROMPTS = "ordinary prompts"  # name of the note in a library, which has one entry per model

Which = Literal["thresholds", "strict"]


@dataclass(frozen=True)
class GuardParts:
    """The parts of a guard: the arguments of `Guard(pipe, …)`, under the same names.

    It also holds what is needed to rebuild them for a later version of the library: the library and its
    version, the encoders that it was built with, and the caller's further filters. Filters over the library
    stay names. `rolled_out` looks for the items that are enforced for a share of the seeds alone.
    """

    library: Library
    version: int
    encoders: Sequence[Encoder]
    further: Sequence[AnyFilter | str]
    filters: Sequence[AnyFilter]
    strict: Sequence[Filter]
    protected: Protected
    alternatives: Sequence[str]
    ladder: Ladder | None
    early: EarlyVerdict | None
    encoder: Encoder | None
    ordinary: OrdinaryPrompts
    notes_version: int = 0
    shares: tuple[Share, ...] = ()
    rolled_out: RolledOut | None = None


def guard_parts(
    pipe: Any,
    library: str | Path | Library,
    *,
    model: str | Path | None = None,
    filters: Sequence[AnyFilter | str] = (),
    alternatives: Sequence[str] | None = None,
    ladder: Sequence[str] | Ladder | None = None,
    early: bool | EarlyVerdict = True,
    encoder: Encoder | str | Sequence[Encoder | str] | None = None,
    policy: Policy | None = None,
    before: GuardParts | None = None,
) -> GuardParts:
    """Build the parts of a guard.

    Args:
        pipe: a loaded pipeline, on its device.
        library: the protected library, or where it lies.
        model: the folder that the pipeline was loaded from; by default what the pipeline itself remembers.
        filters: further filters, as names or objects, beside those over the library.
        alternatives: texts of what the model draws well; by default those that the library's calibration
            found for this model.
        ladder: strategy names or a Ladder; by default the one that fits the pipeline.
        early: use the early verdict, if the library was calibrated for this very model; or a verdict of your
            own.
        encoder: the encoder, or encoders, to steer with; by default the library's first that is
            differentiable. A library that was built with an encoder that does not ship inside
            (`transformers:…`, `sscd:…`, `vae:…` or `module:object`) needs it named here, since a library's
            metadata alone loads nothing. Of several, the first steers.
        policy: replaces the policy of every item.
        before: the parts of an earlier version of the library, whose encoders are used again.

    Raises:
        LibraryError: if the library cannot be used, holds no items, or has no usable threshold.
        EncoderError: if one of its encoders is missing.
        ConfigError: for an unknown filter or strategy.
    """
    if policy not in (None, *POLICIES):
        raise ConfigError(
            f"policy is {policy!r}; there are {', '.join(POLICIES)}, or None for what each item says"
        )
    if not isinstance(library, str | Path | Library):
        raise ConfigError(f"library is {library!r}; pass a Library, or the folder or address of one")
    check_names("filters", filters)
    if ladder is not None and not isinstance(ladder, Ladder):
        check_names("ladder", ladder)
    if not all(isinstance(entry, str | Encoder) for entry in named_encoders(encoder)):
        raise ConfigError(f"encoder is {encoder!r}; pass an encoder, the name of one, or a list of these")
    if not isinstance(early, bool | EarlyVerdict):
        raise ConfigError(f"early is {early!r}; pass True, False or an EarlyVerdict")
    opened = library if isinstance(library, Library) else Library.open(library)
    # first of all: what is added while the parts are read then counts as a change
    version, noted = opened.version, NotesVersion(opened.uri).read()
    opened.check_holds_items()
    model = model if model is not None else getattr(pipe, "name_or_path", None) or ""
    device = pipe._execution_device
    at_hand = _own_encoders(pipe, model, opened)
    if before is not None:
        at_hand |= {ready.name: partial(_same, ready) for ready in before.encoders}
    specs = {spec.name: spec for spec in opened.encoders}
    named = list[Encoder]()
    for entry in named_encoders(encoder):
        if isinstance(entry, str):
            wanted = encoder_name(entry)
            expected = specs[wanted].fingerprint if wanted in specs else None
            make = at_hand.get(wanted) or partial(load_encoder, wanted, device, fingerprint=expected)
            entry = make()
        at_hand[entry.name] = partial(_same, entry)
        named.append(entry)
    encoders = open_encoders(opened, device, at_hand)
    calibration = opened.read_note("calibration")
    of_model = calibration if calibration and made_on(calibration, model) else None
    protected = Protected.of(pipe, opened, policy)
    if before is not None:
        protected.share_latents_of(before.protected)
    ordinary = ordinary_prompts(pipe, opened)
    if alternatives is None:
        # a library may be the user's own, and still the model be the one that ships
        known = of_model or (embedded_calibration() if embedded.is_embedded(model) else {})
        alternatives = known.get("alternatives") or ordinary.clear
    partly = tuple(shares(opened))
    ids = {share.item for share in partly}
    calibrated = (
        early_verdict(pipe, protected=protected, calibration=of_model, without=ids)
        if early is True and of_model
        else None
    )
    enforced = Selection(opened, without=ids) if ids else opened
    enforced.check_holds_items()
    parts = filter_parts(enforced, encoders, device=device, native=native_size(pipe))
    further = _without_names(filters, parts)
    return GuardParts(
        library=opened,
        version=version,
        encoders=encoders,
        further=further,
        filters=[*filters_over(parts), *_added(further, parts)],
        strict=filters_over(parts.strict(calibrated_thresholds(opened, "strict"))),
        protected=protected,
        alternatives=alternatives,
        ladder=ladder if ladder is None or isinstance(ladder, Ladder) else Ladder(strategies(ladder)),
        early=calibrated if isinstance(early, bool) else early,
        encoder=next(iter(named), None) or next((e for e in encoders if e.differentiable), None),
        ordinary=ordinary,
        notes_version=noted,
        shares=partly,
        rolled_out=RolledOut(partly, partial(_filters_over_some, opened, parts, further)) if partly else None,
    )


def _filters_over_some(
    library: Library, parts: FilterParts, further: Sequence[AnyFilter | str], items: frozenset[str]
) -> tuple[list[Filter], list[Filter]]:
    """The filters over some items: those for any picture, and those for a steered one."""
    some = replace(parts, library=Selection(library, only=items), shared={})
    names = [*LIBRARY_FILTERS, *(f for f in further if isinstance(f, str))]
    if not any(is_recognisable(picture) for picture in some.library.pictures().values()):
        names.remove("copy")  # it has nothing to look for, as in the library as a whole
    strict = some.strict(calibrated_thresholds(library, "strict"))
    strict_names = [name for name in LIBRARY_FILTERS if name in names]
    return (
        [f for name in names for f in named_filters(name, some) if isinstance(f, Filter)],
        [f for name in strict_names for f in named_filters(name, strict) if isinstance(f, Filter)],
    )


def named_encoders(encoder: Any) -> list[Any]:
    """The option `encoder` as a list: it may be one encoder or name, several, or None."""
    if encoder is None:
        return []
    return list(encoder) if isinstance(encoder, list | tuple) else [encoder]


def check_names(option: str, values: Any) -> None:
    """Check that an option is no single text, which would be read letter by letter.

    Args:
        option: its name.
        values: its value.

    Raises:
        ConfigError: for a text.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{option} is {values!r}; pass a list")


def made_on(calibration: Mapping[str, Any], model: str | Path) -> bool:
    """Whether a calibration was made on pictures of this very model.

    Args:
        calibration: the note in a library.
        model: a model folder; "" where it is not known.
    """
    weights = Path(model) / "unet" / "diffusion_pytorch_model.safetensors"
    return "model" in calibration and weights.is_file() and file_fingerprint(weights) == calibration["model"]


def own_descriptor(
    model: str | Path, library: Library, device: torch.device | str = "cpu"
) -> dict[str, Callable[[], Encoder]]:
    """Find the copy descriptor in a model folder that `train-emoji` made.

    Args:
        model: a model folder; "" where it is not known.
        library: the protected library.
        device: where its weights go.

    Returns:
        The descriptor's name → a function that loads it, if the library was built with this very descriptor;
        else an empty mapping.
    """
    weights = Path(model) / "descriptor" / "model.safetensors"
    if not str(model) or embedded.is_embedded(model) or not weights.is_file():
        return {}
    known = [spec.fingerprint for spec in library.encoders if spec.name == CopyDescriptor.name]
    if file_fingerprint(weights) not in known:
        return {}
    return {CopyDescriptor.name: lambda: CopyDescriptor.load(weights.parent, device)}


def open_encoders(
    library: Library,
    device: torch.device | str = "cpu",
    at_hand: Mapping[str, Callable[[], Encoder]] | None = None,
) -> list[Encoder]:
    """The encoders that a library was built with, the very same weights, on a device.

    Args:
        library: the protected library.
        device: where the encoders' weights go.
        at_hand: by name, what gives an encoder that is loaded already.

    Raises:
        EncoderError: if one is missing.
        ConfigError: if the library alone names one that does not ship inside.
        LibraryError: if one is another version.
    """
    ready = at_hand or {}
    encoders = []
    for spec in library.encoders:
        if spec.name not in ready:
            check_consent(spec.name, f"the library at {library.uri!r}")
        encoders.append(ready[spec.name]() if spec.name in ready else load_encoder(spec.name, device))
    for encoder in encoders:
        library.check_encoder(encoder)
    return encoders


def filter_parts(
    library: Library,
    encoders: Sequence[Encoder],
    which: Which = "thresholds",
    device: torch.device | str = "cpu",
    native: int | None = None,
) -> FilterParts:
    """What the filters over a library are built of, with the thresholds of its own calibration.

    Args:
        library: the protected library.
        encoders: those that it was built with.
        which: the thresholds for any picture, or the strict ones for a steered or suspect picture.
        device: where vectors are compared.
        native: side in pixels of the pictures that the pipeline makes by default.
    """
    thresholds = calibrated_thresholds(library, which)
    return FilterParts(
        library=library,
        encoders=encoders,
        thresholds=thresholds,
        prefix="" if which == "thresholds" else "strict ",
        device=device,
        native=native,
    )


def calibrated_thresholds(library: Library, which: Which) -> dict[str, Any]:
    """Read the thresholds of a library's calibration.

    Args:
        library: the protected library. If it has no calibration and was built with the embedded copy
            descriptor, the embedded library's calibration counts.
        which: "thresholds" for any picture, "strict" for steered and suspect ones.

    Returns:
        Filter name → threshold.
    """
    calibration = library.read_note("calibration")
    if calibration is None:
        # another encoder's scores have another scale
        calibration = embedded_calibration() if library.encoders[0].name == DEFAULT else {}
    # a calibration without strict thresholds asks no more of a steered picture than of any other
    thresholds: dict[str, Any] = calibration.get(which) or calibration.get("thresholds") or {}
    return thresholds


def embedded_calibration() -> dict[str, Any]:
    """The calibration of the embedded library, the starting point of other libraries with the same
    descriptor.

    Raises:
        LibraryError: if the installed package lacks it.
    """
    note = Library.open(embedded.LIBRARY_FOLDER).read_note("calibration")
    if note is None:
        raise LibraryError(
            f"the embedded library in {embedded.LIBRARY_FOLDER} holds no calibration; reinstall steerclear"
        )
    return note


def early_verdict(
    pipe: Any, protected: Protected, calibration: Mapping[str, Any], without: Collection[str] = ()
) -> EarlyVerdict | None:
    """Build the calibrated early verdict. The calibration must have been `made_on` this very model.

    Args:
        pipe: the pipeline.
        protected: the library's items.
        calibration: the note in the library.
        without: items that end no pass early, since they are enforced for a share of the seeds alone.

    Returns:
        The verdict; None if the calibration has none, or the library no items.
    """
    early = calibration.get("early")
    ids = tuple(item for item in protected.pictures if item not in without)
    if not early or not ids:
        return None
    latents = protected.latents(ids, latent_like(pipe))
    ranges = early["settings"]
    settings = Settings(
        tuple(ranges["schedulers"]),
        steps=tuple(ranges["steps"]),
        guidance=tuple(ranges["guidance"]),
        spacing=ranges["spacing"],
    )
    return EarlyVerdict(
        ids, latents=latents, threshold=early["threshold"], step=early["step"], settings=settings
    )


def ordinary_prompts(pipe: Any, library: Library) -> OrdinaryPrompts:
    """Read what `steerclear calibrate` has noted in a library about ordinary prompts on this very model.

    Args:
        pipe: the pipeline.
        library: the protected library.

    Returns:
        The note; an empty one for a model that was not calibrated.

    Raises:
        LibraryError: if the note is damaged.
    """
    note = library.read_note(ORDINARY_PROMPTS) or {}
    of_model = note.get(sampled_fingerprint(denoiser_of(pipe)) or "") or {}
    try:
        return OrdinaryPrompts(
            similarity=tuple((float(scale), float(value)) for scale, value in of_model.get("similarity", ())),
            generic=frozenset(map(str, of_model.get("generic", ()))),
            clear=tuple(map(str, of_model.get("clear", ()))),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise LibraryError(
            f"the note {ORDINARY_PROMPTS!r} in the library at {library.uri!r} is damaged: {error}; "
            "run steerclear calibrate with prompts again"
        ) from error


def _own_encoders(pipe: Any, model: str | Path, library: Library) -> dict[str, Callable[[], Encoder]]:
    """Encoders that the model itself provides, by their names in the library: its autoencoder, which is
    already loaded, and the copy descriptor that `own_descriptor` finds.
    """
    from steerclear.encoders.pretrained import LatentEncoder

    if not str(model):
        return {}
    name = encoder_name(f"vae:{model}")
    return {
        name: lambda: LatentEncoder.of(pipe, name),
        **own_descriptor(model, library, pipe._execution_device),
    }


def _same(encoder: Encoder) -> Encoder:
    return encoder


def _without_names(filters: Sequence[AnyFilter | str], parts: FilterParts) -> list[AnyFilter | str]:
    """Replace names of filters by the filters, except for those over the library's items."""
    resolved: list[AnyFilter | str] = []
    for filter_ in filters:
        keep = not isinstance(filter_, str) or is_over_library(filter_)
        resolved += [filter_] if keep else named_filters(str(filter_), parts)
    return resolved


def _added(filters: Sequence[AnyFilter | str], parts: FilterParts) -> list[AnyFilter]:
    added: list[AnyFilter] = []
    for filter_ in filters:
        added += named_filters(filter_, parts) if isinstance(filter_, str) else [filter_]
    return added


# ── old names, for one release ──────────────────────────────────────────────────────────────────────────────

__getattr__ = moved(
    __name__,
    {
        "load_pipeline": "steerclear.pipelines:load_pipeline",
        "latent_like": "steerclear.pipelines:latent_like",
        "LIBRARY_FOLDER": "steerclear.embedded:LIBRARY_FOLDER",
        "is_embedded": "steerclear.embedded:is_embedded",
    },
)


def library_filters(
    library: Library,
    encoders: Sequence[Encoder],
    which: Which = "thresholds",
    device: torch.device | str = "cpu",
) -> list[Filter]:
    """The filters over a library, as its calibration has their thresholds. Use `Guard.wrap` instead.

    Args:
        library: the protected library.
        encoders: those that it was built with.
        which: the thresholds for any picture, or the strict ones for a steered picture.
        device: where vectors are compared.
    """
    warnings.warn(
        "steerclear.loading.library_filters goes with the next release; "
        "Guard.wrap(pipe, library=…) builds the whole guard",
        DeprecationWarning,
        stacklevel=2,
    )
    return filters_over(filter_parts(library, encoders=encoders, which=which, device=device))
