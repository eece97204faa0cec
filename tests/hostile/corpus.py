"""Hostile and odd inputs, made here and not downloaded, each with its right outcome."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  the same for JPEG XL
from PIL import Image, ImageDraw
from png_bytes import PALETTE, RGB, SIGNATURE, chunk, header, png

from steerclear.embedded import LIBRARY_FOLDER

READ, FAILED, SKIPPED = "read", "failed", "skipped"


@dataclass(frozen=True)
class Case:
    """A file in a folder.

    Attributes:
        name: of the file.
        content: its bytes, or what makes it at a path.
        outcome: READ, FAILED or SKIPPED.
        says: part of the reason, or the kind that is counted.
    """

    name: str | bytes
    content: bytes | Callable[[str | bytes], object]
    outcome: str
    says: str = ""

    def write(self, folder: Path) -> str:
        """Makes the file and returns its path."""
        path = os.path.join(
            os.fsencode(folder), self.name if isinstance(self.name, bytes) else self.name.encode()
        )
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if callable(self.content):
            self.content(path)
        else:
            with open(path, "wb") as stream:
                stream.write(self.content)
        return os.fsdecode(path)


def drawing(mode: str = "RGB", side: int = 64) -> Image.Image:
    """The picture that every readable file shows."""
    picture = Image.new("RGB", (side, side), (250, 240, 220))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((8, 8, 40, 40), fill=(200, 30, 40))
    draw.rectangle((30, 28, 58, 56), fill=(20, 60, 160))
    draw.line((0, 63, 63, 0), fill=(10, 10, 10), width=4)
    return picture.convert(mode)


_number = iter(range(10**6))


def saved(kind: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    """The drawing as a file, with a different comment each time, so that no two are the same bytes."""
    stream = io.BytesIO()
    picture = drawing() if picture is None else picture
    number = next(_number)
    if kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "MPO", "HEIF"):
        exif = options.pop("exif", None) or Image.Exif()
        exif[0x010E] = f"number {number}"
        options["exif"] = exif
    elif kind in ("GIF",):
        options["comment"] = str(number).encode()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("JPEG", drawing().rotate(90, expand=True), exif=exif, quality=95)


def tiff(*fields: tuple[int, int, int, int], size: int = 8, order: str = "<", follow: int = 0) -> bytes:
    """A TIFF of one directory with fields (tag, type, count, value)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(order + "H", len(fields))
    body += b"".join(struct.pack(order + "HHII", *field) for field in sorted(fields))
    return mark + struct.pack(order + "I", 8) + body + struct.pack(order + "I", follow) + b"\0" * size


def grey_tiff(width: int, height: int, **options: int) -> bytes:
    basic = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 1,
        273: 120,
        277: 1,
        278: height,
        279: width * height,
    }
    return tiff(*((tag, 4, 1, value) for tag, value in basic.items()), **options)


def bmp(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def gif(width: int, height: int, frames: int = 1) -> bytes:
    image = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00"
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + b"\0\0\0\xff\xff\xff"
        + image * frames
        + b";"
    )


def webp_canvas(side: int) -> bytes:
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + 2 * (side - 1).to_bytes(3, "little")
    chunks += b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def jpeg_of(width: int, height: int) -> bytes:
    whole = saved("JPEG")
    place = whole.index(b"\xff\xc0") + 5
    return whole[:place] + struct.pack(">HH", height, width) + whole[place + 4 :]


