"""Files that are not what they say, or that unpack to more than a server has."""

import struct
import zlib
from pathlib import Path

from media import numbered_frames, write_video


def gif(width: int, height: int, frames: int) -> bytes:
    """A canvas and so many frames of one pixel."""
    head = b"GIF89a" + struct.pack("<HH", width, height) + bytes([0x80, 0, 0]) + bytes(6)
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0" + b"\x02\x02\x44\x01\0"
    return head + frame * frames + b"\x3b"


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def write_hostile(folder: Path) -> dict[str, str]:
    """Path -> what is said of it."""
    said = {}

    def write(name: str, content: bytes, sentence: str) -> None:
        (folder / name).write_bytes(content)
        said[str(folder / name)] = sentence

    write("text.mp4", b"this is not what its name says\n" * 20, "is not a video or image that can be decoded")
    write("empty.mp4", b"", "is an empty file")
    write("canvas.gif", gif(65535, 65535, 1), "too large")
    write("canvas_below_pillows_limit.gif", gif(9000, 9000, 1), "is 9000 x 9000 pixels large")
    write("frames.gif", gif(1, 1, 300_000), "has more than 1800 frames")
    write("canvas_times_frames.gif", gif(4000, 4000, 1000), "too much to unpack")
    write("canvas.png", png(100_000, 100_000), "too large")
    write("pixels.png", png(9_000, 9_000), "at most 50 million pixels")
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"
    write("playlist.mp4", playlist, "is not a video or image that can be decoded")
    write("big.mp4", bytes(21 * 2**20), "MB")

    # Two frames, ten hours apart; and a short video whose header alone says so.
    path = folder / "ten_hours.mp4"
    write_video(path, numbered_frames(2), milliseconds=[0, 36_000_000])
    said[str(path)] = "says that it lasts 36000 seconds"
    video = bytearray(write_video(folder / "short.mp4", numbered_frames(5)).read_bytes())
    for box, duration in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):  # where it stands, after the box's name begins
        at = video.index(box)
        scale = int.from_bytes(video[at + 16 : at + 20], "big") if box != b"tkhd" else 1000
        video[at + duration : at + duration + 4] = (36_000 * scale).to_bytes(4, "big")
    (folder / "short.mp4").unlink()
    write("ten_hours_header.mp4", bytes(video), "says that it lasts 36000 seconds")
    many = write_video(
        folder / "many_frames.mp4", numbered_frames(1, 16, 16).repeat(1900, axis=0), milliseconds=range(1900)
    )
    said[str(many)] = "has more than 1800 frames"
    return said
