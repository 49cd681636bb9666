"""From what people have (files, URLs, PIL, NumPy, torch) to the tensors the models take, and back.

Why not `diffusers.video_processor.VideoProcessor`: it maps a uint8 tensor to [-1, 507], squashes a frame into another
aspect ratio, orders axes as (B, C, F, H, W) and reads no files. What it promises is kept: float input and the "np" and
"pt" outputs are in [0, 1], and a float torch tensor with negative values is taken to be in [-1, 1] already.

Values in: uint8 in [0, 255], uint16 in [0, 65535], float in [0, 1] (torch also [-1, 1]). NumPy frames are
(height, width, channels), torch frames (channels, height, width), both with 1 (grey), 3 (RGB) or 4 (RGBA) channels.
Transparent pixels are laid on black; RGB becomes grey by the luma weights of ITU-R 601, as PIL's "L". Everything is
computed in float, so the same picture gives the same tensor whichever type it came in.
"""

import http.client
import itertools
import math
import os
import re
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps


# Pillow decodes these; everything else is tried as video.
IMAGE_FORMATS = ("GIF", "PNG", "WEBP", "JPEG", "BMP", "TIFF", "PPM")
FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm")
# FFmpeg also "plays" playlists and scripts that name other files or hosts; an uploaded file must not reach those.
VIDEO_FORMATS = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,nut,ivf,dv,yuv4mpegpipe,mxf"
MAX_DOWNLOAD_BYTES = 200 * 2**20
DOWNLOAD_TIMEOUT = 30.0  # seconds without a byte
TOLERANCE = 1e-3  # a quarter of an 8-bit step: what rounding and half precision may leave outside the range


