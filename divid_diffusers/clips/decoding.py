"""
Frames out of video files: of the stream that is the video, as the container says they are shown, none of them damaged
as far as the decoder tells.

Not all damage can be told: what changed bits decode to may be as legal as what was meant, which is so of most damage
in VP9 and of some in H.264, HEVC and AV1. Of FFV1, whose frames have checksums, FFmpeg's log tells; it is one for the
whole process, and no frame bears a mark of it.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition


# FFmpeg also "plays" playlists and scripts that name other files or hosts; an uploaded file must not reach those.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,nut,ivf,dv,yuv4mpegpipe,mxf"
# Cover art, a player's thumbnails, and tiles of a larger picture.
NOT_THE_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.dependent
# FFmpeg's own decoders of these pass over the transparency that WebM keeps beside the picture.
DECODERS_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
MAX_ASPECT = 10  # of a pixel: beyond it a header is damaged, and no screen is meant


@contextlib.contextmanager
def open_video(path: Path, name: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and the stream that is its video; what FFmpeg raises within becomes a ValueError that says so."""
    if is_cut_short(path):
        raise ValueError(f"{name} is cut short: copy or download it again.")
    try:
        with _opened(path) as container:
            index = _index_of_video(container, name)
        with _opened(path) as container:  # anew, for looking at the streams may have read on
            stream = container.streams[index]
            if stream.codec_context.name == "mjpeg":
                # else it shows what it can of a broken picture, and marks nothing
                stream.codec_context.options = {"err_detect": "explode"}
            try:
                yield container, stream
            except av.InvalidDataError as error:
                raise ValueError(f"{name} is damaged: copy or download it again.") from error
    except av.FFmpegError as error:
        raise ValueError(f"{name} is not a video or image that can be decoded ({error.strerror}).") from error


def decoded(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """The frames of a stream from where the container stands, damaged ones included."""
    decoder = DECODERS_WITH_ALPHA.get(stream.codec_context.name)
    if decoder is None or stream.metadata.get("alpha_mode") != "1":
        yield from container.decode(stream)
        return
    context = av.CodecContext.create(decoder, "r")
    context.extradata = stream.codec_context.extradata
    for packet in container.demux(stream):
        yield from context.decode(packet)


def video_frame(frame: av.VideoFrame, stream: av.VideoStream, name: str) -> np.ndarray:
    """
    RGB `(H, W, 3)` uint8 as a player shows it: pixels made square, turned and mirrored as the camera noted,
    transparency laid on black. Raises ValueError, with `name`, for a frame that the decoder could not read whole and
    filled with what it guessed.
    """
    check_whole(frame, name)
    transparent = frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components)
    aspect = stream.sample_aspect_ratio or 1
    stretch = float(aspect) if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1
    pixels = frame.to_ndarray(
        format="rgba" if transparent else "rgb24", width=max(1, round(frame.width * stretch)), height=frame.height
    )
    if transparent:
        pixels = ((pixels[..., :3].astype(np.uint16) * pixels[..., 3:] + 127) // 255).astype(np.uint8)
    matrix = next((side for side in frame.side_data if side.type == SideData.DISPLAYMATRIX), None)
    return pixels if matrix is None else _turned(pixels, np.frombuffer(bytes(matrix), np.int32))


def check_whole(frame: av.VideoFrame, name: str) -> None:
    if frame.is_corrupt:
        when = "" if frame.time is None else f" at {frame.time:.2f} s"
        raise ValueError(f"{name} is damaged{when}: copy or download it again.")


def _turned(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """
    By a display matrix (a, b, u, c, d, v, x, y, w), which sends the point (x, y) to (a x + c y, b x + d y), to the
    nearest right angle.
    """
    a, b, _, c, d, *_ = matrix.tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _opened(path: Path) -> av.container.InputContainer:
    # An absolute path, for FFmpeg would read "a:b.mp4" as protocol "a".
    return av.open(str(path.absolute()), options={"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"})


def _index_of_video(container: av.container.InputContainer, name: str) -> int:
    """Of several streams the first that moves, one marked as default before others."""
    candidates = [stream for stream in container.streams.video if not stream.disposition & NOT_THE_VIDEO]
    if not candidates:
        art = ", only pictures that go with it" if container.streams.video else ""
        raise ValueError(f"{name} has no video in it{art}.")
    if len(candidates) == 1:
        return candidates[0].index
    counts = dict.fromkeys((stream.index for stream in candidates), 0)
    for packet in container.demux(candidates):
        counts[packet.stream_index] += packet.size > 0
        if min(counts.values()) > 1:
            break
    return max(
        candidates,
        key=lambda stream: (counts[stream.index] > 1, bool(stream.disposition & Disposition.default), -stream.index),
    ).index


def is_cut_short(path: Path) -> bool:
    """
    Whether the file ends before its container says. FFmpeg plays what there is of such a clip and does not say so.
    """
    length = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(4096)
        if head[4:8] == b"ftyp":
            return _mp4_end(file, length) > length
        if head[:4] == b"RIFF":  # AVI; a size of all ones is unknown
            size = int.from_bytes(head[4:8], "little")
            return size < 2**32 - 1 and 8 + size > length
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska_end(head) > length
    return False


def _mp4_end(file, length: int) -> int:
    position = 0
    while position + 8 <= length:
        file.seek(position)
        head = file.read(16)
        box = int.from_bytes(head[:4], "big")
        if box == 1:
            box = int.from_bytes(head[8:], "big")
        if box < 8:  # 0: to the end of the file
            return length
        position += box
    return position


def _matroska_end(head: bytes) -> int:
    """Where the segment ends; 0 for one of unknown size, as a live recording has."""
    header, start = _ebml_size(head, 4)
    at = start + (header or 0)
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    segment, start = _ebml_size(head, at + 4)
    return start + (segment or 0)


def _ebml_size(content: bytes, at: int) -> tuple[int | None, int]:
    """
    A number whose first byte's leading zeros tell its length, None where all its bits are set; and where what follows
    begins.
    """
    width = 9 - int.from_bytes(content[at : at + 1], "big").bit_length()
    value = int.from_bytes(content[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), at + width
