"""Every alteration makes another picture, and what is altered is what its name says."""

from __future__ import annotations

from PIL import Image

from steerclear.copy_detection.alterations import alterations, black_ground, ground


def test_every_alteration_leaves_a_picture_that_is_another():
    picture = Image.new("RGB", (64, 48), "white")
    picture.paste((200, 40, 40), (12, 8, 40, 36))
    picture.paste((40, 40, 160), (30, 20, 50, 30))
    others = [Image.new("RGB", (64, 64), colour) for colour in ("green", "grey", "orange")]
    for kind, strengths in alterations(others).items():
        for strength, alter in strengths.items():
            altered = alter(picture)
            assert altered.mode == "RGB", (kind, strength)
            assert altered.tobytes() != picture.tobytes(), (kind, strength)


def test_only_the_ground_turns_black():
    picture = Image.new("RGB", (32, 32), "white")
    picture.paste((200, 40, 40), (8, 8, 24, 24))
    picture.paste((255, 255, 255), (12, 12, 16, 16))
    assert ground(picture) == (255, 255, 255)
    black = black_ground(picture)
    assert black.getpixel((0, 0)) == (0, 0, 0)
    assert black.getpixel((13, 13)) == (255, 255, 255)
    assert black.getpixel((20, 20)) == (200, 40, 40)
