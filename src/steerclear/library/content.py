"""What a file holds, by its first bytes and not by its name: a picture in some format, or what else."""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEAD = 4096  # bytes of a file that say what it is
# their suffixes; a file with one of them that holds no picture is a failure, any other file is only counted
_SUFFIXES = """
png apng jpg jpeg jpe jfif mpo webp gif bmp dib tif tiff ppm pgm pbm pnm avif avifs heic heif hif heics jxl
jp2 j2k jpx jpf jxr psd psb svg svgz ico cur icns eps exr hdr qoi dds tga xcf pcx sgi fits
dng cr2 cr3 crw nef nrw arw srf sr2 orf rw2 raf pef srw x3f 3fr iiq mrw erf kdc raw
"""
SUFFIXES = frozenset(f".{name}" for name in _SUFFIXES.split())


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds.

    Attributes:
        name: what it is called in messages, such as "JPEG", "PDF" or "text".
        picture: whether it is a picture, readable or not.
    """

    name: str
    picture: bool = False


CAMERA_RAW = Content("camera raw", picture=True)
EMPTY, TEXT, UNKNOWN = Content("empty"), Content("text"), Content("unknown")
ARCHIVE, VIDEO, AUDIO = Content("archive"), Content("video"), Content("audio")

_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II\xbc\x01", "JPEG XR"),
    *((prefix, "TIFF") for prefix in (b"MM\0*", b"II*\0", b"MM*\0", b"II\0*", b"MM\0+", b"II+\0")),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"icns", "icon"),
    (b"\0\0\1\0", "icon"),
    (b"\0\0\2\0", "icon"),
    (b"BPG\xfb", "BPG"),
    (b"\x59\xa6\x6a\x95", "Sun raster"),
    (b"\x01\xda\0\x01", "SGI"),
    (b"\x01\xda\x01\x01", "SGI"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"SIMPLE  =", "FITS"),
    (b"AT&TFORM", "DjVu"),
)
_RAW = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
_OTHERS = (
    (b"%PDF", "PDF"),
    (b"\x1aE\xdf\xa3", VIDEO.name),
    (b"FLV\x01", VIDEO.name),
    (b"\0\0\1\xba", VIDEO.name),
    (b"\0\0\1\xb3", VIDEO.name),
    (b"0&\xb2u\x8ef\xcf\x11", VIDEO.name),
    (b"ID3", AUDIO.name),
    (b"fLaC", AUDIO.name),
    (b"OggS", AUDIO.name),
    (b"MThd", AUDIO.name),
    (b"PK\3\4", ARCHIVE.name),
    (b"PK\5\6", ARCHIVE.name),
    (b"\x1f\x8b", ARCHIVE.name),
    (b"BZh", ARCHIVE.name),
    (b"\xfd7zXZ\0", ARCHIVE.name),
    (b"7z\xbc\xaf\x27\x1c", ARCHIVE.name),
    (b"Rar!\x1a\x07", ARCHIVE.name),
    (b"\x28\xb5\x2f\xfd", ARCHIVE.name),
    (b"PAR1", "table"),
    (b"ARROW1", "table"),
    (b"SQLite format 3\0", "database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "office document"),
    (b"\x7fELF", "program"),
    (b"MZ", "program"),
    (b"\xcf\xfa\xed\xfe", "program"),
    (b"OTTO", "font"),
    (b"\0\1\0\0\0", "font"),
    (b"wOFF", "font"),
    (b"wOF2", "font"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04", "pickle"),
    (b"\x80\x05", "pickle"),
)
# brands of ISO base media files; whatever has none of them is video
_AVIF = frozenset((b"avif", b"avis"))
_HEIF = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"))
_SOUND = frozenset((b"M4A ", b"M4B ", b"M4P "))
_NETPBM = re.compile(rb"P(?:[1-6]\s+(?:#|\d)|7\s|f\s)")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def content_of(head: bytes) -> Content:
    """What a file holds.

    Args:
        head: its first bytes, HEAD of them or all that there are.
    """
    if not head:
        return EMPTY
    for prefix, name in _PICTURES:
        if head.startswith(prefix):
            is_raw = name == "TIFF" and head[8:10] == b"CR"  # Canon's
            return CAMERA_RAW if is_raw else Content(name, picture=True)
    if head.startswith(_RAW):
        return CAMERA_RAW
    if head[4:8] == b"ftyp":
        return _media(head)
    if head.startswith(b"RIFF"):
        known = {b"WEBP": Content("WEBP", picture=True), b"WAVE": AUDIO, b"AVI ": VIDEO}
        return known.get(head[8:12], UNKNOWN)
    if head.startswith(b"BM") and len(head) >= 18 and struct.unpack("<I", head[14:18])[0] in _BMP_HEADERS:
        return Content("BMP", picture=True)
    if _NETPBM.match(head):
        return Content("PPM", picture=True)
    for prefix, name in _OTHERS:
        if head.startswith(prefix):
            return Content(name)
    if head[257:262] == b"ustar":
        return ARCHIVE
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free"):
        return VIDEO
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**32:
        return Content("model weights")
    return _text(head)


def _media(head: bytes) -> Content:
    """What an ISO base media file holds, by its brands."""
    (size,) = struct.unpack(">I", head[:4])
    brands = {head[8:12], *(head[i : i + 4] for i in range(16, min(size, len(head), 256), 4))}
    if head[8:12] == b"crx ":
        return CAMERA_RAW
    if brands & _AVIF:
        return Content("AVIF", picture=True)
    if brands & _HEIF:
        return Content("HEIC", picture=True)
    return AUDIO if head[8:12] in _SOUND else VIDEO


def _text(head: bytes) -> Content:
    """Text of some kind, or bytes that say nothing."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return TEXT
    # what is no UTF-8 may be text in an older encoding, but text has no control characters
    if any(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head):
        return UNKNOWN
    start = head.lstrip(codecs.BOM_UTF8 + b" \t\r\n")
    if start.startswith(b"%!PS"):
        return Content("EPS", picture=True) if b"EPSF" in start[:40] else Content("PostScript")
    if re.match(rb"<(?:\?xml|!--|!doctype svg|svg)", start, re.IGNORECASE) and re.search(
        rb"<svg[\s>]", head, re.IGNORECASE
    ):
        return Content("SVG", picture=True)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return TEXT if sum(byte > 126 for byte in head) * 4 < len(head) else UNKNOWN
    return TEXT


