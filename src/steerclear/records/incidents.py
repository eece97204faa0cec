"""Requests that were not clear: what is kept of each, and the reviewers' queue."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Connection, Row

from steerclear.errors import ConfigError, InputError, RecordsError
from steerclear.output import finite
from steerclear.records import chain
from steerclear.records.chain import Content
from steerclear.records.database import Database, now, stamp, time_of
from steerclear.records.sealing import Keep, seal, unseal
from steerclear.records.tables import contents, queue, records
from steerclear.types import Outcome, Report

State = Literal["open", "claimed", "decided"]
Judgement = Literal["copy", "no_copy"]
STATES: tuple[State, ...] = ("open", "claimed", "decided")
JUDGEMENTS: tuple[Judgement, ...] = ("copy", "no_copy")
CLAIM = timedelta(minutes=15)  # then the incident is somebody else's to review
SIDE = 256  # pixels of a thumbnail's longer side
LONGEST_NOTE = 4000  # characters
TEXTS, THUMBNAIL = "texts", "thumbnail"  # names of an incident's contents
# what a caller wrote
ASKED = frozenset(("prompt", "negative_prompt", "prefer"))
# whatever is said in words may quote it
WORDS = ASKED | {"unread", "reason", "error", "stopped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One picture of a request that was not clear.

    Attributes:
        report: as a line of report.jsonl has it, see `Report.to_dict`.
        settings: what the caller asked for beside the prompt; a JSON object.
        key: id of the caller's key.
        request: names the request, of which this may be one picture of several.
        handed_out: SHA-256 of the file that was handed out, in hex; None where nothing was.
        thumbnail: PNG of what was withheld, see `thumbnail_of`.
        prompt_sha256: of the prompt in UTF-8, in hex, where `Keep.prompts` is "hash".
        id: unique in its database.
    """

    report: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    request: str | None = None
    handed_out: str | None = None
    thumbnail: bytes | None = field(default=None, repr=False)
    prompt_sha256: str | None = None
    id: str = field(default_factory=lambda: chain.new_id("inc"))

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        settings: Mapping[str, Any] | None = None,
        key: str | None = None,
        request: str | None = None,
        handed_out: bytes | None = None,
        withheld: Image.Image | None = None,
        id: str | None = None,
    ) -> Incident:
        """The incident of a picture's report.

        Args:
            report: of a picture that was not clear.
            settings: see the attributes, like what is not named here.
            key: see settings.
            request: see settings.
            handed_out: the file that was handed out, as it was sent.
            withheld: the picture that was flagged; a thumbnail of it is kept only where `Keep` says so.
            id: by default a new one.

        Raises:
            InputError: for a clear report, and settings that JSON cannot write.
        """
        if report.outcome is Outcome.CLEAR:
            raise InputError("the report is of a clear picture, which is no incident")
        return cls(
            report=finite(report.to_dict()),
            settings=_plain(settings or {}),
            key=key,
            request=request,
            handed_out=None if handed_out is None else hashlib.sha256(handed_out).hexdigest(),
            thumbnail=None if withheld is None else thumbnail_of(withheld),
            id=id or chain.new_id("inc"),
        )

    @property
    def prompt(self) -> str | None:
        """The prompt; None where only its hash was kept, or it was purged."""
        return self.report.get("prompt")

    @property
    def outcome(self) -> str:
        """How it ended: steered, withheld or observed."""
        return str(self.report["outcome"])

    @property
    def matched(self) -> str | None:
        """The protected item that the first picture resembled."""
        return self.report.get("matched")


@dataclass(frozen=True, slots=True)
class Decided:
    """A reviewer's decision.

    Attributes:
        decision: "copy" confirms, "no_copy" overrules.
        reviewer: who decided.
        note: why.
        when: in UTC.
    """

    decision: Judgement
    reviewer: str
    note: str
    when: datetime


