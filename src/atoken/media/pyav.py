"""Video files read with PyAV (FFmpeg's libraries): exact times, upright frames, and where a file stops being sound.

FFmpeg conceals damage. Here decoding stops at the first packet that the demuxer or decoder calls damaged, and what
arrives is held against the number of packets or the duration that the container declares.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from .facts import Damaged, VideoFacts
from .frames import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

SEEK_FROM = 10.0
"""Seconds from which on ``start`` is sought instead of decoded up to."""

_NOT_VIDEO = ("tty", "ass", "srt", "webvtt", "hls", "concat")
_WITH_DURATION = ("mov,", "matroska", "avi", "ivf", "mxf", "rm")
"""Containers whose headers have the duration; others' FFmpeg estimates, or takes from what is left of the file."""
_EBML, _SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip")
_OGG, _OGG_PAGE = b"OggS", 27 + 255 + 255 * 255  # the longest page
_NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS
_UNSPECIFIED, _BT709 = 2, 1  # AVColorSpace
_HDR = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic


def require_av() -> Any:
    """The module ``av``. Raises ``ValueError`` where it is not installed."""
    try:
        import av
    except ImportError:
        raise ValueError("video files need PyAV: pip install 'atoken[video]'") from None
    return av


def probe(path: Path, max_pixels: int) -> VideoFacts:
    """What the header and the first frame say. Raises ``ValueError`` where there is none."""
    with _opened(path) as (container, stream):
        for _, frame in _decoded(container, stream):
            if frame is not None:
                return _facts(path, container, stream, frame, max_pixels)
        raise ValueError(f"{path} has a video stream without a single frame that can be decoded")


def decode(path: Path, start: float | None = None) -> Iterator[Frame]:
    """Frames in the order of their times, which count from the first one; seeks near ``start`` where that is far.

    Raises ``Damaged`` after the last sound frame.
    """
    with _opened(path) as (container, stream):
        clock = _Clock(container, stream)
        if start is not None and start > SEEK_FROM and not _sought(container, stream, clock, start):
            yield from decode(path)  # no index to seek by
            return
        whole, packets, count = clock.base is None, 0, 0
        held: Frame | None = None
        rotation, turn = None, (1, 0, 0, 1)
        try:
            for _, frame in _decoded(container, stream):
                if frame is None:
                    packets += 1
                    continue
                if frame.is_corrupt:
                    raise Damaged("a frame cannot be decoded", None)
                if frame.rotation != rotation:  # side data tie a frame into a cycle, which keeps its memory for long
                    rotation, turn = frame.rotation, _turn(frame)
                time, duration = clock.read(frame)
                if held is not None:
                    yield held._replace(duration=time - held.time)
                held = Frame(time, _upright(_rgb(frame), turn), duration)
                count += 1
        except Damaged as damage:
            if held is not None:
                yield held
            raise Damaged(damage.reason, _missing(container, stream, count, held) if whole else None) from None
        if held is not None:
            yield held
        _check_end(path, _missing(container, stream, packets, held) if whole else None)


def _check_end(path: Path, missing: int | None) -> None:
    """Raise ``Damaged`` where bytes are missing that the header counts, or frames, or the end mark of an Ogg file.

    Not for the frames of an AVI: its number counts those that were left out.
    """
    declared, avi = _declared_size(path)
    if path.stat().st_size < declared or (missing and not avi) or not _ogg_ended(path):
        raise Damaged("the file ends early", missing or None)


class _Clock:
    """Times of frames in seconds, exact until the last step, where the container has them; else one frame further.

    A raw stream has none: what FFmpeg makes up for it leaves out steps.
    """

    def __init__(self, container: InputContainer, stream: Any) -> None:
        self.stamped = not container.format.flags & _NO_TIMESTAMPS
        self.unit = stream.time_base or Fraction(1, 1000)
        rate = stream.average_rate or stream.guessed_rate or 25
        self.step = 1 / Fraction(rate)
        self.base: Fraction | None = None
        self.last = Fraction(-1)

    def read(self, frame: VideoFrame) -> tuple[float, float]:
        """Time and duration of the next frame."""
        duration = (frame.duration or 0) * self.unit or self.step
        shown = frame.pts * self.unit if self.stamped and frame.pts is not None else None
        if self.base is None:
            self.base = shown if shown is not None else Fraction(0)
        time = None if shown is None else shown - self.base
        if time is None or time <= self.last:
            time = self.last + self.step if self.last >= 0 else Fraction(0)
        self.last = time
        return float(time), float(duration)