def jxl_bits(*values: tuple[int, int]) -> bytes:
    """A JPEG XL header of (value, bits)."""
    number, place = 0, 0
    for value, bits in values:
        number |= value << place
        place += bits
    return b"\xff\x0a" + number.to_bytes(place // 8 + 1, "little") + b"\0" * 40


def jxl(side: int, animated: bool = False) -> bytes:
    size = [(0, 1), (3, 2), (side - 1, 30), (1, 3)]  # not in eighths, 30 bits, a square
    more = [(0, 1), (1, 1), (0, 3), (0, 1), (0, 1), (1, 1)] if animated else [(1, 1)]
    return jxl_bits(*size, *more)


def media(brand: bytes, *compatible: bytes) -> bytes:
    body = brand + b"\0\0\0\0" + b"".join(compatible)
    return struct.pack(">I", len(body) + 8) + b"ftyp" + body + b"\0\0\0\x08mdat" + b"\0" * 64


def cyclic_tiff() -> bytes:
    raw = bytearray(grey_tiff(64, 64, size=64 * 64))
    raw[8 + 2 + 12 * 9 : 8 + 2 + 12 * 9 + 4] = struct.pack("<I", 8)  # the next directory is this one
    raw[120:] = drawing("L").tobytes()
    return bytes(raw)


def archive(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w") as out:
            out.writestr("picture.png", saved("PNG"))
    else:
        with tarfile.open(fileobj=stream, mode=f"w:{kind}") as tar:
            add_member(tar, "picture.png", saved("PNG"))
    return stream.getvalue()


def add_member(tar: tarfile.TarFile, name: str, body: bytes, **changes: Any) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(body)
    for key, value in changes.items():
        setattr(entry, key, value)
    tar.addfile(entry, io.BytesIO(body))


def palette_png(**chunks: bytes) -> bytes:
    quantised = drawing().quantize(64)
    colours = bytes(quantised.getpalette()[: 64 * 3])
    return png(
        np.asarray(quantised),
        8,
        PALETTE,
        chunk(b"PLTE", colours),
        *(chunk(b"tEXt", b) for b in chunks.values()),
    )


def sixteen_bit() -> bytes:
    return png(np.asarray(drawing()).astype(int) * 257, 16, RGB)


PIXELS = np.asarray(drawing())
FORMATS = {
    "PNG": {},
    "JPEG": {"quality": 95},
    "WEBP": {"lossless": True},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "PPM": {},
    "AVIF": {"quality": 90},
    "MPO": {"quality": 95},
    "HEIF": {"quality": 95},
    "JXL": {"lossless": True},
}
pillow_heif.register_heif_opener()  # so that Pillow can write it; to read it nothing needs to be registered


def readable() -> list[Case]:
    cases = []
    for kind, options in FORMATS.items():
        suffix = kind.lower()
        for name in (
            f"{suffix}.{suffix}",
            suffix,
            f"{suffix}.dat",
            f"{suffix}.txt",
            f"{suffix}.PNG",
            f"{suffix}.pdf",
        ):
            picture = drawing()
            picture.putpixel((63, 63), (len(cases), 0, 0))  # formats without comments differ as well
            cases.append(Case(f"formats/{name}", saved(kind, picture, **options), READ))
    names = [
        "a.jpe",
        "a.jfif",
        "a.jif",
        "a.JPG",
        "art#1.png",
        "100%.png",
        "a;b.png",
        "a'b.png",
        'a"b.png',
        "-rf.png",
        "a\tb.png",
        "a\nb.png",
        "a&b.png",
        "$HOME.png",
        "a\\b.png",
        "a*b.png",
        "a[1].png",
        "a?b.png",
        "",
    ][:-1]
    names += [
        "with spaces .png",
        "x" * 240 + ".png",
        "\u202egnp.exe",
        "\x1b[31mred.png",
        "狐.png",
        "🦊.png",
        "e\u0301.png",
    ]
    names += [
        "shard.tar#1.png",
        "data.arrow#3",
        "~.png",
        "a..png",
        "a.",
        "NUL.png",
        "=1+1.png",
        "{a}.png",
        "`id`.png",
    ]
    cases += [Case(f"names/{name}", saved("PNG"), READ) for name in names]
    good = saved("PNG")
    inside = {
        "progressive.jpg": saved("JPEG", progressive=True, quality=95),
        "cmyk.jpg": saved("JPEG", drawing("CMYK"), quality=95),
        "turned.jpg": rotated(),
        "trailing.jpg": saved("JPEG", quality=95) + b"<?php system('id'); ?>",
        "trailing.png": saved("PNG") + os.urandom(1000),
        "two.jpg": saved("JPEG", quality=95) + saved("JPEG", Image.new("RGB", (9, 9))),
        "palette.png": palette_png(),
        "sixteen.png": sixteen_bit(),
        "rgba.png": saved("PNG", drawing("RGBA")),
        "lzw.tif": saved("TIFF", compression="tiff_lzw"),
        "deflate.tif": saved("TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": saved("TIFF", compression="packbits"),
        "jpeg.tif": saved("TIFF", compression="jpeg", quality=95),
        "big.tif": saved("TIFF", big_tiff=True),
        "animated.png": saved("PNG", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
        "animated.webp": saved(
            "WEBP", save_all=True, append_images=[Image.new("RGB", (64, 64))], lossless=True
        ),
        "animated.gif": saved("GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
        "pages.tif": saved("TIFF", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
        "profile-of-nothing.png": saved("PNG", icc_profile=b"no profile"),
        "profile-of-noise.jpg": saved("JPEG", icc_profile=os.urandom(5000), quality=95),
        "exif-of-nothing.png": good[:33] + chunk(b"eXIf", b"no exif") + good[33:],
        "unknown-chunk.png": good[:33] + chunk(b"quUx", b"?" * 1000) + good[33:],
        "text-bomb.png": good[:33]
        + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 900_000))
        + good[33:],
    }
    return cases + [Case(f"inside/{name}", content, READ) for name, content in inside.items()]


def unreadable() -> list[Case]:
    cases = []
    for kind, options in FORMATS.items():
        whole = saved(kind, **options)
        suffix = "jpg" if kind == "MPO" else kind.lower()
        cases.append(Case(f"cut/{kind}-head.{suffix}", content=whole[:30], outcome=FAILED, says="broken"))
        if kind not in (
            "BMP",
            "TIFF",
            "PPM",
            "MPO",
        ):  # of these a part is read as it is, or they lie elsewhere
            cases.append(
                Case(
                    f"cut/{kind}-half.{suffix}",
                    content=whole[: len(whole) // 2],
                    outcome=FAILED,
                    says="broken",
                )
            )
    no_picture = {
        "empty.png": (b"", "empty"),
        "zeros.png": (b"\0" * 5000, "no image"),
        "page.jpg": (b"<!doctype html><h1>404</h1>", "no image in a supported format but text"),
        "document.png": (b"%PDF-1.7\n", "but PDF"),
        "film.gif": (media(b"isom", b"mp42"), "but video"),
        "packed.png": (archive("zip"), "but archive"),
        "leading.jpg": (b"\n" + saved("JPEG"), "no image"),
        "signature.png": (SIGNATURE, "broken"),
        "nothing.png": (header(64, 64) + chunk(b"IEND", b""), "broken"),
        "no-size.png": (header(0, 0) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), "broken"),
        "flat.png": (saved("PNG", Image.new("RGB", (64, 64), "white")), "blank"),
        "float.pfm": (b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 1, 2, 3), "floating point"),
        "float.tif": (saved("TIFF", Image.new("F", (8, 8), 0.5)), "floating point"),
        "long.tif": (saved("TIFF", Image.fromarray(np.full((4, 4), 70000, np.int32))), "32-bit"),
        "nowhere.tif": (b"II*\0" + struct.pack("<I", 2**31), "broken"),
        "no-fields.tif": (tiff(), "broken"),
        "text.ppm": (b"P6\n# x\nninety 2\n255\n", "broken"),
    }
    cases += [
        Case(f"wrong/{name}", content=content, outcome=FAILED, says=says)
        for name, (content, says) in no_picture.items()
    ]
    too_large = {
        "a.png": header(30_000, 30_000) + chunk(b"IDAT", zlib.compress(b"\0" * 999)),
        "b.png": header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b""),
        "c.gif": gif(65_535, 65_535),
        "d.bmp": bmp(40_000, 40_000),
        "e.tif": grey_tiff(60_000, 60_000),
        "f.webp": webp_canvas(16_383),
        "g.jpg": jpeg_of(65_500, 65_500),
        "h.ppm": b"P6\n100000 100000\n255\n",
        "i.jxl": jxl(2**30),
        "j.pgm": b"P5\n1 99999999\n255\n",
        "k.png": header(2**31 - 1, 1) + chunk(b"IDAT", zlib.compress(b"\0" * 999)),
    }
    cases += [
        Case(f"large/{name}", content=content, outcome=FAILED, says="limit of 80,000,000")
        for name, content in too_large.items()
    ]
    raw = {
        "a.dng": tiff((50706, 1, 4, 0x00000401), (254, 4, 1, 1)),
        "b": tiff((262, 3, 1, 32803)),
        "c.tif": tiff((262, 3, 1, 34892), order="<"),
        "d.nef": tiff((254, 4, 1, 1), (330, 4, 1, 8)),
        "e.cr2": b"II*\0\x10\0\0\0CR\x02\0" + b"\0" * 40,
        "f.cr3": media(b"crx ", b"isom"),
        "g.orf": b"IIRO\x08\0\0\0" + b"\0" * 40,
        "h.rw2": b"IIU\0\x18\0\0\0" + b"\0" * 40,
        "i.raf": b"FUJIFILMCCD-RAW 0201" + b"\0" * 40,
        "j.x3f": b"FOVb" + b"\0" * 40,
    }
    cases += [
        Case(f"raw/{name}", content=content, outcome=FAILED, says="camera's raw file")
        for name, content in raw.items()
    ]
    other = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "SVG": b"<?xml version='1.0'?>\n<!-- a fox -->\n<svg xmlns='http://www.w3.org/2000/svg'/>",
        "Photoshop": b"8BPS\0\1" + b"\0" * 40,
        "icon": saved("ICO"),
        "JPEG 2000": saved("JPEG2000"),
        "OpenEXR": b"v/1\x01\x02\0\0\0",
        "Radiance HDR": b"#?RADIANCE\n",
        "QOI": saved("QOI"),
        "DDS": saved("DDS"),
        "GIMP": b"gimp xcf file\0",
        "JPEG XR": b"II\xbc\x01" + b"\0" * 40,
        "FITS": b"SIMPLE  =                    T",
    }
    says = "is not read; convert it to PNG"
    cases += [
        Case(f"other/{name}", content=content, outcome=FAILED, says=f"format {name}, which {says}")
        for name, content in other.items()
    ]
    bad_names = [b"caf\xe9.png", b"\xff\xfe.jpg", b"a\x80b", b"\xed\xb2\x80.png"]
    cases += [
        Case(b"bytes/" + name, content=saved("PNG"), outcome=FAILED, says="no valid UTF-8; rename")
        for name in bad_names
    ]
    return cases


def no_pictures() -> list[Case]:
    kinds = {
        "text": {
            "notes.md": b"# A fox\n",
            "a.json": b"{}",
            "a.html": b"<html></html>",
            "latin": "Müßiggang ist aller Laster Anfang".encode("latin-1"),
            "wide.txt": "a fox".encode("utf-16"),
            "p1.txt": b"P1 is the first of the pages, BM the second",
            "bmw.txt": b"BMW is a company",
            "cut.txt": b"a" * 4095 + "é".encode(),
            "code.py": b"import os\n",
            "list.csv": b"path\n../../etc/passwd\n",
        },
        "PDF": {"a.pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"},
        "video": {
            "a.mp4": media(b"isom", b"mp42"),
            "a.mov": media(b"qt  "),
            "a.mkv": b"\x1aE\xdf\xa3" + b"\0" * 40,
            "a.avi": b"RIFF\x10\0\0\0AVI LIST",
            "a.mpg": b"\0\0\1\xba" + b"\0" * 40,
            "old.mov": b"\0\0\0\x08wide" + b"\0" * 40,
        },
        "audio": {
            "a.mp3": b"ID3\x04\0",
            "a.wav": b"RIFF\x10\0\0\0WAVEfmt ",
            "a.ogg": b"OggS\0",
            "a.m4a": media(b"M4A "),
        },
        "archive": {
            "a.zip": archive("zip"),
            "a.tar": archive(""),
            "a.tar.gz": archive("gz"),
            "a.tar.xz": archive("xz"),
            "a.7z": b"7z\xbc\xaf\x27\x1c",
            "a.rar": b"Rar!\x1a\x07\0",
        },
        "table": {"a.parquet": b"PAR1" + b"\0" * 40, "a.feather": b"ARROW1\0\0"},
        "database": {"a.db": b"SQLite format 3\0"},
        "office document": {"a.doc": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"},
        "program": {"a.out": b"\x7fELF\x02", "a.exe": b"MZ\x90\0"},
        "font": {"a.ttf": b"\0\1\0\0\0\x0f", "a.woff2": b"wOF2\0\1"},
        "pickle": {"a.pkl": b"\x80\x04\x95\x10\0\0\0"},
        "model weights": {"a.safetensors": struct.pack("<Q", 64) + b'{"a":' + b"\0" * 60},
        "empty": {"nothing": b""},
        "unknown": {"noise.bin": b"\x07\x99" * 500, "zeros.bin": b"\0" * 99},
        "hidden file": {
            ".DS_Store": b"\0\0\0\1Bud1",
            "._fox.png": b"\0\5\x16\7" + b"\0" * 40,
            ".git/config": b"[core]",
        },
        "hidden picture": {".fox.png": saved("PNG"), ".cache/fox": saved("JPEG")},
        "linked folder": {"link": lambda path: os.symlink("/usr", path)},
        "broken link": {
            "gone": lambda path: os.symlink("nowhere", path),
            "self": lambda path: os.symlink("self", path),
        },
        "device": {"pipe": os.mkfifo},
    }
    return [
        Case(f"rest/{kind.replace(' ', '-')}/{name}", content=content, outcome=SKIPPED, says=kind)
        for kind, files in kinds.items()
        for name, content in files.items()
    ]


def files() -> list[Case]:
    """Every file of the folder that is added as a whole."""
    return [*readable(), *unreadable(), *no_pictures()]


@dataclass(frozen=True)
class Listing:
    """A list of pictures beside a good one, `good.png`.

    Attributes:
        name: of the file.
        write: makes it at a path; `good.png` lies beside it.
        good: how many of its rows are read: the others must not stop them.
        says: what is said of each bad row, in order; of a list that is refused as a whole, why.
        refused: whether it is refused as a whole.
    """

    name: str
    write: Callable[[Path], object]
    good: int = 1
    says: tuple[str, ...] = ()
    refused: bool = False


def _csv(*rows: Sequence[str], head: str = "path,id,caption,tags,policy") -> Callable[[Path], object]:
    text = "\n".join([head, *(",".join(row) for row in rows)])
    return lambda path: path.write_bytes(text.encode("utf-8", "surrogateescape"))


def _parquet(**columns: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns), path)

    return write


def _tar(
    *members: tuple[str, bytes | Mapping[str, Any]], end: int | None = None, damage: int | None = None
) -> Callable[[Path], object]:
    """A shard of members (name, content or what else they are), cut at a byte or damaged at one."""

    def write(path: Path) -> None:
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, body in members:
                is_file = isinstance(body, bytes)
                add_member(tar, name, body if is_file else b"", **({} if is_file else body))
        content = bytearray(stream.getvalue()[:end])
        if damage is not None:
            content[damage : damage + 100] = b"\x99" * 100
        path.write_bytes(content)

    return write


def _text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DEEP = b"[" * 100_000
LONG = "x" * 300


def _invalid_text() -> Any:
    import pyarrow as pa

    offsets = pa.py_buffer(struct.pack("<3i", 0, 8, 10))
    return pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"good.png\xff\xfe")])


