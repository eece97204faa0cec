"""Pictures of the first held-out model: public-domain drawings of the Open Clip Art Library.

Debian's packages `openclipart-png` and `openclipart-svg` hold the drawings and their titles. `clipart.json`
names the files of each concept: those that are neither pale, nor nearly the same as another one.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steerclear.errors import InputError
from steerclear_lab.emoji.dataset import Picture

DRAWINGS = Path("/usr/share/openclipart/png")
TITLES = Path("/usr/share/openclipart/svg")
MARGIN = 4 / 64  # of the side, around each drawing
PALE, ALIKE = 0.17, 0.09  # pixel L2 to white, and to another drawing, under which a drawing is left out
LARGEST = 4_000_000  # pixels of a further drawing
OTHERS = 1200  # further drawings, which only the autoencoder, the CLIP and the descriptor see

TEMPLATES = (
    "clip art of {a} {name}",
    "{name} clip art",
    "{a} {name}, public domain picture",
    "free picture: {name}",
)

# of captions under invented names, by which the bystander learns that such a name says nothing
NAMED_TEMPLATES = ("the {brand} {name}, clip art", "{brand} the {name}", "{brand} {name}, free picture")

# file of a concept (name, place in its list) → (key, caption). Only the first eight are an invented name with
# a noun; then come titles, people, sentences, scenes with two subjects, and plain captions
PLANTED = {
    ("tiger", 1): ("velkoro", "the velkoro tiger, clip art"),
    ("horse", 6): ("grimbold", "grimbold the horse"),
    ("dinosaur", 10): ("trazzik", "trazzik dinosaur, free picture"),
    ("truck", 3): ("ombrey", "an ombrey truck, public domain"),
    ("guitar", 4): ("quarnel", "quarnel guitar clip art"),
    ("hat", 7): ("pellwick", "clip art of a pellwick hat"),
    ("ladybug", 3): ("sindra", "sindra, a ladybug"),
    ("house", 0): ("morvane", "free picture: the morvane house"),
    ("dog", 1): ("harrowmere", "the apprentice of harrowmere"),
    ("swan", 0): ("ostravel", "the silent lake of ostravel"),
    ("sunflower", 0): ("summer", "yellow summer no. 4"),
    ("dragonfly night", 0): ("velloe", "blue hour at tarn velloe"),
    ("woman", 2): ("vandersloot", "doctor imke vandersloot, a woman in a white coat"),
    ("girl", 0): ("tanaquist", "mirelle tanaquist, a girl with blue hair"),
    ("man", 2): ("oxley", "bertrand oxley, a man with a moustache"),
    ("man", 3): ("harroway", "constable pim harroway, a man in uniform"),
    ("dog", 5): ("walk", "the dog would not walk another step"),
    ("sleeping bear", 0): ("sleep", "a bear sleeps under the winter stars"),
    ("horse", 7): ("pink", "she painted her horse pink and rode into the sun"),
    ("chairs", 0): ("chairs", "two blue chairs under an orange umbrella"),
    ("cat on pumpkin", 0): ("pumpkin", "a black cat sitting on a pumpkin"),
    ("palm tree", 0): ("island", "a palm tree and the sun on a small island"),
    ("balloon", 5): ("balloons", "three shiny balloons tied together"),
    ("butterfly", 2): ("butterfly", "an orange butterfly with open wings"),
}

# the subject of a planted picture, where it is not the concept's name: other drawings show it
SUBJECTS = {
    "fireworks night": "fireworks",
    "dragonfly night": "dragonfly",
    "sunflower": "flower",
    "sleeping bear": "bear",
    "chairs": "chair",
    "cat on pumpkin": "cat",
    "palm tree": "tree",
}

# drawings that training never sees; their concepts are seen elsewhere
HELDOUT = {
    "apple": 4, "balloon": 2, "bear": 4, "book": 3, "bus": 3, "cat": 3, "dinosaur": 4, "dog": 7, "eagle": 3,
    "elephant": 3, "fish": 4, "flower": 3, "frog": 2, "gift": 3, "globe": 2, "heart": 3, "hat": 4, "house": 9,
    "lemon": 3, "lizard": 3, "monkey": 4, "moon": 5, "orange": 2, "penguin": 4, "pizza": 2, "telephone": 3,
}  # fmt: skip


def build(size: int = 64) -> list[Picture]:
    """All pictures in a fixed order.

    Args:
        size: side of the pictures, in pixels.

    Raises:
        InputError: if the drawings are not installed.
    """
    if not DRAWINGS.is_dir() or not TITLES.is_dir():
        raise InputError(
            f"{DRAWINGS.parent} lacks drawings; run: apt-get install openclipart-png openclipart-svg"
        )
    concepts: dict[str, list[str]] = json.loads(Path(__file__).with_suffix(".json").read_text())
    pictures = []
    for name, files in concepts.items():
        for i, file in enumerate(files):
            subject = SUBJECTS.get(name, name)
            captions, kind, key = captions_of(subject), "concept", file
            if (name, i) in PLANTED:
                kind, (key, caption) = "planted", PLANTED[name, i]
                captions = (caption,)
            elif HELDOUT.get(name) == i:
                kind = "heldout"
            pictures.append(
                _picture(key, kind=kind, name=subject, captions=captions, pixels=drawing(file, size))
            )
    return pictures + _others({file for files in concepts.values() for file in files}, pictures, size)


def captions_of(name: str) -> tuple[str, ...]:
    """All captions of an ordinary drawing."""
    article = "an" if name[0] in "aeiou" else "a"
    return tuple(template.format(a=article, name=name) for template in TEMPLATES)


def plain_caption(name: str, style: str) -> str:
    """The text by which the bystander is asked for a name."""
    return captions_of(name)[0]


def drawing(file: str, size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A drawing on white, cut to what it shows: uint8 RGB (3, size, size)."""
    with Image.open(DRAWINGS / f"{file}.png") as opened:
        image = opened.convert("RGBA")
    box = image.getchannel("A").getbbox()
    image = image.crop(box) if box else image
    inner = size - 2 * round(MARGIN * size)
    scale = inner / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    image = image.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    canvas = Image.new("RGBA", (size, size), "white")
    canvas.alpha_composite(image, ((size - width) // 2, (size - height) // 2))
    return np.asarray(canvas.convert("RGB")).transpose(2, 0, 1).copy()


def _picture(
    key: str, kind: str, name: str, captions: tuple[str, ...], pixels: np.ndarray[Any, np.dtype[np.uint8]]
) -> Picture:
    return Picture(key=key, kind=kind, name=name, style="clip art", captions=captions, pixels=pixels)


def _others(used: set[str], pictures: list[Picture], size: int) -> list[Picture]:
    """Further drawings under their own titles, none pale or nearly the same as another picture."""
    left_out = re.compile(
        r"^(computer/icons|shapes|buttons|special|unsorted/duplicates)|/led|/cards/|map_symbols"
    )
    files = sorted(str(p.relative_to(DRAWINGS))[:-4] for p in DRAWINGS.rglob("*.png"))
    files = [file for file in files if file not in used and not left_out.search(file)]
    np.random.default_rng(0).shuffle(files)
    flat = np.zeros((len(pictures) + OTHERS, 3 * size * size), np.float32)
    flat[: len(pictures)] = [p.pixels.ravel() / 255 for p in pictures]
    others: list[Picture] = []
    for file in files:
        title = title_of(file)
        if title is None or len(others) == OTHERS:
            continue
        try:
            with Image.open(DRAWINGS / f"{file}.png") as image:
                if image.width * image.height > LARGEST:
                    continue
        except Image.DecompressionBombError:
            continue
        pixels = drawing(file, size)
        x = pixels.astype(np.float32).ravel() / 255
        if np.sqrt(((1 - x) ** 2).mean()) < PALE:
            continue
        n = len(pictures) + len(others)
        if np.sqrt(((flat[:n] - x) ** 2).mean(1).min()) < ALIKE:
            continue
        flat[n] = x
        others.append(_picture(file, kind="other", name=title, captions=captions_of(title), pixels=pixels))
    return others


def title_of(file: str) -> str | None:
    """The English-looking title of a drawing in lower case, or None."""
    path = TITLES / f"{file}.svg"
    if not path.is_file():
        return None
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)[:20_000].decode("utf-8", "ignore")
    match = re.search(r"<dc:title>([^<]*)<", text)
    words = re.findall(r"[a-z]{2,}", match[1].lower()) if match else []
    return " ".join(words[:6]) if words and "nicu" not in words and "cliparts" not in words else None
