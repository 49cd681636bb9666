"""Some frames of a video, without decoding the others.

The index is read from the packets, none decoded. Each frame asked for is then decoded from the keyframe before it, so
a few frames of a long recording cost a few groups of pictures and not the whole.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from .decoding import check_whole, decoded, open_video, video_frame


# Program and transport streams, whose time stamps shift after a jump, and AVI, which says when frames are decoded, not
# shown.
INEXACT_SEEKING = ("mpeg", "mpegts", "avi")


class SeekableVideo:
    """
    A video file and where its frames are.

    Args:
        path: the file.
        name: what messages call it; default: the path.

    `times` are the seconds of all frames in display order, `(F,)`, not evenly spaced where the frame rate varies, and
    `seconds` is how long all are shown. Where a file says only how many frames make a second, they are evenly spaced.
    Raises ValueError, naming the file, for one that cannot be decoded, has no video, or says nothing of when its
    frames are shown.
    """

    def __init__(self, path: str | Path, name: str | None = None):
        self.path, self.name = Path(path), name or f"'{path}'"
        self.stamps, self.keys = [], []
        with open_video(self.path, self.name) as (container, stream):
            for packet in container.demux(stream):
                if packet.size:
                    if not packet.is_discard:  # trimmed away: decoded, but not shown
                        self.stamps.append(packet.pts)
                    if packet.is_keyframe:
                        self.keys.append(packet.pts)
            time_base, rate = stream.time_base, stream.average_rate
            self.can_seek = container.format.name not in INEXACT_SEEKING
        if None in self.stamps or len(set(self.stamps)) < len(self.stamps) or not self.keys or None in self.keys:
            if not rate:
                raise ValueError(
                    f"{self.name} does not say when each of its frames is shown: convert it to mp4 first."
                )
            self.stamps, self.keys, time_base, self.can_seek = list(range(len(self.stamps))), [], 1 / rate, False
        if not self.stamps:
            raise ValueError(f"{self.name} has no frames.")
        self.stamps.sort()
        self.keys.sort()
        self.times = np.array([float((stamp - self.stamps[0]) * time_base) for stamp in self.stamps])
        # The last frame is shown as long as the others on average.
        self.seconds = self.times[-1] * len(self) / max(1, len(self) - 1)

    def __len__(self) -> int:
        return len(self.stamps)

    def indices_at_rate(self, fps: float) -> np.ndarray:
        """The frames on show at 0, 1/fps, 2/fps, ... seconds: a variable frame rate made constant, `(G,)`."""
        return on_show(self.times, self.seconds, fps)

    def frames_at(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """
        RGB frames `(H, W, 3)` uint8 in the order asked for, which must not descend; one asked for twice comes twice.
        """
        if len(indices) and (min(indices) < 0 or max(indices) >= len(self) or np.any(np.diff(indices) < 0)):
            raise ValueError(f"`indices` must ascend within 0..{len(self) - 1}, the frames of {self.name}.")
        with open_video(self.path, self.name) as (container, stream):
            frames, position, frame = decode_from(container, stream, None), -1, None
            for index in indices:
                if self.can_seek:
                    keyframe = self.keys[max(0, bisect_right(self.keys, self.stamps[index]) - 1)]
                    before = bisect_left(self.stamps, keyframe) - 1
                    if before > position:
                        frames, position = decode_from(container, stream, keyframe), before
                while position < index:
                    position += 1
                    frame = next(frames, None)
                    while self.can_seek and frame is not None and frame.pts < self.stamps[position]:
                        frame = next(frames, None)  # shown before the keyframe, and broken without what came before
                    if frame is None or (self.can_seek and frame.pts != self.stamps[position]):
                        raise ValueError(f"{self.name} is damaged at {self.times[position]:.2f} s: convert it to mp4.")
                    check_whole(frame, self.name)  # also one that is not asked for: later ones are predicted from it
                yield video_frame(frame, stream, self.name)


def decode_from(container, stream, stamp: int | None) -> Iterator[av.VideoFrame]:
    """Decoded frames from the keyframe at or before a time stamp; None: from where the container stands."""
    if stamp is not None:
        container.seek(stamp, stream=stream)
    yield from decoded(container, stream)


def on_show(times: np.ndarray, seconds: float, fps: float) -> np.ndarray:
    """
    Which frames are on show at 0, 1/fps, 2/fps, ... seconds, `(G,)`.

    Args:
        times: the seconds at which frames begin to be shown, `(F,)`, ascending from 0.
        seconds: the end of the last.
    """
    if not fps > 0:
        raise ValueError(f"`fps` is {fps}: it must be positive.")
    grid = np.arange(max(1, int(seconds * fps + 1e-6))) / fps
    # A frame counts as shown from half a millisecond early, for clocks round.
    return np.searchsorted(times, grid + 5e-4, side="right") - 1
