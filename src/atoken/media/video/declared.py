"""What the headers of video files declare: their bytes, which a whole file has, and counts, which are hints.

Edit lists hide frames that are counted, and tags go stale: only missing bytes prove that a file ends early.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path
from typing import IO, Any

_EBML, _SEGMENT, _CLUSTER = (bytes.fromhex(name) for name in ("1a45dfa3", "18538067", "1f43b675"))
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BOXES = b"ftyp styp moov mdat moof mfra sidx wide free skip uuid meta pnot".split()
_OGG, _OGG_PAGE = b"OggS", 27 + 255 + 255 * 255  # the longest page
_WITH_DURATION = ("mov,", "matroska", "avi", "ivf", "mxf", "rm")
"""Containers whose headers have the duration; others' FFmpeg estimates, or takes from what is left of the file."""
_CLOCK = re.compile(r"(\d{1,4}):(\d{1,2}):(\d{1,2}(?:\.\d*)?)", re.ASCII)


def fault_of(path: Path, stream: Any) -> str | None:
    """What is wrong with a file whose frames could all be decoded: its end is missing, or a part within; else None.

    Asked are the bytes that the header or the index counts, the end mark of an Ogg file, and whether the elements of
    a Matroska file follow each other without a gap, which FFmpeg would skip.
    """
    size = path.stat().st_size
    if size < _declared_size(path) or size < _indexed_size(stream) or not _ogg_ended(path):
        return "the file ends early"
    broken = _gap_of_elements(path)
    if broken is None:
        return None
    return "the file ends early" if broken >= size else f"what is at byte {broken} cannot be read"


def frames_estimate(stream: Any) -> int | None:
    """Frames of a stream by its header, those hidden by an edit list left out; None where it counts none."""
    if not stream.frames:
        return None
    if stream.duration and stream.average_rate and stream.container.format.name.startswith("mov,"):
        shown = math.floor(stream.duration * stream.time_base * stream.average_rate)
        return min(stream.frames, shown) if shown > 0 else int(stream.frames)
    return int(stream.frames)


def duration_estimate(container: Any, stream: Any) -> float | None:
    """Seconds of a stream by its header, or as FFmpeg estimates them; None where nothing says it."""
    seconds = _duration(container, stream) or (container.duration or 0) / 1e6
    return seconds if 0 < seconds < math.inf else None


def missing_estimate(container: Any, stream: Any, seen: int, until: float) -> int | None:
    """Frames that the header counts beyond those ``seen``, which end at ``until`` seconds; None if it counts none."""
    if (frames := frames_estimate(stream)) is not None:
        return max(0, frames - seen)
    duration = _duration(container, stream)
    if duration is None or not stream.average_rate:
        return None
    return max(0, round((duration - until) * stream.average_rate))


def _duration(container: Any, stream: Any) -> float | None:
    """Seconds of the video stream as the container has them: the stream's own, a Matroska tag, or the file's."""
    if not container.format.name.startswith(_WITH_DURATION):
        return None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if found := _CLOCK.fullmatch(stream.metadata.get("DURATION", "").strip()):
        hours, minutes, seconds = found.groups()
        first = float((stream.start_time or 0) * stream.time_base)
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - first
    alone = len(container.streams) == 1
    stored = container.format.name.startswith("matroska")  # others estimate it
    return container.duration / 1e6 if alone and stored and container.duration else None


def _indexed_size(stream: Any) -> int:
    """Where the last frame ends that the index of an MP4 or MOV file lists; 0 for other files."""
    if not stream.container.format.name.startswith("mov,"):
        return 0
    return max((entry.pos + entry.size for entry in stream.index_entries), default=0)


def _declared_size(path: Path) -> int:
    """Bytes of an AVI, Matroska (WebM), ASF (WMV), FLV or MP4 (MOV) file as it says; 0 where nothing does."""
    with path.open("rb") as file:
        head = file.read(4096)
        if head[4:8] in _BOXES:
            return _last_box_end(file)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return int.from_bytes(head[4:8], "little") + 8
    if head.startswith(_EBML) and (at := head.find(_SEGMENT) + 4) > 4:
        length, size = _variable_integer(head[at : at + 8])
        return 0 if size is None else at + length + size
    if head.startswith(_ASF_HEADER) and (at := head.find(_ASF_FILE_PROPERTIES)) >= 0:
        return int.from_bytes(head[at + 40 : at + 48], "little")  # behind GUID, size of the object, file's id
    if head[:3] == b"FLV" and (at := head.find(b"\0\x08filesize\0")) >= 0 and len(head) >= at + 19:
        size = struct.unpack(">d", head[at + 11 : at + 19])[0]
        return int(size) if math.isfinite(size) else 0
    return 0


def _last_box_end(file: IO[bytes]) -> int:
    """Where the last of the boxes that an MP4 or MOV file consists of ends, as their sizes say; 0 where it is open."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(16)
        size = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if head[4:8] not in _BOXES or size < 8:  # nothing more, something else behind the boxes, or one without a size
            return end
        end += size


def _gap_of_elements(path: Path) -> int | None:
    """Where the chain of elements of a Matroska file breaks, or its length where the last is cut; None where it holds.

    Segment and clusters are entered, all other elements passed over by their size.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        if file.read(4) != _EBML:
            return None
        at, end = 0, size
        while at < end:
            file.seek(at)
            head = file.read(12)
            id_length = 9 - head[0].bit_length()
            length, content = _variable_integer(head[id_length:])
            if id_length > 4 or length > 8:
                return at
            name, data = head[:id_length], at + id_length + length
            if name == _SEGMENT and content is not None:
                end = min(size, data + content)
            if name not in (_SEGMENT, _CLUSTER):
                if content is None:
                    return at
                data += content
            at = data
    return size if at > size else None


def _variable_integer(data: bytes) -> tuple[int, int | None]:
    """Length of the EBML integer at the start of ``data``, and its value; None where it stands for an open end."""
    length = 9 - data[0].bit_length() if data else 9  # its leading zeros tell its length
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(data[:length], "big") & mask
    return length, None if value == mask else value


def _ogg_ended(path: Path) -> bool:
    """Whether the last page of an Ogg file is complete and marked as the last one; True for other files."""
    with path.open("rb") as file:
        if file.read(4) != _OGG:
            return True
        file.seek(max(0, path.stat().st_size - _OGG_PAGE))
        tail = file.read()
    page = tail[tail.rfind(_OGG) :]
    if len(page) < 27:
        return False
    segments = page[27 : 27 + page[26]]
    return bool(page[5] & 4) and len(page) == 27 + page[26] + sum(segments)