@dataclass(frozen=True, slots=True)
class LoggedIncident:
    """An incident as the database holds it.

    Attributes:
        incident: what was recorded; texts that were purged or never kept are None, and so is the thumbnail,
            which `Incidents.thumbnail` opens.
        seq: its place in the chain of records.
        written: when, in UTC.
        hash: of its record.
        state: open, claimed or decided.
        claimed_by: the reviewer who has it now.
        decided: the last decision, if there is one.
        has_thumbnail: whether one is kept.
    """

    incident: Incident
    seq: int
    written: datetime
    hash: str
    state: State
    claimed_by: str | None
    decided: Decided | None
    has_thumbnail: bool

    @property
    def id(self) -> str:
        """The incident's id."""
        return self.incident.id

    def to_dict(self) -> dict[str, Any]:
        """Returns a plain dictionary that JSON can write."""
        incident, decided = self.incident, self.decided
        return {
            "id": incident.id,
            "seq": self.seq,
            "written": self.written.isoformat(),
            "hash": self.hash,
            "state": self.state,
            "claimed_by": self.claimed_by,
            "decision": None if decided is None else decided.decision,
            "reviewer": None if decided is None else decided.reviewer,
            "note": None if decided is None else decided.note,
            "decided": None if decided is None else decided.when.isoformat(),
            "outcome": incident.outcome,
            "matched": incident.matched,
            "prompt": incident.prompt,
            "prompt_sha256": incident.prompt_sha256,
            "key": incident.key,
            "request": incident.request,
            "handed_out": incident.handed_out,
            "has_thumbnail": self.has_thumbnail,
            "settings": dict(incident.settings),
            "report": dict(incident.report),
        }


