"""Small videos for tests, and files that are damaged in every usual way."""

from fractions import Fraction

import av
import numpy as np


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """
    RGB frames `(count, H, W, 3)` whose brightness tells their number (up to 60), coarse enough to survive compression.
    """
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[:] = (8 + 4 * np.arange(count))[:, None, None, None]
    return frames


def number_of(frame: np.ndarray) -> int:
    return round((float(frame.mean()) - 8) / 4)


def write_video(
    path,
    frames,
    codec="libx264",
    milliseconds=None,
    keyframe_every=10,
    b_frames=2,
    pix_fmt=None,
    aspect=None,
    turn=None,
    **options,
):
    """
    `milliseconds`: when each frame is shown; default: 25 a second. `aspect`: of a pixel, a Fraction. `turn`: arguments
    of `set_display_rotation`. `frames` with four channels are RGBA.
    """
    ticks = range(len(frames)) if milliseconds is None else milliseconds
    time_base = Fraction(1, 25 if milliseconds is None else 1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(*turn)
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = keyframe_every
        if codec == "libx264":
            stream.codec_context.max_b_frames = b_frames
        for frame, tick in zip(frames, ticks, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24" if frame.shape[-1] == 3 else "rgba")
            picture.pts, picture.time_base = tick, time_base
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def damaged_files(whole: bytes) -> dict[str, bytes]:
    """What a file may have become."""
    noise = np.random.default_rng(0).integers(0, 256, len(whole), dtype=np.uint8).tobytes()
    middle = len(whole) // 2
    return {
        "empty": b"",
        "cut": whole[:middle],
        "head": whole[: min(20, len(whole))],
        "noise": noise,
        "text": b"this is not what its name says\n" * 20,
        "zeros": bytes(len(whole)),
        "overwritten": whole[: middle // 2] + noise[:middle] + whole[middle // 2 + middle :],
    }