class ClipProcessor:
    """Turns clips into model input and model output into clips. It has no state: sizes come with each call."""

    def preprocess(
        self,
        clips: Any,
        size: int | tuple[int, int],
        num_channels: int = 3,
        device: str | torch.device | None = None,
    ) -> list[torch.Tensor]:
        """One clip or a batch of clips, each cropped and resized to `size`.

        One clip is a path or URL of a video, GIF, animated WebP/PNG or image, a folder of frames (in natural order), a
        PIL image, a 4-D array or tensor, or a list of *frames* (PIL images, 2-D or 3-D arrays or tensors). A batch is
        a 5-D array or tensor, or a list of *clips*. So a list of images is one clip, a list of paths is a batch.

        The frame is cropped around its centre to the largest rectangle of the target's aspect ratio, then resized
        bilinearly with antialiasing (which never leaves the range of its input). Frames of the target size are not
        touched.

        Args:
            clips: one clip or a batch; see the module's docstring for layouts and value ranges.
            size: (height, width), or one number for both.
            num_channels: 1 for grey, 3 for RGB.
            device: where the tensors go; by default they stay where they are (files, PIL and NumPy: the CPU).

        Returns:
            A list with one float32 tensor (frames, channels, height, width) in [-1, 1] per clip. Clips may differ in
            length, so they are not stacked.

        Raises:
            FileNotFoundError, TypeError, ValueError: in one sentence that names the file, clip or frame.
        """
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise ValueError(f"`size` must be positive, but is {size}.")
        if num_channels not in (1, 3):
            raise ValueError(f"`num_channels` must be 1 (grey) or 3 (RGB), but is {num_channels}.")
        # Decided once for the whole input: one bright clip of a batch in [-1, 1] may have no negative value.
        signed = _has_negative_tensor(clips)
        tensors = []
        for clip, name in _split_batch(clips):
            frames = [
                crop_and_resize(_to_channels(frame, num_channels), height, width).to(device)
                for frame in _read_frames(clip, name, signed)
            ]
            tensors.append((torch.stack(frames) * 2 - 1).clamp(-1, 1))  # resizing may round just past 1
        return tensors

    def postprocess(
        self, frames: torch.Tensor, output_type: str = "pil"
    ) -> list[list[Image.Image]] | np.ndarray | torch.Tensor:
        """Model output to what people use.

        Args:
            frames: (batch, frames, channels, height, width) in [-1, 1]; values beyond are clamped.
            output_type: "pil", "np" or "pt".

        Returns:
            "pil": a list of clips, each a list of "L" or "RGB" images; "np": float32 (batch, frames, height, width,
            channels) in [0, 1]; "pt": float32 (batch, frames, channels, height, width) in [0, 1].

        Raises:
            ValueError: another number of dimensions or channels, or another `output_type`.
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f'`output_type` must be "pil", "np" or "pt", but is {output_type!r}.')
        if frames.ndim != 5 or frames.shape[2] not in (1, 3):
            raise ValueError(
                "`frames` must be (batch, frames, 1 or 3 channels, height, width), but has shape "
                f"{tuple(frames.shape)}."
            )
        frames = (frames.detach().float() / 2 + 0.5).clamp(0, 1)
        if output_type == "pt":
            return frames
        if output_type == "np":
            return frames.permute(0, 1, 3, 4, 2).cpu().numpy()
        return [[_to_pil(frame) for frame in clip] for clip in frames]


def load_clip(source: str | Path | Image.Image | Sequence | np.ndarray | torch.Tensor) -> list[Image.Image]:
    """The frames of one clip (anything `ClipProcessor.preprocess` takes as one) at their own size, all "L" or "RGB".

    Raises:
        FileNotFoundError, TypeError, ValueError: as `ClipProcessor.preprocess`.
    """
    images = [_to_pil(frame) for frame in _read_frames(source, "the clip", _has_negative_tensor(source))]
    # GIFs may mix grey and colour.
    return images if len({image.mode for image in images}) == 1 else [image.convert("RGB") for image in images]


def export_clip(frames: Any, path: str | Path, fps: float = 10) -> Path:
    """Writes one clip (anything `ClipProcessor.preprocess` takes as one) as a `.gif`, `.mp4` or `.png`.

    `.mp4` is h264 in yuv420p, which browsers play; frames with a short side under 256 are enlarged by a whole number,
    without smoothing, if possible to a size divisible by 16. `.gif` keeps grey exactly and colour in 256 colours;
    equal neighbouring frames are stored as one that is shown longer. `.png` is a strip of the frames side by side.

    The file appears whole or not at all: it is written under another name beside `path` and then renamed.

    Returns:
        `path` as a `Path`.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: another suffix, `fps` that is not positive, or frames as `ClipProcessor.preprocess` refuses.
    """
    path = Path(path)
    writers = {".gif": _write_gif, ".mp4": _write_mp4, ".png": _write_strip}
    if path.suffix.lower() not in writers:
        raise ValueError(f"'{path}' must end in .gif, .mp4 or .png.")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"`fps` must be positive, but is {fps}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{path.parent}' to write '{path.name}' into.")
    images = load_clip(frames)
    # Not `tempfile`, whose files only their owner may read.
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix.lower()}")
    try:
        writers[path.suffix.lower()](images, temporary, fps)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def crop_and_resize(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Centre crop to the aspect ratio height:width, then antialiased bilinear resize.

    Args:
        frames: (..., channels, H, W), float.

    Returns:
        (..., channels, height, width).
    """
    old_height, old_width = frames.shape[-2:]
    if (old_height, old_width) == (height, width):
        return frames
    crop_height = min(old_height, max(1, round(old_width * height / width)))
    crop_width = min(old_width, max(1, round(old_height * width / height)))
    top, left = (old_height - crop_height) // 2, (old_width - crop_width) // 2
    frames = frames[..., top : top + crop_height, left : left + crop_width]
    if (crop_height, crop_width) == (height, width):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    flat = F.interpolate(flat, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return flat.reshape(*frames.shape[:-2], height, width)


def _is_frame(item: Any) -> bool:
    return isinstance(item, Image.Image) or (isinstance(item, (np.ndarray, torch.Tensor)) and item.ndim < 4)


def _split_batch(clips: Any) -> list[tuple[Any, str]]:
    """Each clip with the name that messages use for it."""
    if isinstance(clips, (list, tuple)):
        if len(clips) == 0:
            raise ValueError("The list of frames or clips is empty.")
        is_batch = not any(_is_frame(item) for item in clips)
    else:
        is_batch = isinstance(clips, (np.ndarray, torch.Tensor)) and clips.ndim == 5
        if is_batch and len(clips) == 0:
            raise ValueError(f"The batch of shape {tuple(clips.shape)} has no clips.")
    return [(clip, f"clip {i} of the batch") for i, clip in enumerate(clips)] if is_batch else [(clips, "the clip")]


def _has_negative_tensor(clips: Any) -> bool:
    if isinstance(clips, torch.Tensor):
        return clips.is_floating_point() and clips.numel() > 0 and clips.min().item() < -TOLERANCE
    return isinstance(clips, (list, tuple)) and any(_has_negative_tensor(clip) for clip in clips)


def _read_frames(clip: Any, name: str, signed: bool) -> Iterator[torch.Tensor]:
    """The frames of one clip, one at a time so that a long video is never held at full size.

    Yields:
        (channels, H, W) float32 in [0, 1], 1 or 3 channels, all of one size.
    """
    if isinstance(clip, (str, Path)):
        name = f"'{clip}'"
        frames = _open_source(clip, name)
    elif isinstance(clip, Image.Image):
        frames = _image_frames(clip, name)
    elif isinstance(clip, (np.ndarray, torch.Tensor)):
        if clip.ndim != 4:
            layout = "(frames, channels, H, W)" if isinstance(clip, torch.Tensor) else "(frames, H, W, channels)"
            raise ValueError(f"{name} must have 4 dimensions {layout}, but has shape {tuple(clip.shape)}.")
        frames = clip
    elif isinstance(clip, (list, tuple)):
        kinds = {_kind(frame) for frame in clip}
        if len(kinds) > 1 or not all(_is_frame(frame) for frame in clip):
            raise TypeError(
                f"{name} must be a list of only PIL images, only NumPy frames or only torch frames, but holds "
                f"{' and '.join(sorted(kinds))}."
            )
        frames = clip
    else:
        raise TypeError(
            f"{name} must be a path, URL, PIL image, NumPy array, torch tensor or a list of frames, but is a "
            f"{type(clip).__name__}."
        )
    first_size = None
    for i, frame in enumerate(frames):
        frame = _to_unit(frame, f"frame {i} of {name}", signed)
        size = tuple(frame.shape[-2:])
        first_size = first_size or size
        if size != first_size:
            raise ValueError(
                f"All frames of a clip must have one size, but frame 0 of {name} is {first_size[0]}x{first_size[1]} "
                f"and frame {i} is {size[0]}x{size[1]} (height x width)."
            )
        yield frame
    if first_size is None:
        raise ValueError(f"{name} has no frames.")


def _kind(frame: Any) -> str:
    if isinstance(frame, (np.ndarray, torch.Tensor)):
        return f"{frame.ndim}-D {'torch tensors' if isinstance(frame, torch.Tensor) else 'NumPy arrays'}"
    return "PIL images" if isinstance(frame, Image.Image) else type(frame).__name__


def _to_unit(frame: Image.Image | np.ndarray | torch.Tensor, name: str, signed: bool) -> torch.Tensor:
    """One frame as (1 or 3, H, W) float32 in [0, 1]."""
    channels_last = not isinstance(frame, torch.Tensor)
    if isinstance(frame, Image.Image):
        frame = _pil_to_array(frame, name)
    given_type, given_shape = frame.dtype, tuple(frame.shape)
    if isinstance(frame, np.ndarray):
        # torch takes neither foreign byte orders nor negative strides.
        frame = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("="))
        frame = torch.tensor(frame) if frame.dtype.kind in "biufc" and frame.dtype.itemsize <= 8 else None
    if frame is None or not (frame.is_floating_point() or frame.dtype in (torch.uint8, torch.uint16)):
        raise TypeError(
            f"{name} has type {given_type}, whose range is unknown: use uint8 in [0, 255] or float in [0, 1]."
        )
    if frame.ndim == 2:
        frame = frame[None]
    elif channels_last and frame.ndim == 3:
        frame = frame.permute(2, 0, 1)
    if frame.ndim != 3 or frame.shape[0] not in (1, 3, 4) or frame.numel() == 0:
        layout = "(H, W, channels)" if channels_last else "(channels, H, W)"
        raise ValueError(f"{name} must be {layout} with 1, 3 or 4 channels, but has shape {given_shape}.")
    if frame.is_floating_point():
        frame = _check_range(frame.float(), name, signed and not channels_last)
    else:
        frame = frame.float() / torch.iinfo(frame.dtype).max
    return frame[:3] * frame[3:] if frame.shape[0] == 4 else frame


