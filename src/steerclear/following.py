"""Follow a library: before each request, rebuild the parts of a guard whose items have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from steerclear.filters import EarlyVerdict
from steerclear.library import Library, Policy
from steerclear.library.rollout import NotesVersion, shares
from steerclear.loading import GuardParts, guard_parts

Part = TypeVar("Part")


@dataclass
class FollowedLibrary:
    """The library of a guard, and the parts that were built from it.

    All parts that depend on the items come from `guard_parts`: the filters that take `FilterParts`, the
    protected pictures, the ids to withhold, the early verdict. They are rebuilt together, so no filter needs
    to follow the library itself. Encoders, and filters that do not depend on items, are kept.

    Attributes:
        parts: what was built, and from which version of the library.
        model: as for `guard_parts`.
        early: as for `guard_parts`.
        policy: as for `guard_parts`.
    """

    parts: GuardParts
    model: str | Path | None
    early: bool | EarlyVerdict
    policy: Policy | None
    _notes_seen: int | None = None

    def __post_init__(self) -> None:
        self._notes = NotesVersion(self.parts.library.uri)

    @property
    def library(self) -> Library:
        """The library itself."""
        return self.parts.library

    @property
    def changed(self) -> bool:
        """Whether the library has another version or other shares than the parts; costs two look-ups.

        Raises:
            LibraryError: if the library cannot be read any more.
        """
        if self.library.version != self.parts.version:
            return True
        # the shares are notes, and read only once some note has been written
        version = self._notes.read()
        if version not in (self.parts.notes_version, self._notes_seen):
            if tuple(shares(self.library)) != self.parts.shares:
                return True
            self._notes_seen = version
        return False

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
    """Replace a guard's filters by rebuilt ones, and keep what the user has changed.

    Args:
        current: the guard's filters now. The user may have removed built ones and added others.
        before: the filters as they were built before.
        after: the same filters, rebuilt. One that does not depend on the library's items is the same object.

    Returns:
        The rebuilt filters without those that the user has removed, then those that the user has added.
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
