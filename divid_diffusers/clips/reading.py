"""Frames out of files: videos, animated and still images, folders of frames, and URLs of any of them but the last."""

import contextlib
import http.client
import itertools
import re
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image


# Pillow decodes these; everything else is tried as video.
IMAGE_FORMATS = ("GIF", "PNG", "WEBP", "JPEG", "BMP", "TIFF", "PPM")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
# FFmpeg also "plays" playlists and scripts that name other files or hosts; an uploaded file must not reach those.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,nut,ivf,dv,yuv4mpegpipe,mxf"
MAX_DOWNLOAD_BYTES = 200 * 2**20
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte


def open_source(source: str | Path, name: str) -> Iterator[Image.Image | np.ndarray]:
    if str(source).lower().startswith(("http://", "https://")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip"
            _download(str(source), path)
            yield from _file_frames(path, name)
        return
    path = Path(source).expanduser()
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in FRAME_SUFFIXES and file.name[0] != "."]
        if not files:
            raise ValueError(f"The folder {name} holds no frame images ({', '.join(FRAME_SUFFIXES)}).")
        for file in sorted(files, key=_natural_order):
            yield from itertools.islice(_file_frames(file, f"'{file}'"), 1)
    elif path.is_file():
        yield from _file_frames(path, name)
    else:
        raise FileNotFoundError(f"There is no file or folder {name}.")


def _natural_order(file: Path) -> list[int | str]:
    """frame_2 before frame_10. `re.split` alternates text and digits, so only like is compared with like."""
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(re.split(r"(\d+)", file.name))]


def _file_frames(path: Path, name: str) -> Iterator[Image.Image | np.ndarray]:
    if path.stat().st_size == 0:
        raise ValueError(f"{name} is an empty file.")
    try:
        image = Image.open(path, formats=IMAGE_FORMATS)
    except OSError:  # not an image by its content, whatever its suffix says
        yield from _video_frames(path, name)
        return
    with image:
        yield from image_frames(image, name)


def image_frames(image: Image.Image, name: str) -> Iterator[Image.Image]:
    try:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            yield image.copy()
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{name} is damaged and cannot be decoded ({error}).") from error


def is_cut_short(path: Path) -> bool:
    """Whether an mp4's boxes go on beyond the end of the file. FFmpeg plays what there is of such a clip and does not say so."""
    length, position = path.stat().st_size, 0
    with open(path, "rb") as file:
        if file.read(8)[4:] != b"ftyp":
            return False
        while position + 8 <= length:
            file.seek(position)
            head = file.read(16)
            box = int.from_bytes(head[:4], "big")
            if box == 1:
                box = int.from_bytes(head[8:], "big")
            if box < 8:  # 0: to the end of the file
                return False
            position += box
    return position > length


@contextlib.contextmanager
def open_video(path: Path, name: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The container and its first video stream; what FFmpeg raises within becomes a ValueError that says so."""
    if is_cut_short(path):
        raise ValueError(f"{name} is cut short: copy or download it again.")
    # An absolute path, for FFmpeg would read "a:b.mp4" as protocol "a".
    try:
        with av.open(str(path.absolute()), options={"format_whitelist": VIDEO_FORMATS}) as container:
            if not container.streams.video:
                raise ValueError(f"{name} has no video in it.")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise ValueError(f"{name} is not a video or image that can be decoded ({error.strerror}).") from error


def video_frame(frame: av.VideoFrame) -> np.ndarray:
    """RGB `(H, W, 3)` uint8, turned upright as the camera noted."""
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _video_frames(path: Path, name: str) -> Iterator[np.ndarray]:
    with open_video(path, name) as (container, stream):
        yield from map(video_frame, container.decode(stream))


def _download(url: str, path: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "divid_diffusers"})
    try:
        with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT) as response, open(path, "wb") as file:
            announced = int(response.headers.get("Content-Length") or 0)
            received = 0
            while chunk := response.read(2**20):
                received += len(chunk)
                if max(announced, received) > MAX_DOWNLOAD_BYTES:
                    raise ValueError(
                        f"'{url}' is larger than {MAX_DOWNLOAD_BYTES} bytes: download it and pass the path."
                    )
                file.write(chunk)
            if received < announced:
                raise OSError(f"the connection ended after {received} of {announced} bytes")
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"Could not download '{url}': {error}.") from error
