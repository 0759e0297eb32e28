"""Video files read with PyAV (FFmpeg's libraries): exact times, upright frames, and where a file stops being sound.

FFmpeg conceals damage. Here decoding stops at the first packet that the demuxer or decoder calls damaged, and the file
is held against the number of bytes that it declares. Whatever FFmpeg raises is a ``ReadError`` that names the file.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ReadError, reading
from ...core.regular import open_regular
from ...core.text import shortened
from .clock import Clock, Stamped
from .colours import matrix_note, to_rgb, turn_of, upright
from .declared import duration_estimate, fault_of, frames_estimate, missing_estimate
from .facts import Damaged, VideoFacts
from .frames import Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

SEEK_FROM = 10.0
"""Seconds from which on ``start`` is sought instead of decoded up to."""

_CONTAINERS = ",".join(
    (
        *("mov", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "m4v", "mxf", "h264", "hevc", "vvc", "obu"),
        *("vc1", "ivf", "yuv4mpegpipe", "asf", "flv", "live_flv", "ogg", "rm", "nut", "dv", "gxf", "wtv", "mpegtsraw"),
    )
)
"""FFmpeg's names of the formats that are opened: files of pictures, none of which names other files as lists do."""
_NO_TIMESTAMPS, MAY_LEAP = 0x80, 0x200  # AVFMT_NOTIMESTAMPS, AVFMT_TS_DISCONT
_JOINED_WITHIN = 3
"""Packets behind a gap of the counters, within which a key frame begins where streams are joined."""
_HDR = {16: "PQ", 18: "HLG"}  # AVColorTransferCharacteristic


def require_av() -> Any:
    """The module ``av``. Raises ``ValueError`` where it is not installed."""
    try:
        import av
    except ImportError:
        raise ValueError("video files need PyAV: pip install 'atoken[video]'") from None
    return av


@contextmanager
def ffmpeg_reading(path: Path) -> Iterator[None]:
    """The boundary around FFmpeg: its errors, of which many pass for those of the disk, become ``ReadError``."""
    av = require_av()
    with reading(path):
        try:
            yield
        except av.FFmpegError as error:
            reason = shortened(error.strerror or error)
            raise ReadError(
                f"{path} is damaged or not what its name says ({reason}): save or download it again"
            ) from error


def probe(path: Path, max_pixels: int) -> VideoFacts:
    """What the header and the first frame say. Raises ``ReadError`` where there is none, or one is too large."""
    with ffmpeg_reading(path), opened(path) as container:
        stream = _pictures(path, container)
        _check_pixels(path, stream.codec_context, max_pixels)
        try:
            for frame in _decoded(container, stream):
                _check_pixels(path, frame, max_pixels)
                return _facts(container, stream, frame)
        except Damaged as damage:
            raise ReadError(
                f"{path} is damaged before its first whole frame ({damage.reason}): save or download it again"
            ) from damage
        raise ReadError(f"{path} has a video stream without a single frame that can be decoded")


def decode(path: Path, start: float | None, max_pixels: int) -> Iterator[Frame]:
    """Frames in the order of their times, which count from the first one; seeks near ``start`` where that is far.

    Raises ``Damaged`` after the last sound frame.
    """
    with ffmpeg_reading(path), opened(path) as container:
        stream = _pictures(path, container)
        base = None
        if start is not None and start > SEEK_FROM:
            base = _sought(container, stream, start)
            if base is None:
                yield from decode(path, None, max_pixels)  # no index to seek by
                return
        found: list[Damaged] = []
        held, count, end = None, 0, 0.0

        def sound() -> Iterator[Stamped]:
            """Frames up to the damage, which is kept: the clock still has to let go of those before it."""
            try:
                yield from _stamped(path, container, stream, max_pixels)
            except Damaged as damage:
                found.append(damage)

        leaps = bool(container.format.flags & MAY_LEAP)
        clock = Clock(base, may_leap=leaps, note=partial(_warn, path))
        for time, frame in clock.times(sound()):
            if held is not None:
                yield Frame(float(held[0]), held[1].pixels, float(time - held[0]))
            held = time, frame
            count += 1
        if held is not None:
            end = float(held[0] + held[1].duration)
            yield Frame(float(held[0]), held[1].pixels, float(held[1].duration))
        missing = missing_estimate(container, stream, count, end) if base is None else None
        if found:
            raise Damaged(found[0].reason, missing) from found[0]
        if fault := fault_of(path, stream):
            raise Damaged(fault, missing or None)


def _warn(path: Path, note: str) -> None:
    warnings.warn(f"{path}: {note}", stacklevel=3)


def _stamped(path: Path, container: InputContainer, stream: Any, max_pixels: int) -> Iterator[Stamped]:
    """Decoded frames with their stamps. Raises ``Damaged`` behind the last sound one."""
    stamped = not container.format.flags & _NO_TIMESTAMPS
    unit = stream.time_base or Fraction(1, 1000)
    step = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    rotation, turn = None, (1, 0, 0, 1)
    joints: deque[int] = deque()
    before: int | None = None
    for frame in _decoded(container, stream, joints, partial(_warn, path)):
        if frame.is_corrupt:
            raise Damaged("a frame cannot be decoded", None)
        _check_pixels(path, frame, max_pixels)
        if frame.rotation != rotation:  # side data tie a frame into a cycle, which keeps its memory for long
            rotation, turn = frame.rotation, turn_of(frame)
        joined = False
        if frame.key_frame and frame.pts is not None and before is not None and frame.pts <= before:
            joined = frame.pts in joints
            joints.clear()
        before = frame.pts
        stamp = frame.pts * unit if stamped and frame.pts is not None else None
        duration = (frame.duration or 0) * unit if stamped else step
        yield Stamped(stamp, duration if duration > 0 else step, upright(to_rgb(frame), turn), joined)


