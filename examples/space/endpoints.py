"""What the buttons do: files in, files out. Names, arguments and docstrings are those of the API, see docs/space.md."""

import contextlib
import logging
import os
import uuid
from pathlib import Path

import decoding
import gradio as gr
import numpy as np
from decoding import SIZE, Settings
from pictures import beside, enlarged, grid, preview, routing_clip, routing_picture
from scratch import UPLOADS
from sessions import Sessions
from uploads import Refused, read_upload, spread

from divid_diffusers import export_clip


MAX_FRAMES, MAX_GRID = 48, 4  # frames used of a clip; clips a side of the grid
SESSIONS = Sessions(UPLOADS)


@contextlib.contextmanager
def answering(request: gr.Request):
    """Gives the folder for results; whatever goes wrong within becomes a sentence in the page."""
    try:
        yield SESSIONS.begin(request.session_hash)
    except (ValueError, TypeError) as error:  # Refused, and what the pipeline says of its arguments
        raise gr.Error(str(error), print_exception=False) from None
    except gr.Error:
        raise
    except Exception:  # the edge of the server: logged in full, and no visitor is shown a traceback
        logging.exception("A request failed.")
        raise gr.Error("Something broke on the server, not on your side: try again.", print_exception=False) from None
    finally:
        SESSIONS.end(request.session_hash)


def hold(request: gr.Request, *values) -> list:
    """Run when a request enters the queue, before its turn: its uploads stay until it has been answered."""
    files = [file for value in values for file in (value if isinstance(value, list) else [value])]
    SESSIONS.hold(request.session_hash, [file for file in files if isinstance(file, str) and os.path.isabs(file)])
    return [gr.validate(True, "") for _ in values]


def written(clip: np.ndarray, folder: Path, fps: float) -> str:
    return str(export_clip(clip, folder / f"{uuid.uuid4().hex}.mp4", fps))


def donors(identity, motion, label: str, frames: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Clips of the static and of the dynamic donor, and the rate of the latter. The identity is read from one frame."""
    person, _ = read_upload(identity, label, SIZE, 1)
    return person, *read_upload(motion, "motion clip", SIZE, frames)


def several(paths: list[str] | None, label: str, frames: int) -> list[tuple[np.ndarray, float]]:
    if not paths:
        raise Refused(f"There are no {label}s yet: upload some, or choose examples.")
    if len(paths) > MAX_GRID:
        raise Refused(f"There are {len(paths)} {label}s, and a grid takes at most {MAX_GRID}.")
    return [read_upload(path, f"{label} {number}", SIZE, frames) for number, path in enumerate(paths, 1)]


def swap(
    identity, motion, frames, sampler, steps, seed, static_guidance, dynamic_guidance,
    request: gr.Request, progress=gr.Progress(),
):  # fmt: skip
    """This person, that motion. identity: a video, GIF or image; motion: a video or GIF. Returns an mp4."""
    with answering(request) as folder:
        chosen = Settings(sampler, steps, seed, static_guidance, dynamic_guidance)
        person, moves, fps = donors(identity, motion, "identity clip", frames)
        return written(decoding.swap([person], [moves], chosen, progress)[0], folder, fps)


def reconstruct(
    clip, frames, sampler, steps, seed, static_guidance, dynamic_guidance,
    request: gr.Request, progress=gr.Progress(),
):  # fmt: skip
    """A clip decoded from its own tokens. Returns an mp4: the original at the left, the reconstruction at the right."""
    with answering(request) as folder:
        chosen = Settings(sampler, steps, seed, static_guidance, dynamic_guidance)
        original, fps = read_upload(clip, "clip", SIZE, frames)
        return written(beside(original, decoding.swap([original], [original], chosen, progress)[0]), folder, fps)


def swap_grid(
    identities, motions, frames, sampler, steps, seed, static_guidance, dynamic_guidance,
    request: gr.Request, progress=gr.Progress(),
):  # fmt: skip
    """Every identity with every motion, up to 4 by 4. Returns an mp4: identities at the left, motions at the top."""
    with answering(request) as folder:
        chosen = Settings(sampler, steps, seed, static_guidance, dynamic_guidance)
        people = [clip for clip, _ in several(identities, "identity clip", frames)]
        moves, rates = zip(*several(motions, "motion clip", frames))
        swaps = decoding.swap(people, list(moves), chosen, progress)
        return written(enlarged(grid(people, list(moves), swaps), max(1, 128 // SIZE)), folder, rates[0])


def interpolate(
    clip_a, clip_b, factor, position, frames, sampler, steps, seed, static_guidance, dynamic_guidance,
    request: gr.Request, progress=gr.Progress(),
):  # fmt: skip
    """Between two clips in one factor, "identity" or "motion", the other being clip_a's; position 0 is clip_a, 1 is clip_b.
    Returns an mp4: clip_a, the clip between, clip_b."""
    with answering(request) as folder:
        chosen = Settings(sampler, steps, seed, static_guidance, dynamic_guidance)
        a, fps = read_upload(clip_a, "clip A", SIZE, frames)
        b, _ = read_upload(clip_b, "clip B", SIZE, frames)
        length = min(len(a), len(b))
        a, b = a[spread(len(a), length)], b[spread(len(b), length)]
        between = decoding.interpolate(a, b, factor, position, chosen, progress)
        return written(beside(a, between, b), folder, fps)


def animate(
    image, motion, frames, sampler, steps, seed, static_guidance, dynamic_guidance,
    request: gr.Request, progress=gr.Progress(),
):  # fmt: skip
    """An image moved by a clip. Returns an mp4."""
    with answering(request) as folder:
        chosen = Settings(sampler, steps, seed, static_guidance, dynamic_guidance)
        person, moves, fps = donors(image, motion, "image", frames)
        return written(decoding.swap([person], [moves], chosen, progress)[0], folder, fps)


def what_goes_where(
    identity, motion, frames, sampler, steps, seed, static_guidance, dynamic_guidance,
    request: gr.Request, progress=gr.Progress(),
):  # fmt: skip
    """Where a swap reads who (red) and how it moves (blue). Returns an mp4 (frame, map, both) and a PNG of the middle frame at
    the first, the middle and the last step."""
    with answering(request) as folder:
        chosen = Settings(sampler, steps, seed, static_guidance, dynamic_guidance)
        person, moves, fps = donors(identity, motion, "identity clip", frames)
        clip, maps = decoding.route(person, moves, chosen, progress)
        video = written(routing_clip(clip, maps), folder, fps)
        picture = Path(video).with_suffix(".png")
        routing_picture(clip, maps).save(picture)
        return video, str(picture)


def look(path: str | None, label: str, request: gr.Request) -> str | None:
    """What the model will see of an upload, as HTML; a bad one is refused as soon as it is there."""
    if path is None:
        return None
    SESSIONS.hold(request.session_hash, [path])
    with answering(request):
        return preview(*read_upload(path, label, SIZE, MAX_FRAMES), f"The {label}, as the model sees it")


def forget(request: gr.Request) -> None:
    """The page was closed."""
    SESSIONS.close(request.session_hash)