def listings() -> list[Listing]:
    import pyarrow as pa

    good, other = saved("PNG"), saved("JPEG")
    first_member = 512 + 512 * -(-len(good) // 512)  # bytes of a shard that it takes
    return [
        Listing("long-line.txt", _text(f"{LONG}\ngood.png\n".encode()), says=("File name too long",)),
        Listing("longer-line.txt", _text(b"x" * 200_000 + b"\ngood.png\n"), says=("characters",)),
        Listing("zero-byte.txt", _text(b"a\0b.png\ngood.png\n"), says=("null",)),
        Listing("no-utf8.txt", _text(b"caf\xe9.png\ngood.png\n"), says=("no valid UTF-8",)),
        Listing("bom.txt", _text(b"\xef\xbb\xbfgood.png\n")),
        Listing("windows.txt", _text(b"good.png\r\ngood.png\r\n"), good=2),
        Listing("itself.txt", _text(b"itself.txt\ngood.png\n"), says=("no image",)),
        Listing("devices.txt", _text(b"/dev/zero\n/proc/self/mem\ngood.png\n"), says=("outside", "outside")),
        Listing("up.txt", _text(b"../up.png\ngood.png\n"), says=("outside",)),
        Listing(
            "address.txt",
            _text(b"http://localhost:1/a.png\nfile:///etc/passwd\ngood.png\n"),
            says=("address",) * 2,
        ),
        Listing("chained.txt", _text(b"simplecache::http://localhost/a\ngood.png\n"), says=("address",)),
        Listing("folder.txt", _text(b".\ngood.png\n"), says=("is no regular file",)),
        Listing("gone.txt", _text(b"gone.png\ngood.png\n"), says=("No such file",)),
        Listing(
            "circle.txt",
            lambda p: (
                os.symlink("circle.png", p.parent / "circle.png"),
                p.write_text("circle.png\ngood.png"),
            ),
            says=("loop|levels of symbolic links",),
        ),
        Listing(
            "escape.txt",
            lambda p: (os.symlink("/etc/passwd", p.parent / "out.png"), p.write_text("out.png\ngood.png")),
            says=("outside",),
        ),
        Listing("caption-300.csv", _csv(["good.png", "", LONG, "", ""])),
        Listing(
            "caption-1e5.csv",
            _csv(["good.png", "", "x" * 110_000, "", ""], ["good.png"]),
            says=("characters",),
        ),
        Listing(
            "caption-1e6.csv",
            _csv(["good.png", "", "x" * 1_000_000, "", ""], ["good.png"]),
            says=("field limit",),
        ),
        Listing("few.csv", _csv(["good.png"])),
        Listing("many.csv", _csv(["good.png", *["x"] * 50])),
        Listing("no-path.csv", _csv(["", "a", "", "", ""], ["good.png"]), says=("nothing in its column",)),
        Listing("no-column.csv", _csv(["good.png"], head="file"), refused=True, says=("no column 'path'",)),
        Listing("empty.csv", _text(b""), refused=True, says=("no column 'path'",)),
        Listing("quotes.csv", _text(b'path,caption\ngood.png,"open\n'), good=1),
        Listing(
            "no-utf8.csv",
            _text(b"path,caption\ngood.png,caf\xe9\ngood.png,x\n"),
            says=("its caption .* no valid UTF-8",),
        ),
        Listing("formula.csv", _csv(["good.png", "=cmd|'/c calc'!A0", "@SUM(1)", "", ""])),
        Listing("sql.csv", _csv(["good.png", "x'); DROP TABLE items; --", "", "", ""])),
        Listing("escape.csv", _csv(["good.png", "\x1b[2J", "\u202eevil", "", ""])),
        Listing("zero-byte.csv", _text(b"path,caption\na\0.png,x\ngood.png,x\n"), says=("null",)),
        Listing("whole-numbers.parquet", _parquet(path=[1, 2]), good=0, says=("",) * 2),
        Listing("bytes.parquet", _parquet(path=[b"good.png", b"\xff\xfe"]), says=("bytes that are no text",)),
        Listing("captions.parquet", _parquet(path=["good.png"] * 3, caption=[1, None, 3]), good=3),
        Listing("nan.parquet", _parquet(path=["good.png"], caption=[float("nan")], owner=[float("inf")])),
        Listing(
            "bytes-caption.parquet",
            _parquet(path=["good.png"] * 2, caption=[b"a fox", b"\xff"]),
            says=("its caption is bytes",),
        ),
        Listing(
            "nested.parquet",
            _parquet(path=["good.png"], caption=[{"a": 1}]),
            good=0,
            says=("its caption is a struct",),
        ),
        Listing("nested-path.parquet", _parquet(path=[["good.png"]]), good=0, says=("its path is a list",)),
        Listing("tags.parquet", _parquet(path=["good.png"] * 2, tags=[[1, 2], [None, 3]]), good=2),
        Listing(
            "tag-bytes.parquet",
            _parquet(path=["good.png"] * 2, tags=[[b"\xff"], [b"a"]]),
            says=("its tags is bytes",),
        ),
        Listing("no-utf8.parquet", _parquet(path=_invalid_text()), says=("utf-8|UTF8|UTF-8",)),
        Listing("dates.parquet", _parquet(path=["good.png"], note=pa.array([0], pa.timestamp("us")))),
        Listing(
            "long.parquet",
            _parquet(path=pa.array(["good.png", *["x" * 200_000] * 40])),
            says=("characters",) * 40,
        ),
        Listing("no-column.parquet", _parquet(file=["good.png"]), refused=True, says=("no column 'path'",)),
        Listing(
            "no.parquet", _text(b"PAR1" + b"\0" * 40 + b"PAR1"), refused=True, says=("cannot read the list",)
        ),
        Listing("cut.parquet", _text(b"PAR1"), refused=True, says=("cannot read the list",)),
        Listing(
            "list.tar", _tar(("a.png", good), ("a.json", b"[1, 2]"), ("b.png", other)), says=("holds a list",)
        ),
        Listing(
            "null.tar",
            _tar(("a.png", good), ("a.json", b"null"), ("b.png", other)),
            says=("holds a NoneType",),
        ),
        Listing(
            "deep.tar", _tar(("a.png", good), ("a.json", DEEP), ("b.png", other)), says=("cannot be read",)
        ),
        Listing(
            "cut-json.tar",
            _tar(("a.png", good), ("a.json", b"{"), ("b.png", other)),
            says=("cannot be read",),
        ),
        Listing(
            "bad-text.tar",
            _tar(("a.png", good), ("a.txt", b"\xff\xfe"), ("b.png", other)),
            says=("cannot be read",),
        ),
        Listing(
            "long-text.tar",
            _tar(("a.png", good), ("a.txt", b"x" * 900_000), ("b.png", other)),
            says=("too many",),
        ),
        Listing(
            "numbers.tar", _tar(("a.png", good), ("a.json", b'{"owner": 5, "tags": [1, 2], "id": 1e999}'))
        ),
        Listing(
            "dict.tar",
            _tar(("a.png", good), ("a.json", b'{"owner": {}, "caption": {"a": 1}}')),
            good=0,
            says=("is a dict",),
        ),
        Listing(
            "surrogate.tar",
            _tar(("a.png", good), ("a.json", rb'{"caption": "\ud800"}'), ("b.png", other)),
            says=("no valid UTF-8",),
        ),
        Listing("no-suffix.tar", _tar(("a", good), ("b.jfif", other)), good=2),
        Listing("parts.tar", _tar(("a.seg.png", good), ("a.cls", b"3"))),
        Listing("up.tar", _tar(("../../etc/a.png", good), ("/b.png", other)), good=2),
        Listing("long-name.tar", _tar(("x" * 300 + ".png", good))),
        Listing(
            "links.tar",
            _tar(
                ("a.png", good),
                ("b.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
                ("c.png", {"type": tarfile.LNKTYPE, "linkname": "a.png"}),
            ),
        ),
        Listing(
            "devices.tar",
            _tar(
                ("a.png", good), ("b.png", {"type": tarfile.CHRTYPE}), ("c.png", {"type": tarfile.FIFOTYPE})
            ),
        ),
        Listing(
            "cut.tar",
            _tar(("a.png", good), ("b.png", other), end=first_member + 700),
            says=("broken", "cut or damaged"),
        ),
        Listing(
            "no-end.tar",
            _tar(("a.png", good), end=first_member),
            says=("cut or damaged",),
        ),
        Listing(
            "damaged.tar",
            _tar(("a.png", good), ("b.png", other), damage=first_member),
            says=("cut or damaged",),
        ),
        Listing("noise.tar", _text(b"x" * 600), refused=True, says=("cannot read the list",)),
        Listing("packed.tar", _text(archive("gz")), refused=True, says=("cannot read the list",)),
        Listing("not-a-list.csv", _text(good), good=1),
        Listing("not-a-list.tar", _text(other), good=1),
    ]


@dataclass(frozen=True)
class Words:
    """A command line that is refused in one line.

    Attributes:
        name: what is odd about it.
        words: after `steerclear`; `{folder}` is a folder with `good.png`, a library and what `files` says.
        says: part of the line.
        files: name → content of files that it uses.
        code: the exit code.
    """

    name: str
    words: tuple[str, ...]
    says: str
    files: Mapping[str, bytes] | None = None
    code: int = 2


def recipe_png(text: bytes) -> bytes:
    good = saved("PNG")
    return good[:33] + chunk(b"iTXt", b"steerclear\0\0\0\0\0" + text) + good[33:]


def commands() -> list[Words]:
    add = ("library", "add")
    into = ("-l", "{folder}/library")
    return [
        Words("a file of 300 characters", (*add, LONG, *into), "File name too long"),
        Words("a glob of 300 characters", (*add, LONG + "*", *into), "File name too long"),
        Words("a zero byte", (*add, "a\0b", *into), "there is no file"),
        Words("no UTF-8", (*add, "{folder}/caf\udce9.png", *into), "there is no file"),
        Words(
            "captions that are deep",
            words=(*add, "{folder}/good.png", *into, "--captions", "{folder}/c.json"),
            says="captions",
            files={"c.json": DEEP},
        ),
        Words(
            "captions that are a list",
            words=(*add, "{folder}/good.png", *into, "--captions", "{folder}/c.json"),
            says="one JSON object",
            files={"c.json": b"[1]"},
        ),
        Words(
            "captions as a text",
            (*add, "{folder}/good.png", *into, "--captions", json.dumps({"good": LONG})),
            "cannot read the captions",
        ),
        Words(
            "captions with a zero byte",
            (*add, "{folder}/good.png", *into, "--captions", "a\0b"),
            "null byte",
        ),
        Words("a picture of 300 characters", ("check", LONG), "File name too long"),
        Words("a zero byte in a picture", ("check", "a\0b"), "null"),
        Words("a device", ("check", "/dev/zero"), "no regular file"),
        Words("a folder", ("check", "/usr"), "irectory|no regular file"),
        Words(
            "a camera's raw file",
            words=("check", "{folder}/a"),
            says="camera's raw file",
            files={"a": tiff((50706, 1, 4, 1))},
        ),
        Words(
            "an icon", words=("check", "{folder}/a.png"), says="format icon", files={"a.png": saved("ICO")}
        ),
        Words("a text", words=("check", "{folder}/a.png"), says="but text", files={"a.png": b"a fox"}),
        Words(
            "a search for a text",
            words=("library", "search", "{folder}/a.png", "-l", str(LIBRARY_FOLDER)),
            says="but text",
            files={"a.png": b"a fox"},
        ),
        Words(
            "a search in a file",
            ("library", "search", "{folder}/good.png", "-l", "{folder}/good.png"),
            "file, not a library",
        ),
        Words("a library of 300 characters", ("library", "list", "-l", LONG), "too long"),
        Words("a library to be made of 300 characters", (*add, "{folder}/good.png", "-l", LONG), "too long"),
        Words("a library with a zero byte", ("library", "list", "-l", "a\0b"), "library"),
        Words("a folder that holds none", ("library", "list", "-l", "{folder}"), "no library"),
        Words(
            "a recipe that is deep",
            words=("replay", "{folder}/r.png"),
            says="recipe .* damaged",
            files={"r.png": recipe_png(DEEP)},
        ),
        Words(
            "a recipe that is a list",
            words=("replay", "{folder}/r.png"),
            says="recipe .* damaged",
            files={"r.png": recipe_png(b"[]")},
        ),
        Words(
            "a recipe that is no JSON",
            words=("replay", "{folder}/r.png"),
            says="recipe .* damaged",
            files={"r.png": recipe_png(b"{")},
        ),
        Words(
            "a recipe of other types",
            words=("replay", "{folder}/r.png"),
            says="recipe",
            files={"r.png": recipe_png(b'{"prompt": [], "seed": {}}')},
        ),
        Words("a picture without a recipe", ("replay", "{folder}/good.png"), "no recipe"),
        Words(
            "a program as an encoder",
            words=(*add, "{folder}/good.png", *into, "--encoder", "sscd:{folder}/a.pt"),
            says="--trust",
            files={"a.pt": b"PK\3\4"},
        ),
        Words(
            "an encoder of a hub",
            (*add, "{folder}/good.png", *into, "--encoder", "transformers:attacker/model"),
            "--allow-download",
        ),
        Words(
            "an autoencoder of a hub",
            (*add, "{folder}/good.png", *into, "--encoder", "vae:attacker/model"),
            "--allow-download",
        ),
        Words(
            "a preferred picture that is a text",
            words=("generate", "a fox", "--prefer", "{folder}/a.png", "--out", "{folder}/out"),
            says="but text",
            files={"a.png": b"a fox"},
        ),
    ]