def _check_range(frame: torch.Tensor, name: str, signed: bool) -> torch.Tensor:
    if not torch.isfinite(frame).all():
        raise ValueError(f"{name} holds NaN or infinite values.")
    low, high = frame.min().item(), frame.max().item()
    if low < (-1 if signed else 0) - TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"{name} has float values from {low:.4g} to {high:.4g}, but float frames must be in [0, 1] (torch: or "
            "[-1, 1]); use uint8 for [0, 255]."
        )
    return (frame / 2 + 0.5 if signed else frame).clamp(0, 1)


def _pil_to_array(image: Image.Image, name: str) -> np.ndarray:
    """uint8, uint16 or float array that keeps the image's depth; palettes are resolved, cameras' rotation applied."""
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):  # 16-bit, 32-bit and float grey
            return np.asarray(image)
        if image.has_transparency_data:
            return np.asarray(image.convert("RGBA"))
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{name} is damaged and cannot be decoded ({error}).") from error


def _to_channels(frame: torch.Tensor, num_channels: int) -> torch.Tensor:
    if frame.shape[0] == num_channels:
        return frame
    if num_channels == 3:
        return frame.expand(3, -1, -1)
    red, green, blue = frame
    return (0.299 * red + 0.587 * green + 0.114 * blue)[None]


