"""A guard's options, checked when it is made: a wrong one must not wait for the first flagged request."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

import torch
from PIL import Image

from steerclear.encoders.base import Encoder
from steerclear.errors import ConfigError, InputError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.library import AnyFilter
from steerclear.library import Library, Policy
from steerclear.nudge.base import Rewriter
from steerclear.nudge.ladder import Budget, Ladder
from steerclear.nudge.prefer import PREFERENCES

OnWithheld = Literal["none", "raise", "placeholder"]


class GuardOptions(TypedDict, total=False):
    """The options of `Guard.from_pretrained`, for functions that pass them on."""

    library: str | Path | Library | None
    filters: Sequence[AnyFilter | str]
    preferred: Sequence[str | Image.Image]
    alternatives: Sequence[str] | None
    rewriter: Rewriter | None
    ladder: Sequence[str] | Ladder | None
    budget: Budget | None
    early: bool | EarlyVerdict
    prefer: str
    encoder: Encoder | str | Sequence[Encoder | str] | None
    policy: Policy | None
    on_withheld: OnWithheld
    torch_dtype: torch.dtype | str | None
    variant: str | None
    config: str | Path | None
    device: str | torch.device | None


def check_options(
    *,
    preferred: Any = (),
    alternatives: Any = (),
    rewriter: Any = None,
    ladder: Any = None,
    budget: Any = None,
    early: Any = None,
    prefer: Any = "text",
    on_withheld: Any = "none",
) -> None:
    """Check the types and names of a guard's options, see `Guard`.

    Args:
        preferred: must be texts and PIL images.
        alternatives: must be texts.
        rewriter: must be callable, or None.
        ladder: must be a Ladder, or None.
        budget: must be a Budget, or None.
        early: must be an EarlyVerdict, or None.
        prefer: must be one of `nudge.prefer.PREFERENCES`.
        on_withheld: must be "none", "raise" or "placeholder".

    Raises:
        ConfigError: names the option, its value and what it takes.
    """
    check_list("preferred", values=preferred, kinds=(str, Image.Image), what="texts and PIL images")
    check_list("alternatives", values=alternatives, kinds=(str,), what="texts")
    if rewriter is not None and not callable(rewriter):
        raise ConfigError(
            f"rewriter is {rewriter!r}; pass a function of (prompt, caption, failed texts) that returns texts"
        )
    _check_type("ladder", value=ladder, kind=Ladder, what="a Ladder; names go to Guard.wrap(…, ladder=[…])")
    _check_type("budget", value=budget, kind=Budget, what="a Budget, such as Budget(overhead=4)")
    _check_type(
        "early",
        value=early,
        kind=EarlyVerdict,
        what="an EarlyVerdict; True and False go to Guard.wrap(…, early=…)",
    )
    if prefer not in PREFERENCES:
        raise ConfigError(f"prefer is {prefer!r}; there are {', '.join(PREFERENCES)}")
    check_on_withheld(on_withheld)


def check_budgets(budget: Any, images: int) -> list[Budget | None]:
    """The budget of each image of a call.

    Args:
        budget: one for all, a list with one for each, or None for the guard's own.
        images: how many images the call has.

    Raises:
        ConfigError: for what is no budget, and for a list of another length.
    """
    budgets = list(budget) if isinstance(budget, list | tuple) else [budget] * images
    if len(budgets) != images:
        raise ConfigError(f"{len(budgets)} budgets were given for {images} images; pass one for each")
    for each in budgets:
        _check_type(
            "budget", value=each, kind=Budget, what="a Budget, such as Budget(overhead=4), or a list of them"
        )
    return budgets


def check_on_withheld(value: Any) -> None:
    """Raise ConfigError for an unknown value of `on_withheld`."""
    if value not in get_args(OnWithheld):
        raise ConfigError(f"on_withheld is {value!r}; there are {', '.join(get_args(OnWithheld))}")


def check_list(name: str, values: Any, kinds: tuple[type, ...], what: str) -> None:
    """Check that an option is a list or tuple; a single text is refused, since it would be read letter by
    letter.

    Args:
        name: of the option.
        values: its value.
        kinds: types that the entries may have.
        what: names these types in the message.

    Raises:
        ConfigError: if it is not.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{name} is {values!r}; pass a list of {what}")
    for value in values:
        if not isinstance(value, kinds):
            raise ConfigError(f"{name} holds {value!r}; it takes {what}")


def check_filters(name: str, values: Any, kind: Any) -> None:
    """Check a list of filters.

    Args:
        name: of the attribute or option.
        values: the filters.
        kind: the protocol that each must follow.

    Raises:
        ConfigError: names the entry that does not follow it.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(f"{name} is {values!r}; pass a list of filters")
    for value in values:
        if isinstance(value, str):
            raise ConfigError(
                f"{name} holds the name {value!r}; names go to Guard.wrap(pipe, library=…, filters=[…])"
            )
        if not isinstance(value, AnyFilter):
            raise ConfigError(
                f"{value!r} is no filter: it needs a name, a threshold, "
                "and check, check_pass or check_prompts"
            )
        if not isinstance(value, kind):
            what = {Filter: "pictures", PassFilter: "passes", PromptsFilter: "prompts"}.get(kind, "anything")
            raise ConfigError(f"{value!r} does not see {what}; {name} takes filters that do")


def check_no_safety_checker(pipe: Any) -> None:
    """Raises ConfigError for a pipeline that would blacken its pictures before any filter sees them."""
    if getattr(pipe, "safety_checker", None) is not None:
        raise ConfigError(
            "this pipeline's safety_checker blackens images; set pipe.safety_checker = None and pass a filter"
        )


def check_images(images: Any) -> None:
    """Raises InputError for what is no list of PIL images."""
    if isinstance(images, Image.Image) or not isinstance(images, Sequence) or isinstance(images, str):
        raise InputError(f"images is {images!r}; pass a list of PIL images")
    for image in images:
        if not isinstance(image, Image.Image):
            raise InputError(f"images holds {image!r}; pass PIL images, as PIL.Image.open gives them")


def check_misspelt(keywords: Collection[str]) -> None:
    """Raises ConfigError for a keyword that looks like a guard's option and is none.

    What a guard does not know goes to the pipeline's loader, which ignores what it does not know either.
    """
    for keyword in keywords:
        near = difflib.get_close_matches(keyword, GuardOptions.__annotations__, n=1, cutoff=0.75)
        if near:
            raise ConfigError(f"there is no option {keyword!r}; did you mean {near[0]!r}?")


def _check_type(name: str, value: Any, kind: type, what: str) -> None:
    if value is not None and not isinstance(value, kind):
        raise ConfigError(f"{name} is {value!r}; it takes {what}")
