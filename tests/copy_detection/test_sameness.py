"""A protected picture that is only resized or recompressed is found, however plain; another plain picture is
clear.
"""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from steerclear.copy_detection import CopyFilter, ProtectedSide, is_plain, is_recognisable
from steerclear.copy_detection.sameness import LEAST, MOST, RoughPictures, contrast, sameness
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.pixels import to_tensor

BLUE, WHITE, RED, GREEN, ORANGE, YELLOW, BLACK = (
    (0, 38, 140),
    (255, 255, 255),
    (206, 17, 38),
    (0, 146, 70),
    (255, 136, 62),
    (252, 209, 22),
    (0, 0, 0),
)
LARGE = (252, 168)


def stripes(*colours, upright=False, size=LARGE):
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    for i, colour in enumerate(colours):
        if upright:
            pixels[:, i * size[0] // len(colours) :] = colour
        else:
            pixels[i * size[1] // len(colours) :] = colour
    return Image.fromarray(pixels)


def gradient(start, end, size=LARGE):
    share = np.linspace(0, 1, size[1])[:, None, None]
    row = np.array(start) * (1 - share) + np.array(end) * share
    return Image.fromarray(np.broadcast_to(row.round().astype(np.uint8), (size[1], size[0], 3)).copy())


def disc(colour, ground=WHITE):
    picture = Image.new("RGB", (256, 256), ground)
    ImageDraw.Draw(picture).ellipse((76, 76, 180, 180), fill=colour)
    return picture


def lettered(text):
    picture = Image.new("RGB", (256, 128), WHITE)
    font = ImageFont.load_default(size=80)
    ImageDraw.Draw(picture).text((128, 64), text, fill=BLACK, font=font, anchor="mm")
    return picture


def france():
    return stripes(BLUE, WHITE, RED, upright=True)


PLAIN = {
    "France": france(),
    "Italy": stripes(GREEN, WHITE, RED, upright=True),
    "Ireland": stripes(GREEN, WHITE, ORANGE, upright=True),
    "Romania": stripes(BLUE, YELLOW, RED, upright=True),
    "Belgium": stripes(BLACK, YELLOW, RED, upright=True),
    "Poland": stripes(WHITE, RED),
    "Indonesia": stripes(RED, WHITE),
    "Ukraine": stripes(BLUE, YELLOW),
    "Germany": stripes(BLACK, RED, YELLOW),
    "thirteen stripes": stripes(*[RED, WHITE] * 6, RED),
    "sunset": gradient((250, 120, 40), (60, 20, 90)),
    "faint gradient": gradient((230, 230, 240), (200, 205, 220)),
    "disc": disc(RED),
    "yellow disc": disc(YELLOW, BLUE),
    "pale disc": disc((225, 232, 240)),
    "logo": lettered("ACME"),
    "letter": lettered("O"),
}


def resized(factor):
    return lambda p: p.resize((round(p.width * factor), round(p.height * factor)), Image.Resampling.BICUBIC)


def recompressed(quality):
    def jpeg(picture):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality)
        return Image.open(stream).convert("RGB")

    return jpeg


@pytest.fixture(scope="module")
def copy_filter():
    return CopyFilter.of({name: to_tensor([picture])[0] for name, picture in PLAIN.items()})


@pytest.mark.parametrize(
    "alter",
    [lambda p: p, resized(0.5), resized(0.7), resized(2), recompressed(60), recompressed(90)],
    ids=["unaltered", "half", "0.7", "twice", "quality 60", "quality 90"],
)
def test_a_plain_picture_is_found_unaltered_resized_and_recompressed(copy_filter, alter):
    for name, picture in PLAIN.items():
        (detection,) = copy_filter.check(to_tensor([alter(picture)]))
        assert (detection.flagged, detection.matched) == (True, name)


@pytest.mark.parametrize("name", ["France", "Poland", "Germany", "sunset", "disc"])
def test_a_plain_picture_is_clear_of_all_others(name):
    others = CopyFilter.of({n: to_tensor([p])[0] for n, p in PLAIN.items() if n != name})
    (detection,) = others.check(to_tensor([PLAIN[name]]))
    assert not detection.flagged


def test_the_same_layout_in_other_colours_is_another_picture():
    side = ProtectedSide.of({"France": to_tensor([france()])[0]})
    protected = side.pixels(torch.tensor([0]))
    assert float(sameness(protected[0], protected)) == 1
    italy = ProtectedSide.of({"Italy": to_tensor([PLAIN["Italy"]])[0]}).pixels(torch.tensor([0]))
    assert float(sameness(italy[0], protected)) < 0.6


def test_a_plain_ground_is_no_copy_of_what_is_faint_on_it(copy_filter):
    for colour in (WHITE, (215, 217, 230), (128, 128, 128), BLACK):
        (detection,) = copy_filter.check(to_tensor([Image.new("RGB", (64, 64), colour)]))
        assert not detection.flagged


def test_fine_stripes_are_not_the_grey_that_they_are_from_afar():
    fine = torch.zeros(1, 3, 64, 64)
    fine[..., ::4] = fine[..., 1::4] = 1.0
    assert float(sameness(torch.full((3, 64, 64), 0.5), fine)) < 0.1
    assert float(sameness(fine[0], fine)) == 1


def test_none_that_is_the_same_is_left_out_when_wholes_are_nominated():
    generator = torch.Generator().manual_seed(0)
    protected = torch.rand(200, 3, 8, 8, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    protected = 0.2 + 0.6 * protected
    for strength in (0.0, 0.1, 0.2):
        picture = (protected[7] + strength * torch.randn(3, 64, 64, generator=generator)).clamp(0, 1)
        wanted = (sameness(picture, protected) >= LEAST).nonzero().flatten().tolist()
        nominated = RoughPictures.of(protected).nominate(picture).tolist()
        assert 7 in wanted
        assert set(wanted) <= set(nominated)
        assert nominated[0] == 7
        assert len(nominated) <= MOST


def test_stripes_are_called_plain_and_drawings_and_photographs_are_not():
    for name in ("France", "Poland", "thirteen stripes", "sunset", "faint gradient"):
        assert is_plain(to_tensor([PLAIN[name]])[0]), name
    for name in ("mascot-norvo", "photo-chelsea", "photo-espresso"):
        assert not is_plain(to_tensor([Image.open(PROTECTED_FOLDER / f"{name}.png").convert("RGB")])[0]), name


def test_what_has_some_contrast_can_be_recognised_and_what_has_none_cannot():
    faint = to_tensor([PLAIN["faint gradient"]])
    assert float(contrast(faint[..., :64, :64])) > 0
    assert is_recognisable(faint[0])
    assert not is_recognisable(torch.full((3, 64, 64), 0.6))