def _to_pil(frame: torch.Tensor) -> Image.Image:
    array = (frame * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _open_source(source: str | Path, name: str) -> Iterator[Image.Image | np.ndarray]:
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
        yield from _image_frames(image, name)


def _image_frames(image: Image.Image, name: str) -> Iterator[Image.Image]:
    try:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            yield image.copy()
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{name} is damaged and cannot be decoded ({error}).") from error


def _video_frames(path: Path, name: str) -> Iterator[np.ndarray]:
    # An absolute path, for FFmpeg would read "a:b.mp4" as protocol "a".
    try:
        with av.open(str(path.absolute()), options={"format_whitelist": VIDEO_FORMATS}) as container:
            if not container.streams.video:
                raise ValueError(f"{name} has no video in it.")
            for frame in container.decode(video=0):
                yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    except av.FFmpegError as error:
        raise ValueError(f"{name} is not a video or image that can be decoded ({error.strerror}).") from error


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


def _write_gif(images: list[Image.Image], path: Path, fps: float) -> None:
    # GIF counts in hundredths of a second, and browsers slow down anything below two.
    duration = max(20, round(100 / fps) * 10)
    images[0].save(path, save_all=True, append_images=images[1:], duration=duration, loop=0)


def _write_strip(images: list[Image.Image], path: Path, fps: float) -> None:
    Image.fromarray(np.concatenate([np.asarray(image) for image in images], axis=1)).save(path)


def _write_mp4(images: list[Image.Image], path: Path, fps: float) -> None:
    width, height = images[0].size
    factor = math.ceil(256 / min(width, height))
    if factor > 1:
        whole = (k for k in range(factor, 2 * factor) if k * width % 16 == k * height % 16 == 0)
        factor = next(whole, factor)
    width, height = width * factor, height * factor
    with av.open(str(path.absolute()), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.codec_context.colorspace = 6  # SMPTE 170M, what the conversion below uses: players need not guess
        for image in images:
            array = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST))
            # yuv420p wants even sizes: repeat the last row and column.
            array = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            for packet in stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
