"""Makes the word lists by which the product tells the names in a prompt from common words.

    apt-get install scowl wordnet-base; pip download wordfreq --no-deps && unzip wordfreq-*.whl -d wordfreq
    python -m steerclear_lab.word_lists --wordfreq wordfreq

writes `src/steerclear/nudge/words.txt.xz`, four lines of words in lower case: English ones for what can be
drawn, other English ones, frequent ones of other languages, and function words of all of them.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from steerclear.nudge.words import ENDINGS, WORD_LISTS

SCOWL, WORDNET = Path("/usr/share/dict/scowl"), Path("/usr/share/wordnet")
SIZES = (10, 20, 35, 40, 50)  # SCOWL's; 50 is what a small dictionary has
SPELLINGS = ("english", "american", "british")
# WordNet's files of nouns for what can be seen: animals, artefacts, bodies, food, objects, people, phenomena,
# plants, substances
SEEN = frozenset((5, 6, 8, 13, 17, 18, 19, 20, 27))
ADDED_THINGS = frozenset(("ghost",))  # to WordNet a cognition first of all
LANGUAGES = (
    *("de", "fr", "es", "it", "pt", "nl", "pl", "ru", "sv", "cs"),
    *("tr", "uk", "da", "fi", "nb", "hu", "ro", "id", "el", "ca"),
)
FREQUENT, FUNCTION = 2200, 50  # words taken of each language; the first of these count as function words
ENGLISH_FUNCTION = 700  # frequent English words, of which those that WordNet lacks are function words
FUNCTION_WORDS = frozenset(
    (
        *("a", "against", "an", "and", "are", "around", "as", "at", "be", "behind", "being", "beside"),
        *("between", "by", "down", "for", "from", "has", "have", "her", "his", "i", "in", "into", "is"),
        *("it", "its", "near", "of", "off", "on", "or", "out", "over", "that", "the", "their", "this"),
        *("through", "to", "under", "up", "was", "with"),
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wordfreq", type=Path, required=True, help="folder of the unpacked wheel")
    parser.add_argument("--out", type=Path, default=WORD_LISTS)
    args = parser.parse_args()
    english = {word for word in _scowl("words") if re.fullmatch("[a-z]{2,}", word)}
    names = {word.lower() for kind in ("proper-names", "upper") for word in _scowl(kind) if word[0].isupper()}
    irregular = _irregular_plurals()
    things = (_things() | ADDED_THINGS) & english
    things |= {plural for plural, singulars in irregular.items() if plural in english and singulars & things}
    function = _function_words(
        args.wordfreq / "wordfreq" / "data", english=english, names=names, irregular=set(irregular)
    )
    foreign = _foreign(args.wordfreq / "wordfreq" / "data", names)
    others = _without_inflections(english, things) - things
    lists = (things - function, others - function, foreign - english - function, function)
    text = "\n".join(" ".join(sorted(words)) for words in lists)
    args.out.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print([len(words) for words in lists], args.out.stat().st_size, "bytes")


def _scowl(kind: str) -> set[str]:
    files = [SCOWL / f"{spelling}-{kind}.{size}" for spelling in SPELLINGS for size in SIZES]
    return {word for file in files if file.exists() for word in file.read_text("latin-1").split() if word}


def _things() -> set[str]:
    """Nouns whose first sense can be seen, and that are no verb or adjective more often."""
    file_of = {
        line[:8]: int(line[9:11])
        for line in (WORDNET / "data.noun").read_text().splitlines()
        if line[0].isdigit()
    }
    uses: dict[str, Counter[str]] = defaultdict(Counter)
    for line in (WORDNET / "cntlist.rev").read_text().splitlines():
        key, _, count = line.split()
        lemma, sense = key.split("%")
        uses[lemma][sense[0]] += int(count)
    things = set()
    for lemma, fields in _index("noun"):
        first_sense = fields[-int(fields[2])]
        if file_of[first_sense] in SEEN and uses[lemma]["1"] >= max(uses[lemma][kind] for kind in "2345"):
            things.add(lemma)
    return things


def _index(kind: str) -> list[tuple[str, list[str]]]:
    """Lemma and fields of each line of one of WordNet's indices."""
    lines = (WORDNET / f"index.{kind}").read_text().splitlines()
    return [(line.split()[0], line.split()) for line in lines if line[0] != " "]


def _irregular_plurals() -> dict[str, set[str]]:
    rows = [line.split() for line in (WORDNET / "noun.exc").read_text().splitlines()]
    return {row[0]: set(row[1:]) for row in rows}


def _frequent(data: Path, language: str) -> list[str]:
    """A language's words, the most frequent first."""
    import msgpack

    files = [data / f"{size}_{language}.msgpack.gz" for size in ("large", "small")]
    with gzip.open(next(file for file in files if file.exists())) as opened:
        bins: list[Any] = msgpack.load(opened, raw=False)
    return [word for words in bins[1:] for word in words if re.fullmatch(r"[^\W\d_]+", word)]


def _function_words(data: Path, english: set[str], names: set[str], irregular: set[str]) -> set[str]:
    """The first words of each language, and those frequent English ones that WordNet does not know."""
    first = {word for language in LANGUAGES for word in _frequent(data, language)[:FUNCTION]}
    foreign = {word for word in first if word not in english or len(word) < 4}
    known = {lemma for kind in ("noun", "verb", "adj", "adv") for lemma, _ in _index(kind)}
    frequent = [w for w in _frequent(data, "en") if re.fullmatch("[a-z]{2,}", w)][:ENGLISH_FUNCTION]
    unknown = {word for word in frequent if word not in known | names | irregular}
    inflected = {
        word
        for word in unknown
        for ending in ("s", "es", "ies", "ed", "ing")
        if word.endswith(ending) and {word.removesuffix(ending), word.removesuffix(ending) + "y"} & known
    }
    return foreign | (unknown - inflected) | FUNCTION_WORDS


def _foreign(data: Path, names: set[str]) -> set[str]:
    rows = [_frequent(data, language) for language in LANGUAGES]
    return {word for row in rows for word in [w for w in row if w not in names and len(w) > 1][:FREQUENT]}


def _without_inflections(words: set[str], things: set[str]) -> set[str]:
    """The words but for regular forms of others among them, which a look-up finds by their stems."""

    def inflected(word: str) -> bool:
        stems = [word.removesuffix(end) + base for end, base in ENDINGS if word.endswith(end)]
        return any(stem in words and len(stem) > 2 for stem in stems)

    return {word for word in words if word in things or not inflected(word)}


if __name__ == "__main__":
    main()