# ── TIFF, the container of most cameras' raw files ──────────────────────────────────────────────────────────

_SUBFILE, _PHOTOMETRIC, _SUB_FOLDERS, _DNG_VERSION = 254, 262, 330, 50706
_SENSOR = (32803, 34892)  # photometric interpretations: colour filter array, linear raw
_SIZES = {1: 1, 3: 2, 4: 4, 13: 4}  # bytes of a TIFF type: byte, short, long, ifd


def is_camera_raw(tiff: bytes) -> bool:
    """Whether a TIFF file holds what a camera's sensor saw, beside a preview that is no whole picture.

    Args:
        tiff: the whole file; a broken one is none.
    """
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        if struct.unpack(order + "H", tiff[2:4])[0] != 42:
            return False
        (offset,) = struct.unpack(order + "I", tiff[4:8])
        first = dict(_fields(tiff, offset, order))
        if _DNG_VERSION in first or _is_sensor(first):
            return True
        preview = bool(first.get(_SUBFILE, [0])[0] & 1)
        below = [dict(_fields(tiff, place, order)) for place in first.get(_SUB_FOLDERS, [])[:16]]
        # a reduced picture in the first place, with the whole one below it, is how Nikon and others do it
        return any(map(_is_sensor, below)) or (preview and bool(below))
    except struct.error:
        return False


def _is_sensor(fields: dict[int, list[int]]) -> bool:
    return any(value in _SENSOR for value in fields.get(_PHOTOMETRIC, ()))


def _fields(tiff: bytes, offset: int, order: str) -> Iterator[tuple[int, list[int]]]:
    """The whole numbers in one directory of a TIFF file, by tag. Raises struct.error past the file's end."""
    (count,) = struct.unpack(order + "H", tiff[offset : offset + 2])
    for start in range(offset + 2, offset + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack(order + "HHI", tiff[start : start + 8])
        size = _SIZES.get(kind)
        if size is None or not length:
            continue
        length = min(length, 16)
        place = start + 8
        if length * size > 4:
            (place,) = struct.unpack(order + "I", tiff[place : place + 4])
        letter = {1: "B", 2: "H", 4: "I"}[size]
        values = struct.unpack(f"{order}{length}{letter}", tiff[place : place + length * size])
        yield tag, list(values)


# ── JPEG XL, whose decoder takes the memory before it can be asked for the size ─────────────────────────────


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """What the header of a JPEG XL file says.

    Attributes:
        width: in pixels.
        height: in pixels.
        animated: whether it has more than one frame.
    """

    width: int
    height: int
    animated: bool


def jxl_header(raw: bytes) -> JxlHeader:
    """Reads the size of a JPEG XL file (ISO/IEC 18181-1, A.3 and B.2), as a codestream or in a container.

    Raises:
        ValueError: for a header that cannot be read.
    """
    bits = _Bits(_codestream(raw)[2:])
    width, height = _size(bits)
    animated = False
    if not bits.take(1) and bits.take(1):  # neither all default nor without the extra fields
        bits.take(3)  # orientation
        if bits.take(1):  # the size at which it is meant to be shown
            _size(bits)
        if bits.take(1):
            _preview_size(bits)
        animated = bool(bits.take(1))
    return JxlHeader(width, height, animated)


class _Bits:
    """Numbers of some bits each, the lowest first."""

    def __init__(self, content: bytes) -> None:
        self._left = int.from_bytes(content[:64], "little")
        self._count = 8 * min(len(content), 64)

    def take(self, count: int) -> int:
        if count > self._count:
            raise ValueError("its header is cut")
        value = self._left & ((1 << count) - 1)
        self._left >>= count
        self._count -= count
        return value

    def choose(self, *widths: int) -> int:
        return self.take(widths[self.take(2)])


_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        return 8 * (bits.take(5) + 1) if small else bits.choose(9, 13, 18, 30) + 1

    height = side()
    ratio = bits.take(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio]
    return height * across // down, height


def _preview_size(bits: _Bits) -> None:
    small = bits.take(1)

    def side() -> None:
        if small:
            selector = bits.take(2)
            bits.take((0, 0, 5, 9)[selector])
        else:
            bits.choose(6, 8, 10, 12)

    side()
    if not bits.take(3):
        side()


def _codestream(raw: bytes) -> bytes:
    """The beginning of the codestream: the file itself, or the first box of a container that holds it."""
    if raw[:2] == b"\xff\x0a":
        return raw
    place = 0
    while place + 8 <= len(raw):
        size, kind = int.from_bytes(raw[place : place + 4], "big"), raw[place + 4 : place + 8]
        start = place + 8
        if size == 1:
            size, start = int.from_bytes(raw[start : start + 8], "big"), start + 8
        if kind in (b"jxlc", b"jxlp"):
            start += 4 if kind == b"jxlp" else 0
            if raw[start : start + 2] == b"\xff\x0a":
                return raw[start : start + 80]
            break
        if size < 8:
            break
        place += size
    raise ValueError("its header is missing")
