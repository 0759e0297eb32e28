"""What files begin with, and the size that two formats announce, before any decoder sees them."""

from __future__ import annotations

from typing import IO

ARCHIVES = (b"PK\x03\x04", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")
"""First bytes of a zip, gz, 7z and rar file."""

_TIFF = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")  # two of them wrong, and written all the same


def picture_format(head: bytes) -> str | None:
    """Pillow's name of the format of a picture that begins with these 64 bytes (fewer where the file is shorter)."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if brands_of(head) & {b"avif", b"avis"}:
        return "AVIF"
    if head.startswith(_TIFF):
        return "TIFF"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return "BMP" if head.startswith(b"BM") else None


def brands_of(head: bytes) -> set[bytes]:
    """The brands that an ISO base media file (AVIF, HEIC, MP4) of these first bytes names, the major one with them."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head) - 3)
    return {head[at : at + 4] for at in (8, *range(16, end, 4))}


def announced_size(kind: str, stream: IO[bytes]) -> tuple[int, int] | None:
    """(width, height) of a WebP or GIF whose decoder would make room for it on opening; None where it does not say.

    For a GIF, the least that holds both the screen and the first picture. ``stream`` is at its start.
    """
    if kind == "WEBP":
        return _webp_size(stream.read(30))
    return _gif_size(stream) if kind == "GIF" else None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    chunk, little = head[12:16], int.from_bytes
    if chunk == b"VP8X":
        return little(head[24:27], "little") + 1, little(head[27:30], "little") + 1
    if chunk == b"VP8 ":
        return little(head[26:28], "little") & 0x3FFF, little(head[28:30], "little") & 0x3FFF
    if chunk == b"VP8L":
        bits = little(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _gif_size(stream: IO[bytes]) -> tuple[int, int] | None:
    screen = stream.read(13)
    if len(screen) < 13:
        return None
    width, height = (int.from_bytes(screen[at : at + 2], "little") for at in (6, 8))
    if screen[10] & 128:
        stream.read(3 << (screen[10] & 7) + 1)  # the palette
    while block := stream.read(1):
        if block == b"!":  # an extension: its kind, then parts of a length each
            stream.read(1)
            while (length := stream.read(1)) not in (b"", b"\0"):
                stream.read(length[0])
        elif block == b",":
            left, top, wide, high = (int.from_bytes(stream.read(2), "little") for _ in range(4))
            return max(width, left + wide), max(height, top + high)
        elif block == b";":
            break
    return width, height
