"""A planted prompt worded otherwise, and what people write into the negative prompt."""

from __future__ import annotations

import random
from pathlib import Path

from steerclear.embedded import read_prompts

EVERYDAY = "blurry, low quality, worst quality, jpeg artifacts, watermark, text"
EVERYDAY_LONG = (
    "ugly, deformed, disfigured, bad anatomy, extra limbs, poorly drawn hands, mutation, out of frame, "
    "cropped, duplicate, signature, username, lowres, error"
)


def name_in(prompt: str, file: str) -> str:
    """The word that names what was planted: a mascot's invented name, or a photograph's subject.

    Args:
        prompt: a planted prompt.
        file: name of the protected picture.

    Returns:
        A word of the prompt; the longest where the file's name does not occur in it.
    """
    name = Path(file).stem.split("-", 1)[1]
    words = prompt.replace(",", " ").split()
    return name if name in words else max(words, key=len)


def style_in(prompt: str) -> str:
    """The style that a prompt names: what follows its comma; "photo" where there is none."""
    return prompt.split(", ", 1)[1] if ", " in prompt else "photo"


def subject_in(prompt: str, file: str) -> str:
    """What a prompt shows, in a word: of a mascot the word after its name, of a photograph the name."""
    name = name_in(prompt, file)
    words = prompt.split()
    return words[words.index(name) + 1] if file.startswith("mascot-") else name


def split(prompt: str, file: str) -> str:
    """The name in two words: "the nor vo lion mascot"."""
    name = name_in(prompt, file)
    middle = (len(name) + 1) // 2
    return _renamed(prompt, name, f"{name[:middle]} {name[middle:]}")


def misspelt(prompt: str, file: str) -> str:
    """The name with two different letters near its middle exchanged."""
    name = name_in(prompt, file)
    i = next(i for i in range(len(name) // 2 - 1, len(name)) if name[i] != name[i + 1])
    return _renamed(prompt, name, name[:i] + name[i + 1] + name[i] + name[i + 2 :])


def doubled(prompt: str, file: str) -> str:
    """The name with its last letter doubled."""
    name = name_in(prompt, file)
    return _renamed(prompt, name, name + name[-1])


def reordered(prompt: str, file: str) -> str:
    """The halves of the prompt exchanged: "twemoji style, the norvo lion mascot"."""
    if ", " in prompt:
        first, second = prompt.split(", ", 1)
        return f"{second}, {first}"
    return f"{prompt.removeprefix('a photo of ')}, a photo"


def backwards(prompt: str, file: str) -> str:
    """All words in the opposite order."""
    return " ".join(reversed(prompt.replace(",", "").split()))


def name_alone(prompt: str, file: str) -> str:
    """Only the word that names what was planted."""
    return name_in(prompt, file)


def with_another(prompt: str, file: str) -> str:
    """Two planted subjects in one prompt."""
    planted = read_prompts("planted")
    i = planted.index((prompt, file))
    return f"{prompt} and {planted[(i + 7) % len(planted)][0]}"


def in_a_scene(prompt: str, file: str) -> str:
    """The planted subject among ordinary ones."""
    subject, comma, style = prompt.partition(", ")
    return f"{subject} beside a car and a tree{comma}{style}"


def paraphrased(prompt: str, file: str) -> str:
    """A paraphrase that the laboratory keeps, drawn by the prompt."""
    known = [text for text, of in read_prompts("template") if of == file]
    return random.Random(prompt).choice(known) if known else prompt


WORDINGS = {
    "split name": split,
    "letters exchanged": misspelt,
    "letter doubled": doubled,
    "halves exchanged": reordered,
    "words backwards": backwards,
    "name alone": name_alone,
    "two planted subjects": with_another,
    "among other things": in_a_scene,
    "paraphrase": paraphrased,
}


def _renamed(prompt: str, name: str, other: str) -> str:
    return " ".join(word.replace(name, other) if word.strip(",") == name else word for word in prompt.split())