def _sought(container: InputContainer, stream: Any, start: float) -> Fraction | None:
    """The stamp of the first frame, with the container set to a key frame before ``start``; None where it cannot be.

    Formats whose stamps may start anew are not sought, as a time does not say where it is.
    """
    import av

    if container.format.flags & (_NO_TIMESTAMPS | MAY_LEAP):
        return None
    unit = stream.time_base or Fraction(1, 1000)

    def next_time() -> Fraction | None:
        frame = next(_decoded(container, stream), None)
        return None if frame is None or frame.pts is None else frame.pts * unit

    try:
        first = next_time()
        if first is None:
            return None
        for earlier in (0, Fraction(SEEK_FROM)):
            target = int((first + Fraction(start) - earlier) / unit)
            container.seek(target, stream=stream, backward=True)
            landed = next_time()
            if landed is not None and landed <= first + Fraction(start):
                container.seek(target, stream=stream, backward=True)
                return first
    except (av.FFmpegError, Damaged):
        pass
    return None


def _packets(
    container: InputContainer, stream: Any, joints: deque[int] | None, note: Any
) -> Iterator[tuple[Any, bool]]:
    """Each packet, and whether it is whole. ``joints`` gets the stamps of the key frames where streams are joined.

    Joined transport streams look like a loss of packets: their counters start anew. There a key frame follows.
    """
    source, ahead = container.demux(stream), deque[Any]()
    while (packet := ahead.popleft() if ahead else next(source, None)) is not None:
        whole = not packet.is_corrupt
        if not whole and container.format.name == "mpegts":
            while len(ahead) < _JOINED_WITHIN and (following := next(source, None)) is not None:
                ahead.append(following)
            key = next((other for other in ahead if other.is_keyframe), None)
            whole = key is not None
            if key is not None and joints is not None:
                if key.pts is not None:
                    joints.append(key.pts)
                note("its packet counters jump, as where streams are joined or packets are lost before a key frame")
        yield packet, whole


def _decoded(
    container: InputContainer, stream: Any, joints: deque[int] | None = None, note: Any = None
) -> Iterator[VideoFrame]:
    """The frames; packets before the first whole one may fail.

    Raises ``Damaged`` at the first error after that, when the frames that the decoder still held are out.
    """
    import av

    packet, any_frame = None, False
    packets = _packets(container, stream, joints, note)
    while True:
        try:
            packet, whole = next(packets, (None, True))
            if packet is None:
                return
            if not whole:
                raise ValueError("a packet is not complete")
            if not packet.size and packet.dts is not None:
                continue  # an empty packet: the frame before stays
            frames = packet.decode()
        except (av.FFmpegError, ValueError) as error:
            if not any_frame and packet is not None:
                continue
            yield from _flushed(stream)
            raise Damaged(shortened(getattr(error, "strerror", None) or error), None) from error
        for frame in frames:
            any_frame = True
            yield frame


def _flushed(stream: Any) -> list[Any]:
    import av

    try:
        return list(stream.codec_context.decode(None))
    except (av.FFmpegError, ValueError):
        return []


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """The container. Raises ``ReadError`` or ``FileNotFoundError``; use it inside of ``ffmpeg_reading``."""
    av = require_av()
    with open_regular(path) as file:  # the error of the system, with its words, where it cannot be read
        if not file.read(1):
            raise ReadError(f"{path} is empty (0 bytes): save or download it again")
    try:
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        reason = shortened(getattr(error, "strerror", None) or error)
        raise ReadError(
            f"{path} is not a video, or is truncated before its index ({reason}): save or download it again"
        ) from error
    with container:
        yield container


def main_stream(streams: Any) -> Any:
    """Of streams of one kind the one that players show or play: marked as default, else the first; None for none.

    Cover art, thumbnails and what cannot be decoded are passed over.
    """
    import av

    kinds = av.stream.Disposition
    still = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    usable = [s for s in streams if not s.disposition & still and s.codec_context is not None]
    return next((s for s in usable if s.disposition & kinds.default), usable[0] if usable else None)


def _pictures(path: Path, container: InputContainer) -> Any:
    """The video stream to read. Raises ``ReadError`` where there is none."""
    stream = main_stream(container.streams.video)
    if stream is None:
        others = ", ".join(dict.fromkeys(s.type for s in container.streams)) or "nothing"
        raise ReadError(f"{path} has no video stream that can be decoded: it holds {others}")
    stream.thread_type = "SLICE"  # with threads over frames, an error would swallow frames before it
    return stream


def _check_pixels(path: Path, shape: Any, max_pixels: int) -> None:
    if shape.width * shape.height > max_pixels:
        raise ReadError(
            f"{path} has {shape.width * shape.height} pixels a frame, more than the limit of {max_pixels}: "
            "if you trust it, raise max_pixels (--max-pixels)"
        )


def _facts(container: InputContainer, stream: Any, frame: VideoFrame) -> VideoFacts:
    height, width, _ = upright(np.empty((frame.height, frame.width, 3), np.uint8), turn_of(frame)).shape
    audio = main_stream(container.streams.audio)
    return VideoFacts(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        fps=float(stream.average_rate) if stream.average_rate else None,
        frames=frames_estimate(stream),
        pixel_format=frame.format.name,
        audio=audio.codec_context.codec.canonical_name if audio else None,
        rotation=-frame.rotation % 360,
        seconds=duration_estimate(container, stream),
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
    if note := matrix_note(frame):
        yield note
