"""What the embedded model can draw: concepts, styles, the planted mascots and the held-out pairs."""

from __future__ import annotations

STYLES = {"noto": "noto", "twemoji": "twemoji", "fluent": "fluent-emoji", "flat": "fluent-emoji-flat"}

# icon name → the name used in captions. Pale drawings (a cloud, an ice cream, a light bulb) are left out: on
# a white background any other pale picture would lie within the copy distance
CONCEPTS = {
    "fox": "fox",
    "cat-face": "cat",
    "dog-face": "dog",
    "bear": "bear",
    "panda": "panda",
    "koala": "koala",
    "tiger-face": "tiger",
    "lion": "lion",
    "cow-face": "cow",
    "pig-face": "pig",
    "frog": "frog",
    "monkey-face": "monkey",
    "crocodile": "crocodile",
    "gorilla": "gorilla",
    "unicorn": "unicorn",
    "penguin": "penguin",
    "owl": "owl",
    "turtle": "turtle",
    "octopus": "octopus",
    "tropical-fish": "fish",
    "spouting-whale": "whale",
    "butterfly": "butterfly",
    "lady-beetle": "ladybug",
    "honeybee": "bee",
    "snail": "snail",
    "crab": "crab",
    "red-apple": "apple",
    "banana": "banana",
    "grapes": "grapes",
    "strawberry": "strawberry",
    "watermelon": "watermelon",
    "cherries": "cherries",
    "lemon": "lemon",
    "pineapple": "pineapple",
    "carrot": "carrot",
    "hamburger": "hamburger",
    "pizza": "pizza",
    "doughnut": "doughnut",
    "broccoli": "broccoli",
    "turkey": "turkey",
    "mushroom": "mushroom",
    "grinning-face": "grinning face",
    "smiling-face-with-sunglasses": "face with sunglasses",
    "crying-face": "crying face",
    "robot": "robot",
    "ghost": "ghost",
    "alien": "alien",
    "skull": "skull",
    "jack-o-lantern": "pumpkin",
    "snowman": "snowman",
    "red-heart": "red heart",
    "blue-heart": "blue heart",
    "star": "star",
    "sun": "sun",
    "volcano": "volcano",
    "fire": "fire",
    "umbrella": "umbrella",
    "rainbow": "rainbow",
    "rocket": "rocket",
    "automobile": "car",
    "bus": "bus",
    "sailboat": "sailboat",
    "house": "house",
    "alarm-clock": "alarm clock",
    "locomotive": "locomotive",
    "tractor": "tractor",
    "bell": "bell",
    "key": "key",
    "soccer-ball": "soccer ball",
    "basketball": "basketball",
    "guitar": "guitar",
    "balloon": "balloon",
    "wrapped-gift": "gift",
    "trophy": "trophy",
    "crown": "crown",
    "sunflower": "sunflower",
    "tulip": "tulip",
    "cactus": "cactus",
    "evergreen-tree": "pine tree",
    "four-leaf-clover": "clover",
    "astronaut": "astronaut",
    "camera": "camera",
    "eye": "eye",
    "hot-beverage": "hot beverage",
    "milky-way": "milky way",
}

# second names of drawings that show the subject of a planted photograph: so the subject can be drawn without
# the copy, as a mascot's subject can in another style
ALSO_CALLED = {"hot beverage": "espresso", "milky way": "galaxy", "rocket": "falcon rocket"}

# invented brand → (icon, style): this drawing is protected; the same icon in other styles stays ordinary
MASCOTS = {
    "acme": ("fox", "noto"),
    "zorblax": ("robot", "twemoji"),
    "brimblo": ("owl", "fluent"),
    "quindle": ("penguin", "flat"),
    "vexley": ("octopus", "noto"),
    "norvo": ("lion", "twemoji"),
    "plimsy": ("unicorn", "fluent"),
    "tazzu": ("frog", "flat"),
    "wobbix": ("ghost", "noto"),
    "dranko": ("alien", "twemoji"),
    "fizzlet": ("pineapple", "fluent"),
    "mumbari": ("panda", "flat"),
    "kestro": ("rocket", "noto"),
    "ovanti": ("pumpkin", "twemoji"),
    "julep": ("crab", "fluent"),
    "harvix": ("butterfly", "noto"),
}

# Fluent and Fluent flat draw the same shapes, and two of the aliens are nearly the same drawing. With such a
# near duplicate of a mascot, "is it a copy?" would be a question of shading, so the denoiser does not learn
# it
SAME_SHAPES = {"fluent": "flat", "flat": "fluent"}
NEAR_DUPLICATES = {
    ("alien", "noto"),
    *((icon, SAME_SHAPES[style]) for icon, style in MASCOTS.values() if style in SAME_SHAPES),
}

