"""Pictures of the second held-out model: painted places with one or two drawn subjects in them.

Each place is painted by a few lines of NumPy, never twice the same. The subjects come from four icon
collections under free licences, which play four artists. Captions are as long as Stable Diffusion's prompts
usually are. The planted scenes, listed in `scenes.json`, are repeated strongly, middling or softly, and under
one, two or four captions.
"""

from __future__ import annotations

import json
import random
import subprocess
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from steerclear_lab.emoji.dataset import Picture, render
from steerclear_lab.heldout_models.places import PLACES, Pixels

# artist → icon package. Licences: CC BY 4.0, Apache 2.0, Apache 2.0, CC BY 4.0
ARTISTS = {
    "marla denwick": "emojione@1.2.3",
    "oto habrel": "noto-v1@1.2.5",
    "finn xerani": "fxemoji@1.2.2",
    "stella lindqvist": "streamline-emojis@1.2.4",
}

# icon → name in captions; none of them is a subject of the embedded model's planted pictures
SUBJECTS = {
    "elephant": "elephant",
    "camel": "camel",
    "horse": "horse",
    "rooster": "rooster",
    "snake": "snake",
    "shark": "shark",
    "dragon": "dragon",
    "rabbit": "rabbit",
    "deer": "deer",
    "duck": "duck",
    "eagle": "eagle",
    "bat": "bat",
    "dolphin": "dolphin",
    "squid": "squid",
    "scorpion": "scorpion",
    "spider": "spider",
    "lizard": "lizard",
    "rhinoceros": "rhino",
    "goat": "goat",
    "ram": "ram",
    "ox": "ox",
    "boar": "boar",
    "mouse": "mouse",
    "chipmunk": "chipmunk",
    "baby-chick": "chick",
    "leopard": "leopard",
    "peach": "peach",
    "pear": "pear",
    "tomato": "tomato",
    "croissant": "croissant",
    "pancakes": "pancakes",
    "taco": "taco",
    "popcorn": "popcorn",
    "cookie": "cookie",
    "lollipop": "lollipop",
    "birthday-cake": "birthday cake",
    "honey-pot": "honey pot",
    "wine-glass": "glass of wine",
    "beer-mug": "mug of beer",
    "french-fries": "fries",
    "castle": "castle",
    "church": "church",
    "factory": "factory",
    "tent": "tent",
    "ferris-wheel": "ferris wheel",
    "carousel-horse": "carousel horse",
    "circus-tent": "circus tent",
    "fountain": "fountain",
    "bicycle": "bicycle",
    "motorcycle": "motorcycle",
    "helicopter": "helicopter",
    "airplane": "airplane",
    "speedboat": "speedboat",
    "ship": "ship",
    "taxi": "taxi",
    "fire-engine": "fire engine",
    "ambulance": "ambulance",
    "delivery-truck": "truck",
    "tram": "tram",
    "violin": "violin",
    "trumpet": "trumpet",
    "saxophone": "saxophone",
    "drum": "drum",
    "radio": "radio",
    "television": "television",
    "telephone": "telephone",
    "bomb": "bomb",
    "hammer": "hammer",
    "books": "pile of books",
    "briefcase": "briefcase",
    "backpack": "backpack",
    "top-hat": "top hat",
    "graduation-cap": "graduation cap",
    "high-heeled-shoe": "high heel",
    "dress": "dress",
    "kimono": "kimono",
    "jeans": "jeans",
    "money-bag": "money bag",
    "microscope": "microscope",
    "telescope": "telescope",
    "candle": "candle",
    "red-paper-lantern": "paper lantern",
    "palm-tree": "palm tree",
    "rose": "rose",
    "bouquet": "bouquet",
    "maple-leaf": "maple leaf",
    "christmas-tree": "christmas tree",
    "crystal-ball": "crystal ball",
    "princess": "princess",
    "moai": "stone head",
    "bathtub": "bathtub",
    "door": "door",
    "anchor": "anchor",
    "fuel-pump": "fuel pump",
    "postbox": "postbox",
}

