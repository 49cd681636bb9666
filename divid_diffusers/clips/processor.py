"""From what people have (files, URLs, PIL, NumPy, torch) to the tensors the models take, and back.

Why not `diffusers.video_processor.VideoProcessor`: it maps a uint8 tensor to [-1, 507], squashes a frame into another
aspect ratio, orders axes as (B, C, F, H, W) and reads no files. What it promises is kept: float input and the "np" and
"pt" outputs are in [0, 1], and a float torch tensor with negative values is taken to be in [-1, 1] already.

Values in: uint8 in [0, 255], uint16 in [0, 65535], float in [0, 1] (torch also [-1, 1]). NumPy frames are
(height, width, channels), torch frames (channels, height, width), both with 1 (grey), 3 (RGB) or 4 (RGBA) channels.
Transparent pixels are laid on black; RGB becomes grey by the luma weights of ITU-R 601, as PIL's "L". Everything is
computed in float, so the same picture gives the same tensor whichever type it came in.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from .pictures import image_frames
from .reading import ClipFile


TOLERANCE = 1e-3  # a quarter of an 8-bit step: what rounding and half precision may leave outside the range


BATCH_HINT = ": this is a batch of clips, pass one of them, such as `frames[0]`"


class ClipProcessor:
    """
    Turns clips into model input and model output into clips. It has no state: sizes come with each call.

    ```python
    import torch

    from divid_diffusers import ClipProcessor

    processor = ClipProcessor()
    (clip,) = processor.preprocess(torch.rand(12, 3, 90, 120), size=64)  # or a path: (12, 3, 64, 64) in [-1, 1]
    images = processor.postprocess(clip[None])[0]  # twelve PIL images
    ```
    """

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


def _is_clip(item: Any) -> bool:
    return isinstance(item, (str, Path, ClipFile, list, tuple)) or getattr(item, "ndim", 0) == 4


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
        clip = ClipFile(clip)
    if isinstance(clip, ClipFile):
        name, frames = clip.name, clip
    elif isinstance(clip, Image.Image):
        frames = image_frames(clip, name)
    elif isinstance(clip, (np.ndarray, torch.Tensor)):
        if clip.ndim != 4:
            layout = "(frames, channels, H, W)" if isinstance(clip, torch.Tensor) else "(frames, H, W, channels)"
            hint = BATCH_HINT if clip.ndim == 5 else ""
            raise ValueError(f"{name} must have 4 dimensions {layout}, but has shape {tuple(clip.shape)}{hint}.")
        frames = clip
    elif isinstance(clip, (list, tuple)):
        kinds = {_kind(frame) for frame in clip}
        if len(kinds) > 1 or not all(_is_frame(frame) for frame in clip):
            raise TypeError(
                f"{name} must be a list of only PIL images, only NumPy frames or only torch frames, but holds "
                f"{' and '.join(sorted(kinds))}{BATCH_HINT if all(map(_is_clip, clip)) else ''}."
            )
        frames = clip
    else:
        hint = ": pass one clip of its `frames`, such as `.frames[0]`" if hasattr(clip, "frames") else ""
        raise TypeError(
            f"{name} must be a path, URL, PIL image, NumPy array, torch tensor or a list of frames, but is a "
            f"{type(clip).__name__}{hint}."
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