class Incidents:
    """The incidents of one database, and the queue of those that nobody has decided yet."""

    def __init__(self, database: Database, keep: Keep) -> None:
        self._database = database
        self._keep = keep

    def append(self, incident: Incident) -> str:
        """Records an incident; when this returns, it is on disk.

        Returns:
            The incident's id.

        Raises:
            RecordsError: if it could not be recorded, or its id is taken.
        """
        body, held = self._parts(incident)
        with self._database.writing() as connection:
            seq, id = chain.append(
                connection, "incident", body, id=incident.id, item=incident.matched, held=held
            )
            connection.execute(queue.insert().values(incident=id, seq=seq))
        return id

    def get(self, id: str) -> LoggedIncident:
        """The incident of an id.

        Raises:
            RecordsError: if there is none.
        """
        with self._database.reading() as connection:
            return _one(connection, id)

    def claim(self, reviewer: str, *, period: timedelta = CLAIM) -> LoggedIncident | None:
        """Gives a reviewer the oldest incident that nobody has decided and nobody else is looking at.

        Who has one already gets it again, with a new period.

        Args:
            reviewer: who asks.
            period: for how long nobody else gets it.

        Returns:
            None where nothing is left to review.
        """
        _check_reviewer(reviewer)
        with self._database.writing() as connection:
            present = stamp(now())
            held = sa.and_(queue.c.claimed_by == reviewer, queue.c.claimed_until > present)
            free = sa.or_(queue.c.claimed_until.is_(None), queue.c.claimed_until <= present)
            for which in (held, free):
                row = connection.execute(
                    sa.select(queue.c.incident)
                    .where(queue.c.decision.is_(None), which)
                    .order_by(queue.c.seq)
                    .limit(1)
                ).first()
                if row is not None:
                    connection.execute(
                        queue.update()
                        .where(queue.c.incident == row.incident)
                        .values(claimed_by=reviewer, claimed_until=stamp(now() + period))
                    )
                    return _one(connection, row.incident)
        return None

    def take(self, id: str, reviewer: str, *, period: timedelta = CLAIM) -> LoggedIncident:
        """Gives a reviewer an incident of their choice, and takes back what they have claimed before.

        Who looks at a decided incident claims nothing.

        Args:
            id: of the incident.
            reviewer: who asks.
            period: for how long nobody else gets it.

        Raises:
            RecordsError: for an unknown id, and one that somebody else has claimed.
        """
        _check_reviewer(reviewer)
        with self._database.writing() as connection:
            wanted = _one(connection, id)
            if wanted.claimed_by not in (None, reviewer):
                raise RecordsError(f"{wanted.claimed_by!r} is reviewing {id}; claim another one")
            connection.execute(
                queue.update()
                .where(queue.c.claimed_by == reviewer, queue.c.incident != id)
                .values(claimed_by=None, claimed_until=None)
            )
            if wanted.decided is None:
                connection.execute(
                    queue.update()
                    .where(queue.c.incident == id)
                    .values(claimed_by=reviewer, claimed_until=stamp(now() + period))
                )
            return _one(connection, id)

    def release(self, id: str, reviewer: str) -> None:
        """Gives an incident back that a reviewer has claimed and not decided; else does nothing."""
        with self._database.writing() as connection:
            connection.execute(
                queue.update()
                .where(queue.c.incident == id, queue.c.claimed_by == reviewer)
                .values(claimed_by=None, claimed_until=None)
            )

    def decide(
        self, id: str, decision: Judgement, reviewer: str, note: str = "", *, revise: bool = False
    ) -> LoggedIncident:
        """Records what a reviewer says of an incident.

        Args:
            id: of the incident.
            decision: "copy" confirms, "no_copy" overrules.
            reviewer: who decides.
            note: why; it stays in the chain for good, so no secret belongs into it.
            revise: whether an earlier decision may be replaced; it stays in the chain, and the last counts.

        Raises:
            InputError: for another decision, no reviewer, or a note that is too long.
            RecordsError: for an unknown id, one that somebody else has claimed, and one that is decided.
        """
        _check_reviewer(reviewer)
        if decision not in JUDGEMENTS:
            raise InputError(f"the decision is {decision!r}; there are {' and '.join(JUDGEMENTS)}")
        if len(note) > LONGEST_NOTE:
            raise InputError(f"a note of {len(note)} characters is too long; {LONGEST_NOTE} is the most")
        with self._database.writing() as connection:
            before = _one(connection, id)
            if before.claimed_by not in (None, reviewer):
                raise RecordsError(f"{before.claimed_by!r} is reviewing {id}; claim another one")
            if before.decided is not None and not revise:
                raise RecordsError(
                    f"{before.decided.reviewer!r} has decided {id}: {before.decided.decision}; to replace "
                    "the decision, say that you revise it"
                )
            body = {"decision": decision, "reviewer": reviewer, "note": note}
            chain.append(connection, "decision", body, subject=id, item=before.incident.matched)
            connection.execute(
                queue.update()
                .where(queue.c.incident == id)
                .values(decision=decision, claimed_by=None, claimed_until=None)
            )
            return _one(connection, id)

    def thumbnail(self, id: str) -> bytes | None:
        """The PNG of what was withheld; None where none is kept.

        Raises:
            RecordsError: for an unknown id, or a key that does not open it.
            ConfigError: without a key.
        """
        with self._database.reading() as connection:
            _one(connection, id)
            row = connection.execute(
                sa.select(contents.c.value).where(contents.c.record == id, contents.c.name == THUMBNAIL)
            ).first()
        if row is None:
            return None
        if self._keep.key is None:
            raise ConfigError(f"the thumbnail of {id} is encrypted, and no key is set; see `read_key`")
        return unseal(self._keep.key, bytes(row.value), f"{THUMBNAIL} of {id}")

    def list(
        self,
        *,
        after: int = 0,
        state: State | None = None,
        item: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[LoggedIncident]:
        """Incidents, oldest first; with `before`, newest first.

        Args:
            after: the `seq` of the last one of the page before.
            state: only those that are open, claimed or decided now.
            item: only those of a protected item.
            limit: the most that are returned.
            before: only those below this `seq`, from there backwards.

        Raises:
            InputError: for an unknown state, or a limit below 1.
        """
        if state is not None and state not in STATES:
            raise InputError(f"the state is {state!r}; there are {', '.join(STATES)}")
        if limit < 1:
            raise InputError(f"the limit is {limit}; it must be 1 or more")
        query = _INCIDENTS.where(records.c.seq > after).limit(limit)
        if before is None:
            query = query.order_by(records.c.seq)
        else:
            query = query.where(records.c.seq < before).order_by(records.c.seq.desc())
        if item is not None:
            query = query.where(records.c.item == item)
        taken = queue.c.claimed_until > stamp(now())
        if state == "decided":
            query = query.where(queue.c.decision.is_not(None))
        elif state == "claimed":
            query = query.where(queue.c.decision.is_(None), taken)
        elif state == "open":
            query = query.where(
                queue.c.decision.is_(None), sa.or_(queue.c.claimed_until.is_(None), sa.not_(taken))
            )
        with self._database.reading() as connection:
            return _logged(connection, connection.execute(query).all())

    def _parts(self, incident: Incident) -> tuple[dict[str, Any], dict[str, Content]]:
        """What the chain holds of it for good, and what may be purged."""
        texts: dict[str, str] = {}
        body = {
            "report": _without_words(finite(incident.report), "report", texts),
            "settings": _without_words(_plain(incident.settings), "settings", texts),
            "key": incident.key,
            "request": incident.request,
            "handed_out": incident.handed_out,
            "prompt_sha256": incident.prompt_sha256,
        }
        held: dict[str, Content] = {}
        if self._keep.prompts == "text":
            held[TEXTS] = Content(json.dumps(texts).encode())
        else:
            body["settings"] |= _hashes(incident.settings)
            if incident.prompt is not None:
                body["prompt_sha256"] = _hash(incident.prompt)
        if self._keep.pictures is not None and incident.thumbnail is not None:
            assert self._keep.key is not None
            sealed = seal(self._keep.key, incident.thumbnail, f"{THUMBNAIL} of {incident.id}")
            held[THUMBNAIL] = Content(sealed, now() + self._keep.pictures)
        return body, held


_INCIDENTS = sa.select(records, queue.c.claimed_by, queue.c.claimed_until).join(
    queue, queue.c.incident == records.c.id
)


def thumbnail_of(picture: Image.Image) -> bytes:
    """A picture as a small PNG, at most 256 pixels wide and high."""
    small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    small.save(written, "PNG")
    return written.getvalue()


def _one(connection: Connection, id: str) -> LoggedIncident:
    row = connection.execute(_INCIDENTS.where(records.c.id == id)).first()
    if row is None:
        raise RecordsError(f"there is no incident {id!r}")
    return _logged(connection, [row])[0]


def _logged(connection: Connection, rows: Sequence[Row[Any]]) -> list[LoggedIncident]:
    """Rows of `_INCIDENTS` with what other tables and records say of them."""
    ids = [row.id for row in rows]
    texts = {
        row.record: json.loads(row.value)
        for row in connection.execute(
            sa.select(contents).where(contents.c.record.in_(ids), contents.c.name == TEXTS)
        )
    }
    pictured = connection.execute(
        sa.select(contents.c.record).where(contents.c.record.in_(ids), contents.c.name == THUMBNAIL)
    )
    with_thumbnail = set(pictured.scalars())
    decisions = {}
    for row in connection.execute(
        sa.select(records)
        .where(records.c.kind == "decision", records.c.subject.in_(ids))
        .order_by(records.c.seq)
    ):
        said = json.loads(row.body)
        decisions[row.subject] = Decided(
            said["decision"], reviewer=said["reviewer"], note=said["note"], when=time_of(row.written)
        )
    present = stamp(now())
    logged = []
    for row in rows:
        body = json.loads(row.body)
        told = texts.get(row.id, {})
        incident = Incident(
            report=_with_words(body["report"], "report", told),
            settings=_with_words(body["settings"], "settings", told),
            key=body["key"],
            request=body["request"],
            handed_out=body["handed_out"],
            prompt_sha256=body["prompt_sha256"],
            id=row.id,
        )
        decided = decisions.get(row.id)
        claimed = decided is None and row.claimed_until is not None and row.claimed_until > present
        logged.append(
            LoggedIncident(
                incident=incident,
                seq=row.seq,
                written=time_of(row.written),
                hash=row.hash,
                state="decided" if decided else "claimed" if claimed else "open",
                claimed_by=row.claimed_by if claimed else None,
                decided=decided,
                has_thumbnail=row.id in with_thumbnail,
            )
        )
    return logged


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(finite(settings), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the settings of an incident must be what JSON can write: {error}") from error
    return plain


def _is_words(name: str, value: Any) -> bool:
    return (name in WORDS or "prompt" in name) and isinstance(value, str | list | tuple)


def _without_words(value: Any, path: str, texts: dict[str, str]) -> Any:
    """A JSON value with None for whatever is said in words, which goes to `texts` by its path."""
    if isinstance(value, Mapping):
        kept: dict[str, Any] = {}
        for name, item in value.items():
            inner = f"{path}.{name}"
            if _is_words(str(name), item):
                texts[inner], kept[name] = json.dumps(item), None
            else:
                kept[name] = _without_words(item, inner, texts)
        return kept
    if isinstance(value, list | tuple):
        return [_without_words(item, f"{path}.{i}", texts) for i, item in enumerate(value)]
    return value


def _with_words(value: Any, path: str, texts: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _with_words(item, f"{path}.{name}", texts) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_words(item, f"{path}.{i}", texts) for i, item in enumerate(value)]
    return json.loads(texts[path]) if path in texts else value


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hashes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The SHA-256 of each text that the caller wrote beside the prompt, as NAME_sha256."""
    hashes: dict[str, Any] = {}
    for name in sorted(ASKED & settings.keys()):
        value = settings[name]
        if isinstance(value, str) and value:
            hashes[f"{name}_sha256"] = _hash(value)
        elif isinstance(value, list | tuple) and value:
            hashes[f"{name}_sha256"] = [_hash(text) for text in value if isinstance(text, str)]
    return hashes


def _check_reviewer(reviewer: str) -> None:
    if not reviewer.strip():
        raise InputError("a review needs a reviewer's name")