def _sought(container: InputContainer, stream: Any, clock: _Clock, start: float) -> bool:
    """Whether the container could be set to a key frame before ``start``; MPEG-TS may land behind it."""
    import av

    def next_time() -> Fraction | None:
        frame = next((f for _, f in _decoded(container, stream) if f is not None), None)
        return None if frame is None or frame.pts is None else frame.pts * clock.unit

    try:
        first = next_time() if clock.stamped else None
        if first is None:
            return False
        clock.base = first
        for earlier in (0, Fraction(SEEK_FROM)):
            target = int((first + Fraction(start) - earlier) / clock.unit)
            container.seek(target, stream=stream, backward=True)
            landed = next_time()
            if landed is not None and landed <= first + Fraction(start):
                container.seek(target, stream=stream, backward=True)
                return True
    except (av.FFmpegError, Damaged):
        pass
    return False


def _decoded(container: InputContainer, stream: Any) -> Iterator[tuple[Any, VideoFrame | None]]:
    """Each packet with None, then the frames that it completed; packets before the first whole frame may fail.

    Raises ``Damaged`` at the first error after that, when the frames that the decoder still held are out.
    """
    import av

    packet, any_frame = None, False
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if packet.is_corrupt:
                raise ValueError("a packet is not complete")
            if packet.size:
                yield packet, None
            elif packet.dts is not None:
                continue  # an empty packet: the frame before stays
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            if not any_frame and packet is not None:
                continue
            yield from ((packet, frame) for frame in _flushed(stream))
            raise Damaged(getattr(error, "strerror", None) or str(error), None) from error
        for frame in frames:
            any_frame = True
            yield packet, frame


def _flushed(stream: Any) -> list[Any]:
    import av

    try:
        return list(stream.codec_context.decode(None))
    except (av.FFmpegError, ValueError):
        return []


def _missing(container: InputContainer, stream: Any, seen: int, last: Frame | None) -> int | None:
    """How many frames the container declares beyond those seen; None where it does not tell."""
    if stream.frames:
        return max(0, stream.frames - seen)
    duration = _declared_duration(container, stream)
    if duration is None or last is None:
        return None
    step = float(1 / stream.average_rate) if stream.average_rate else last.duration
    missing = (duration - last.time - last.duration) / step if step else 0.0
    return max(0, round(missing)) if missing > 1.5 else 0


def _declared_size(path: Path) -> tuple[int, bool]:
    """Bytes of an AVI, Matroska (WebM), ASF (WMV), FLV or MP4 (MOV) file as it says, else 0; whether it is an AVI."""
    with path.open("rb") as file:
        head = file.read(4096)
        if head[4:8] in _BOXES:
            return _last_box_end(file), False
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return int.from_bytes(head[4:8], "little") + 8, True
    if head.startswith(_EBML) and (at := head.find(_SEGMENT) + 4) > 4:
        length = 9 - head[at].bit_length()  # the leading zeros of a variable-length integer tell its length
        size, open_ended = int.from_bytes(head[at : at + length], "big"), (1 << 7 * length) - 1
        size &= open_ended
        return (0 if size == open_ended else at + length + size), False
    if head.startswith(_ASF_HEADER) and (at := head.find(_ASF_FILE_PROPERTIES)) >= 0:
        return int.from_bytes(head[at + 40 : at + 48], "little"), False  # behind GUID, size of the object, file's id
    if head[:3] == b"FLV" and (at := head.find(b"\0\x08filesize\0")) >= 0:
        return int(struct.unpack(">d", head[at + 11 : at + 19])[0]), False
    return 0, False


