"""The subject of a prompt: texts that ask for the same thing without the names in the prompt."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from steerclear.nudge.words import Kind, Word, segments

MOST_TEXTS = 10  # each costs one evaluation
MOST_NAMES = 6  # unknown words that are tried as names, where the lists know few words of a prompt
AN = re.compile(r"(?!uni|us[aeu]|eu|one\b)[aeiou]", re.IGNORECASE)  # words before which "a" becomes "an"
ARTICLES = ("the", "a", "an")
PREPOSITIONS = frozenset(("and", "as", "at", "by", "for", "from", "in", "of", "on", "or", "with"))

Keeps = Callable[[Word], bool]


def subject_texts(prompt: str, generic: Collection[str] = (), usual: Collection[str] = ()) -> list[str]:
    """Texts that ask for a prompt's own subject, from the prompt without its names to the bare subject.

    Of "the acme fox mascot, noto style" with the generic words "mascot" and "style" these are: "the acme fox
    mascot, noto style", "the fox, noto style", "a fox" and others in between.

    Args:
        prompt: what was asked for.
        generic: words in lower case that say nothing of a single picture on this model.
        usual: those of them that are usual in prompts, so that they are no names: the name of a style.

    Returns:
        At most MOST_TEXTS different texts, each with a word of the subject, none the prompt itself. The last
        is the bare subject, unless the prompt is no more than that.
    """
    parts = _read(prompt, usual)
    unsure = _mostly_unknown(parts)
    main = _main_part(parts, generic, unsure)
    if main is None:
        return []
    texts = list(
        dict.fromkeys(text for text in _texts(parts, main=main, generic=generic, unsure=unsure) if text)
    )
    texts = list(dict.fromkeys([*texts[: MOST_TEXTS - 1], *texts[-1:]]))
    same = " ".join(word.lower for part in parts for word in part)
    return [text for text in texts if text.lower().replace(",", "") != same]


def names_subject(prompt: str, generic: Collection[str] = (), usual: Collection[str] = ()) -> bool:
    """Whether a prompt names something to draw; "the acme mascot" does not.

    Args:
        prompt: what was asked for.
        generic: see `subject_texts`.
        usual: see `subject_texts`.
    """
    parts = _read(prompt, usual)
    words = [word for part in parts for word in part]
    if any(_is_thing(word) and _tells(word, generic, False) for word in words):
        return True
    return _mostly_unknown(parts) and any(
        word.kind is Kind.OTHER and _tells(word, generic, True) for word in words
    )


def _read(prompt: str, usual: Collection[str]) -> list[list[Word]]:
    return [
        [Word(w.text, Kind.STYLE) if w.lower in usual and w.kind is Kind.NAME else w for w in part]
        for part in segments(prompt)
    ]


def _texts(parts: Sequence[list[Word]], main: int, generic: Collection[str], unsure: bool) -> Iterator[str]:
    def known(word: Word) -> bool:
        return unsure or word.kind is not Kind.NAME

    def tells(word: Word) -> bool:
        return _tells(word, generic, unsure)

    if unsure:  # which of the words are names, the first predictions must say
        names = [w for part in parts for w in part if w.kind is Kind.NAME and tells(w)]
        for name in names[:MOST_NAMES] if len(names) > 1 else []:
            yield _joined(_kept(part, lambda word, name=name: word is not name) for part in parts)  # type: ignore[misc]
    yield _joined(_kept(part, known) for part in parts)
    phrase = _phrase(parts[main], tells)
    things = [word for word in phrase if word.kind is Kind.THING] or (phrase if unsure else phrase[-1:])
    article = not unsure
    # how the picture is made is said in parts of their own, mostly
    style = [
        _kept(part, known) for i, part in enumerate(parts) if i != main and not any(map(_is_thing, part))
    ]
    yield _joined(
        _kept(part, (lambda w: known(w) and w.lower not in generic) if i == main else known)
        for i, part in enumerate(parts)
    )
    yield _joined([_kept(parts[main], tells), *style])
    yield _joined([_noun_phrase(things, article), *style])
    yield _joined(_kept(part, tells) for part in parts if any(map(_is_thing, part)))
    yield _kept(parts[main], tells)
    yield _noun_phrase(phrase, article)
    yield _noun_phrase(things, article)
    if len(things) > 2:
        for left_out in range(len(things)):
            yield _noun_phrase([*things[:left_out], *things[left_out + 1 :]], article)
    if not unsure:
        for noun in things[:-1]:
            yield _noun_phrase([noun], article)
        # the last noun of a row is what the others describe: a wall clock is a clock
        yield _noun_phrase(things[-1:], article)
    else:
        yield _noun_phrase(phrase, article)


def _mostly_unknown(parts: Sequence[list[Word]]) -> bool:
    """Whether the lists know too few words of a prompt to say which of the others are names."""
    words = [word for part in parts for word in part]
    content = [word for word in words if word.kind not in (Kind.FUNCTION, Kind.STYLE)]
    return sum(word.kind is Kind.THING for word in content) == 0 and any(
        word.kind is Kind.NAME for word in content
    )


def _tells(word: Word, generic: Collection[str], unsure: bool) -> bool:
    if word.lower in generic or word.kind is Kind.STYLE:
        return False
    return word.kind in (Kind.THING, Kind.OTHER, Kind.FUNCTION) or (unsure and word.kind is Kind.NAME)


def _main_part(parts: Sequence[list[Word]], generic: Collection[str], unsure: bool) -> int | None:
    """Index of the first part with a thing, else of the first with any telling word."""
    for wanted in ((Kind.THING,), (Kind.OTHER, Kind.NAME)):
        for i, part in enumerate(parts):
            if any(word.kind in wanted and _tells(word, generic, unsure) for word in part):
                return i
    return None


def _is_thing(word: Word) -> bool:
    return word.kind is Kind.THING


def _phrase(part: Sequence[Word], tells: Keeps) -> list[Word]:
    """The first noun phrase of a part that holds a thing: words that no function word interrupts."""
    phrases: list[list[Word]] = [[]]
    for word in part:
        if word.kind is Kind.FUNCTION:
            phrases.append([])
        elif tells(word):
            phrases[-1].append(word)
    filled = [phrase for phrase in phrases if phrase]
    with_thing = [phrase for phrase in filled if any(word.kind is Kind.THING for word in phrase)]
    return (with_thing or filled)[0]


def _noun_phrase(words: Sequence[Word], article: bool) -> str:
    if not words:
        return ""
    text = " ".join(word.text for word in words)
    if not article or re.search("[^aisu]s$", words[-1].lower):  # a plural: "foxes", but not "octopus"
        return text
    return f"{_article(text)} {text}"


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)


def _kept(part: Sequence[Word], keeps: Keeps) -> str:
    """The words of a part that are kept, without the articles and prepositions of what is dropped."""
    kept: list[str] = []
    waiting: list[str] = []
    dropped, content = False, False  # since the last function word; at all
    for word in part:
        if word.kind is Kind.FUNCTION:
            if dropped and word.lower not in ARTICLES:  # "of chelsea the cat" becomes "of the cat"
                waiting = []
            dropped = False
            waiting.append(word.text)
        elif keeps(word):
            if dropped and waiting and waiting[-1].lower() in ARTICLES:
                waiting[-1] = _article(word.text)  # "the" belonged to the name: the acme fox, but a fox
            kept += [*waiting, word.text]
            waiting, dropped, content = [], False, True
        else:
            dropped = True
    if waiting and not dropped:
        kept += waiting  # as in "looking up"
    while kept and kept[0].lower() in PREPOSITIONS:
        kept = kept[1:]
    return " ".join(kept) if content else ""


def _article(text: str) -> str:
    return "an" if AN.match(text) else "a"
