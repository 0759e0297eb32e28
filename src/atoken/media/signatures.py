"""What files begin with, and the size that two formats announce, before any decoder sees them."""

from __future__ import annotations

import os
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
    if brands_of(head) & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}:
        return "HEIC"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JXL"
    return "BMP" if head.startswith(b"BM") else None


_CONVERT = "convert it to PNG"
_RAW = "is a camera's raw file: develop it to TIFF or JPEG"
_RAW_SUFFIXES = {".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".srw", ".pef", ".orf", ".rw2", ".raf", ".iiq"}
_ASSETS = {".splat", ".ksplat", ".spz", ".sog", ".usd", ".usda", ".usdc", ".usdz", ".fbx", ".blend", ".3ds", ".3mf"}
_FOREIGN: tuple[tuple[bytes, str], ...] = (  # first bytes, what that is and what to do
    (b"%PDF", "is a PDF: export its pages or pictures as PNG"),
    (b"%!PS", f"is PostScript: {_CONVERT} with a program you trust"),
    (b"\xc5\xd0\xd3\xc6", f"is EPS: {_CONVERT} with a program you trust"),
    (b"8BPS", "is a Photoshop document: export it as PNG or TIFF"),
    (b"v/1\x01", "is OpenEXR, whose range is open: convert it to PNG, or pass an array with value_range="),
    (b"#?RADIANCE", "is Radiance HDR, whose range is open: convert it to PNG, or pass an array with value_range="),
    (b"#?RGBE", "is Radiance HDR, whose range is open: convert it to PNG, or pass an array with value_range="),
    (b"\0\0\0\x0cjP  ", f"is JPEG 2000: {_CONVERT}"),
    (b"\xff\x4f\xff\x51", f"is JPEG 2000: {_CONVERT}"),
    (b"II\xbc\x01", f"is JPEG XR: {_CONVERT}"),
    (b"DDS ", f"is a DDS texture: {_CONVERT}"),
    (b"\xabKTX", f"is a KTX texture: {_CONVERT}"),
    (b"\0\0\x01\0", f"is an icon: {_CONVERT}"),
    (b"qoif", f"is QOI: {_CONVERT}"),
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIU\0", _RAW),
    (b"gimp xcf", "is a GIMP document: export it as PNG"),
    (b"\x93NUMPY", "is a NumPy array: load it and pass the array, with value_range= unless it is uint8"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file: run 'git lfs pull'"),
    (b"glTF", "is a 3D model: give it the suffix .glb"),
    (b"ply\n", "is a 3D model: give it the suffix .ply"),
    (b"ply\r", "is a 3D model: give it the suffix .ply"),
)


def is_targa(head: bytes, name: object) -> bool:
    """Whether a file of this name that begins so can be a TGA, which has no first bytes of its own."""
    return _suffix(name) == ".tga" and len(head) >= 18 and head[1] in (0, 1) and head[2] in (1, 2, 3, 9, 10, 11)


def is_raw(name: object) -> bool:
    """Whether this is called as cameras call their raw files: many are TIFFs whose first picture is a small preview."""
    return _suffix(name) in _RAW_SUFFIXES


def _suffix(name: object) -> str:
    return os.path.splitext(str(name))[1].lower()


def foreign(head: bytes, name: object) -> str:
    """What a file is that begins with ``head`` and is no picture read here, and what to do: the end of a sentence."""
    suffix = _suffix(name)
    if suffix in _ASSETS:
        return "is a 3D file, not a picture: convert it to .glb, or splats to .ply"
    if is_raw(name) or b"crx " in brands_of(head):
        return _RAW
    for start, said in _FOREIGN:
        if head.startswith(start):
            return said
    if head.startswith(ARCHIVES):
        return "is an archive: unpack it and give the files inside"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (suffix == ".svg" and text.startswith(b"<")):
        return "is SVG, which is drawn, not stored, in pixels: export it as PNG at the size you want"
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a web page: download the picture itself"
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3].isspace():
        return f"is a Netpbm picture: {_CONVERT}"
    if brands_of(head) or head.startswith((b"\x1aE\xdf\xa3", b"OggS", b"FLV\x01")) or head[8:12] == b"AVI ":
        return "looks like a video: give it the suffix of one (.mp4, .mkv, .webm, .avi, ...)"
    return f"is not a JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, TGA, HEIC or JPEG XL: {_CONVERT}, or download it again"


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


def webp_frames(stream: IO[bytes]) -> int:
    """How many frames the chunks of a WebP hold; 1 for a still picture."""
    at, end, count = 12, stream.seek(0, os.SEEK_END), 0
    while at + 8 <= end:
        stream.seek(at)
        head = stream.read(8)
        count += head[:4] == b"ANMF"
        length = int.from_bytes(head[4:], "little")
        at += 8 + length + length % 2
    return max(count, 1)


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