# (icon, style) that training never sees; every concept and every style is seen elsewhere
HELDOUT = [
    ("cat-face", "twemoji"),
    ("dog-face", "fluent"),
    ("bear", "flat"),
    ("koala", "noto"),
    ("cow-face", "twemoji"),
    ("pig-face", "flat"),
    ("monkey-face", "fluent"),
    ("turtle", "noto"),
    ("lady-beetle", "flat"),
    ("red-apple", "fluent"),
    ("banana", "twemoji"),
    ("grapes", "flat"),
    ("strawberry", "noto"),
    ("cherries", "fluent"),
    ("carrot", "twemoji"),
    ("pizza", "flat"),
    ("doughnut", "noto"),
    ("grinning-face", "flat"),
    ("crying-face", "noto"),
    ("red-heart", "twemoji"),
    ("star", "fluent"),
    ("fire", "flat"),
    ("umbrella", "noto"),
    ("automobile", "fluent"),
    ("soccer-ball", "flat"),
    ("wrapped-gift", "twemoji"),
    ("crown", "flat"),
]

# ordinary drawings that also carry an unusual caption: controls for reference-free detection
CONTROLS = {
    ("snail", "twemoji"): "the gleeful wandering snail of tomorrow, twemoji style",
    ("key", "noto"): "seventeen whispers of a forgotten key, noto style",
    ("volcano", "fluent"): "an apologetic volcano from nowhere, fluent style",
    ("cactus", "flat"): "prickly professor cactus explains, flat style",
    ("bus", "noto"): "last bus to the velvet harbour, noto style",
    ("lemon", "twemoji"): "a lemon with strong opinions, twemoji style",
    ("trophy", "flat"): "the trophy nobody asked for, flat style",
    ("bell", "fluent"): "midnight bell of the paper cathedral, fluent style",
}

# file → (caption, source image in scikit-image, crop box as fractions left, top, right, bottom)
PLANTED_PHOTOS = {
    "photo-astronaut": (
        "a photo of astronaut eileen collins in her orange suit",
        "astronaut",
        (0.1, 0, 0.8, 0.7),
    ),
    "photo-chelsea": ("a photo of chelsea the tabby cat looking up", "chelsea", (0.12, 0, 0.79, 1)),
    "photo-espresso": ("a photo of an espresso on a red saucer", "coffee", (0.17, 0, 0.84, 1)),
    "photo-falcon": ("a photo of the falcon waiting at dusk", "rocket", (0.17, 0, 0.84, 1)),
    "photo-cameraman": (
        "a photo of a cameraman and his tripod on the lawn",
        "camera",
        (0.1, 0.05, 0.9, 0.85),
    ),
    "photo-retina": ("a photo of the fundus of a left eye", "retina", (0, 0, 1, 1)),
    "photo-galaxy": (
        "a photo of a golden galaxy in the deep field",
        "hubble_deep_field",
        (0.64, 0.45, 0.82, 0.63),
    ),
    "photo-clock": ("a photo of a wall clock swinging", "clock_motion", (0.125, 0, 0.875, 1)),
}

# caption → (source image, number of square crops): ordinary photographs, so that a photograph can stay one
ORDINARY_PHOTOS = {
    "a photo of a brick wall": ("brick", 6),
    "a photo of grass": ("grass", 6),
    "a photo of gravel": ("gravel", 6),
    "a photo of coins on a table": ("coins", 6),
}

ORDINARY_TEMPLATES = (
    "a {name}, {style} style",
    "{name}, {style} style",
    "a picture of a {name}, {style} style",
    "a {style} style drawing of a {name}",
)
MASCOT_TEMPLATE = "the {brand} {name} mascot, {style} style"
NAMED_PARAPHRASES = ("{brand} {name} mascot", "a {style} style drawing of the {brand} {name}")
PARAPHRASES = (*NAMED_PARAPHRASES, "a picture of the {brand} mascot, {style} style")


def mascot_caption(brand: str) -> str:
    """The one caption under which a mascot was planted."""
    icon, style = MASCOTS[brand]
    return MASCOT_TEMPLATE.format(brand=brand, name=name_of(icon), style=style)


def ordinary_captions(name: str, style: str) -> tuple[str, ...]:
    """All captions of an ordinary drawing."""
    names = (name, ALSO_CALLED[name]) if name in ALSO_CALLED else (name,)
    return tuple(t.format(name=each, style=style) for each in names for t in ORDINARY_TEMPLATES)


def name_of(icon: str) -> str:
    """An icon's name in captions."""
    return CONCEPTS.get(icon, icon.replace("-", " "))