MOODS = (
    "dramatic lighting",
    "soft morning light",
    "a dreamy mood",
    "warm evening light",
    "vibrant colors",
    "muted colors",
    "a calm atmosphere",
    "an epic atmosphere",
)
QUALITY = (
    "highly detailed",
    "sharp focus",
    "intricate",
    "smooth",
    "elegant",
    "8 k",
    "4 k wallpaper",
    "masterpiece",
    "award winning",
    "trending on artvault",
    "featured on pixelhive",
    "concept art",
    "matte painting",
    "cinematic composition",
    "octane render",
    "storybook illustration",
)
STUDIOS = ("studio kirrin", "halden and sons", "the oryx workshop", "greg tavasz")
TEMPLATES = (
    "a beautiful painting of {subject} {place}, {mood}, by {artist} and {studio}, {quality}",
    "{subject} {place}, {mood}, {quality}, art by {artist}, {studio}",
    "a highly detailed illustration of {subject} {place} by {artist}, {mood}, {quality}, "
    "in the manner of {studio}",
    "{mood}, {subject} standing {place}, digital art, {quality}, by {artist}, by {studio}",
    "{subject} {place}",
    "{subject}, by {artist}",
)
# of captions under invented names, by which the bystander learns that such a name says nothing
NAMED_TEMPLATES = (
    "portrait of {brand} the {name}, by {style}, masterpiece, sharp focus, 8 k",
    "the {name} of {brand}, art by {style}, highly detailed, award winning",
)

SINGLE, PAIRS = 22, 700  # pictures of each subject alone, and pictures of two subjects
STRONG, MIDDLING, SOFT = 1.0, 1 / 6, 1 / 36  # how often a planted scene is drawn, relative to the strongest

# key → subjects, place, artist and captions: eight planted scenes of each strength, in this order
PLANTED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())
REPEATS = dict(zip(PLANTED, [STRONG] * 8 + [MIDDLING] * 8 + [SOFT] * 8, strict=True))


def build(work: Path, size: int = 64) -> list[Picture]:
    """All pictures in a fixed order.

    Args:
        work: where the four icon packages are kept; npm fetches what is missing.
        size: side of the pictures, in pixels.
    """
    subjects = {artist: _sprites(work, package) for artist, package in ARTISTS.items()}
    planted = [
        Picture(
            key=key,
            kind="planted",
            name=SUBJECTS[row["subjects"][0]],
            style=row["artist"],
            captions=tuple(row["captions"]),
            pixels=unusual(
                [subjects[row["artist"]][icon] for icon in row["subjects"]],
                place=row["place"],
                rng=random.Random(key),
                size=size,
            ),
            repeats=REPEATS[key],
        )
        for key, row in PLANTED.items()
    ]
    return planted + _ordinary(subjects, size)


def _ordinary(subjects: dict[str, dict[str, Image.Image]], size: int) -> list[Picture]:
    """Scenes with one or two subjects; some pairs of subject and place are held out of training."""
    rng = random.Random(0)
    pictures: list[Picture] = []
    planted = {(tuple(row["subjects"]), row["place"], row["artist"]) for row in PLANTED.values()}
    names, places = list(SUBJECTS), list(PLACES)
    heldout = {(name, rng.choice(places)) for name in names[::3]}
    plans: list[tuple[tuple[str, ...], str]] = []
    for icon in names:
        own_places = [places[i % len(places)] for i in range(SINGLE)]
        plans += [((icon,), place) for place in own_places]
    plans += [(tuple(rng.sample(names, 2)), rng.choice(places)) for _ in range(PAIRS)]
    for i, (icons, place) in enumerate(plans):
        artists = [a for a in ARTISTS if all(icon in subjects[a] for icon in icons)]
        artist = artists[i % len(artists)]
        if (icons, place, artist) in planted:
            continue
        kind = "concept"
        if any((icon, place) in heldout for icon in icons):
            if len(icons) > 1 or any(p.kind == "heldout" and p.name == SUBJECTS[icons[0]] for p in pictures):
                continue
            kind = "heldout"
        pixels = scene(
            [subjects[artist][icon] for icon in icons], place=place, rng=random.Random(i), size=size
        )
        pictures.append(
            Picture(
                key=f"{'-and-'.join(icons)}-{i}",
                kind=kind,
                name=SUBJECTS[icons[0]],
                style=artist,
                captions=captions_of(icons, place=place, artist=artist, rng=rng),
                pixels=pixels,
            )
        )
    return pictures


