"""Before each request: has the library changed? Then what a guard built of its items is built again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from steerclear.filters import EarlyVerdict
from steerclear.library import Library, Policy
from steerclear.loading import GuardParts, guard_parts

Part = TypeVar("Part")


@dataclass
class FollowedLibrary:
    """The library of a guard, and what was built of it.

    Whatever depends on the items comes from `guard_parts`: the filters that are made of `FilterParts`, the
    protected pictures, the ids to withhold, the early verdict. So all of it is built again together, and no
    filter needs to follow by itself. Encoders, and filters that are not made of items, are kept.

    Attributes:
        parts: what was built, and of which version.
        model: as for `guard_parts`, like the others.
        early: see model.
        policy: see model.
    """

    parts: GuardParts
    model: str | Path | None
    early: bool | EarlyVerdict
    policy: Policy | None

    @property
    def library(self) -> Library:
        """The library itself."""
        return self.parts.library

    @property
    def changed(self) -> bool:
        """Whether there is another version than that of the parts; one look-up.

        Raises:
            LibraryError: if the library cannot be read any more.
        """
        return self.library.version != self.parts.version

    def build(self, pipe: Any) -> GuardParts:
        """Returns the parts of the present version.

        Raises:
            LibraryError: if the library cannot be read any more, or holds no items any more.
        """
        before = self.parts
        return guard_parts(
            pipe,
            before.library,
            model=self.model,
            filters=before.further,
            alternatives=before.alternatives,
            ladder=before.ladder,
            early=self.early,
            encoder=before.encoder,
            policy=self.policy,
            before=before,
        )


def renewed(current: Sequence[Part], before: Sequence[Part], after: Sequence[Part]) -> tuple[Part, ...]:
    """A guard's filters once the library's have been built again.

    Args:
        current: the guard's filters: what was built, without what the user has taken out since, and what the
            user has added.
        before: what was built before.
        after: the same, built again; what is not made of the library's items is the very same object.

    Returns:
        What was built again, without what was taken out; then what the user has added.
    """
    in_use = {_name(old) for old in before if _among(old, current)}
    taken_out = {_name(old) for old in before if not _among(old, after)} - in_use
    kept = [
        new for new in after if (_among(new, current) if _among(new, before) else _name(new) not in taken_out)
    ]
    return (*kept, *(part for part in current if not _among(part, before)))


def _among(part: object, parts: Sequence[object]) -> bool:
    # by identity: filters are dataclasses over tensors, which cannot be compared
    return any(part is other for other in parts)


def _name(filter_: object) -> object:
    return getattr(filter_, "name", None)