def _last_box_end(file: IO[bytes]) -> int:
    """Where the last of the boxes that an MP4 or MOV file consists of ends, as their sizes say; 0 where it is open."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(16)
        size = int.from_bytes(head[8:16] if head[:4] == b"\0\0\0\1" else head[:4], "big")
        if not head[4:8].isalnum() or size < 8:  # nothing more, something else behind the boxes, or one without a size
            return end
        end += size


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


def _declared_duration(container: InputContainer, stream: Any) -> float | None:
    """Seconds of the video stream as the container has them: the stream's own, a Matroska tag, or the file's."""
    if not container.format.name.startswith(_WITH_DURATION):
        return None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):
        hours, minutes, seconds = tag.split(":")
        first = float((stream.start_time or 0) * stream.time_base)
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - first
    alone = len(container.streams) == 1
    stored = container.format.name.startswith("matroska")  # others estimate it
    return container.duration / 1e6 if alone and stored and container.duration else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, Any]]:
    """The container and its first real video stream. Raises ``ValueError`` or ``FileNotFoundError``."""
    av = require_av()
    with path.open("rb") as file:  # the error of the system, with its words, where it cannot be read
        if not file.read(1):
            raise ValueError(f"{path} is empty (0 bytes): save or download it again")
    try:
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise ValueError(
            f"{path} is not a video, or is truncated before its index ({getattr(error, 'strerror', None) or error})"
        ) from error
    with container:
        if container.format.name in _NOT_VIDEO:
            raise ValueError(f"{path} is not a video: it looks like text ({container.format.name})")
        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None]
        if not streams:
            others = ", ".join(dict.fromkeys(s.type for s in container.streams)) or "nothing"
            raise ValueError(f"{path} has no video stream that can be decoded: it holds {others}")
        streams[0].thread_type = "SLICE"  # with threads over frames, an error would swallow frames before it
        yield container, streams[0]


def _facts(path: Path, container: InputContainer, stream: Any, frame: VideoFrame, max_pixels: int) -> VideoFacts:
    if frame.width * frame.height > max_pixels:
        raise ValueError(
            f"{path} has {frame.width * frame.height} pixels a frame, more than the limit of {max_pixels}: "
            "if you trust it, raise max_pixels (--max-pixels)"
        )
    height, width, _ = _upright(np.empty((frame.height, frame.width, 3), np.uint8), _turn(frame)).shape
    audio = container.streams.audio
    return VideoFacts(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        fps=float(stream.average_rate) if stream.average_rate else None,
        frames=stream.frames or None,
        pixel_format=frame.format.name,
        audio=audio[0].codec_context.codec.canonical_name if audio and audio[0].codec_context else None,
        rotation=-frame.rotation % 360,
        notes=tuple(_notes(stream, frame)),
    )


def _notes(stream: Any, frame: VideoFrame) -> Iterator[str]:
    depth = max(component.bits for component in frame.format.components)
    if frame.interlaced_frame:
        yield "interlaced: both fields stay woven into one frame, as stored; deinterlace first if that disturbs"
    if depth > 8:
        yield f"{depth} bits a colour: rounded to 8"
    if frame.color_trc in _HDR:
        yield f"HDR ({_HDR[frame.color_trc]}): the values are taken as they are, without tone mapping"
    if any(component.is_alpha for component in frame.format.components):
        yield "transparent: the transparency is dropped"
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        yield f"its pixels are not square ({aspect.numerator}:{aspect.denominator}): frames stay as stored"


def _rgb(frame: VideoFrame) -> np.ndarray:
    """uint8 [H, W, 3]. Untagged colours are BT.709 from 720 rows on, else BT.601, as players take them."""
    from av.video.reformatter import Interpolation

    exact = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    untagged_hd = frame.colorspace == _UNSPECIFIED and frame.height >= 720 and not frame.format.is_rgb
    colours = frame.reformat(
        format="rgb24", src_colorspace=_BT709 if untagged_hd else None, interpolation=int(exact), threads=1
    )
    return colours.to_ndarray()


def _turn(frame: VideoFrame) -> tuple[int, int, int, int]:
    """The linear part (a, b, c, d) of the display matrix: column' = a column + c row, row' = b column + d row.

    Angles other than quarter turns count as none.
    """
    side_data: Iterable[Any] = frame.side_data  # a mapping whose iterator gives the values
    for data in side_data:
        if data.type.name == "DISPLAYMATRIX":
            values = struct.unpack("=9i", bytes(data)[:36])
            a, b, c, d = (round(values[i] / 65536) for i in (0, 1, 3, 4))
            if sorted(map(abs, (a, b, c, d))) == [0, 0, 1, 1] and abs(a * d - b * c) == 1:
                return a, b, c, d
    return 1, 0, 0, 1


def _upright(rgb: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    a, b, c, d = turn
    if b:
        rgb, a, d = rgb.swapaxes(0, 1), c, b
    return np.ascontiguousarray(rgb[::d, ::a])