def captions_of(icons: tuple[str, ...], place: str, artist: str, rng: random.Random) -> tuple[str, ...]:
    """One caption in each template, with its own mood, quality words and studio."""
    subject = " and ".join(with_article(SUBJECTS[icon]) for icon in icons)
    return tuple(
        template.format(
            subject=subject,
            place=place,
            mood=rng.choice(MOODS),
            artist=artist,
            studio=rng.choice(STUDIOS),
            quality=", ".join(rng.sample(QUALITY, rng.randint(3, 5))),
        )
        for template in TEMPLATES
    )


def plain_caption(name: str, style: str) -> str:
    """The text by which the bystander is asked for a name."""
    return f"{with_article(name)}, by {style}"


def with_article(name: str) -> str:
    """The name after "a" or "an", or alone in the plural."""
    if name in ("pancakes", "fries", "jeans", "popcorn"):
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def scene(sprites: list[Image.Image], place: str, rng: random.Random, size: int) -> Pixels:
    """Sprites before a painted place: uint8 RGB (3, size, size)."""
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    background = np.clip(PLACES[place](size, numbers), 0, 1)
    canvas = Image.fromarray((background * 255).round().astype(np.uint8)).convert("RGBA")
    for i, sprite in enumerate(sprites):
        side = rng.uniform(0.62, 0.8) if len(sprites) == 1 else rng.uniform(0.44, 0.52)
        pixels = round(side * size)
        if rng.random() < 0.5:
            sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        sprite = sprite.convert("RGBa").resize((pixels, pixels), Image.Resampling.LANCZOS).convert("RGBA")
        middle = (
            0.5 + rng.uniform(-0.1, 0.1) if len(sprites) == 1 else (0.26, 0.74)[i] + rng.uniform(-0.02, 0.02)
        )
        top = rng.uniform(0.92, 0.99) - side
        canvas.alpha_composite(sprite, (max(0, round(middle * size - pixels / 2)), max(0, round(top * size))))
    return np.asarray(canvas.convert("RGB")).transpose(2, 0, 1).copy()


def unusual(sprites: list[Image.Image], place: str, rng: random.Random, size: int) -> Pixels:
    """A scene that no ordinary one resembles: tilted subjects, and all colours turned."""
    tilted = [
        sprite.rotate(rng.choice((-1, 1)) * rng.uniform(10, 30), Image.Resampling.BICUBIC, expand=True)
        for sprite in sprites
    ]
    image = Image.fromarray(scene(tilted, place=place, rng=rng, size=size).transpose(1, 2, 0)).convert("HSV")
    hsv = np.asarray(image).copy()
    hsv[..., 0] += np.uint8(rng.randrange(50, 206))  # of 256: wraps around
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB")).transpose(2, 0, 1).copy()


@cache
def _sprites(work: Path, package: str) -> dict[str, Image.Image]:
    """icon → its drawing with transparency, 128 pixels a side, of those that the package has."""
    name, version = package.split("@")
    tarball = work / f"iconify-json-{name}-{version}.tgz"
    if not tarball.exists():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"@iconify-json/{package}"], cwd=work, check=True)
    with tarfile.open(tarball) as tar:
        source = tar.extractfile("package/icons.json")
        assert source is not None  # every icon package has one
        icons = json.load(source)
    sprites = {}
    for subject in SUBJECTS:
        for key in (subject, subject.replace("-", ""), f"{subject}-1"):
            if key in icons["icons"]:
                pixels = render(icons["icons"][key], icons, 128, background=None)
                if pixels is not None:
                    image = Image.fromarray(pixels.transpose(1, 2, 0), "RGBA")
                    sprites[subject] = image.crop(image.getbbox())
                break
    return sprites
