"""
What the buttons do: files in, files out. Names, arguments and docstrings are those of the API, see docs/space.md.
"""

import contextlib
import functools
import inspect
import logging
import math
import os
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import decoding
import gradio as gr
import numpy as np
from decoding import DOMAIN, MOST_MADE_UP, SIZE, SLIDERS, Settings
from pictures import beside, enlarged, grid, held, preview, refusal, remark, routing_clip, routing_picture
from scratch import UPLOADS
from sessions import Sessions
from uploads import Refused, read_upload, spread
from waiting import Pace, abandoned, attended

from divid_diffusers import export_clip


MAX_FRAMES, MAX_GRID = 48, 4  # frames used of a clip; clips a side of the grid
OPTIONS = ("frames", "sampler", "steps", "seed", "static_guidance", "dynamic_guidance")
CHECKED_WORK = 40.0  # frames times steps of a look at an upload
GLIMPSE_STEPS = 5  # of the one frame that shows what a slider does
SESSIONS, PACE = Sessions(UPLOADS), Pace()


@contextlib.contextmanager
def answering(request: gr.Request):
    """Gives the folder for results; whatever goes wrong within becomes a sentence in the page."""
    try:
        yield SESSIONS.begin(request.session_hash)
    except (ValueError, TypeError) as error:  # Refused, and what the pipeline says of its arguments
        raise said(str(error)) from None
    except gr.Error:
        raise
    except Exception:  # the edge of the server: logged in full, and no visitor is shown a traceback
        logging.exception("A request failed.")
        raise said("Something broke on the server, not on your side: try again.") from None
    finally:
        SESSIONS.end(request.session_hash)


def said(sentence: str) -> gr.Error:
    """It stays until it is closed: beside it there is nothing that says why there is no result."""
    return gr.Error(sentence, duration=None, print_exception=False)


def hold(request: gr.Request, *values) -> list:
    """Run when a request enters the queue, before its turn: its uploads stay until it has been answered."""
    files = [file for value in values for file in (value if isinstance(value, list) else [value])]
    SESSIONS.hold(request.session_hash, [file for file in files if isinstance(file, str) and os.path.isabs(file)])
    return [gr.validate(True, "") for _ in values]


@dataclass
class Job:
    """
    One request.

    Attributes:
        folder: for its results. They may be called alike in two requests, so each has one of its own.
        frames: at most so many are used of a clip.
        progress: told of every step; raises Refused once the request was stopped.
    """

    folder: Path
    frames: int
    settings: Settings
    progress: Callable

    def donors(self, identity, motion, label: str) -> tuple[np.ndarray, np.ndarray, float]:
        """
        Clips of the static and of the dynamic donor, and the rate of the latter. The identity is read from one frame.
        """
        person, _ = read_upload(identity, label, SIZE, 1)
        return person, *read_upload(motion, "motion clip", SIZE, self.frames)

    def several(self, paths: list[str] | None, label: str) -> list[tuple[np.ndarray, float]]:
        if not paths:
            raise Refused(f"There are no {label}s yet: upload some, or choose examples.")
        if len(paths) > MAX_GRID:
            raise Refused(f"There are {len(paths)} {label}s, and a grid takes at most {MAX_GRID}.")
        return [read_upload(path, f"{label} {number}", SIZE, self.frames) for number, path in enumerate(paths, 1)]

    def swap(self, people: list[np.ndarray], moves: list[np.ndarray]) -> list[np.ndarray]:
        return decoding.swap(people, moves, self.settings, self.progress)

    def written(self, clip: np.ndarray, fps: float, name: str, *sources: str) -> str:
        """An mp4 that is called after what it shows: a download keeps the name."""
        stems = [re.sub(r"\W+", "-", Path(source).stem).strip("-_")[:30] for source in sources]
        return str(export_clip(clip, self.folder / f"{'_'.join(filter(None, [name, *stems]))}.mp4", fps))


def report(progress: Callable, going_on: Path, *arguments, **options) -> None:
    """Told of every step. A file says whether to go on: on ZeroGPU this runs in another process."""
    if not going_on.exists():
        raise Refused("This was stopped.")
    progress(*arguments, **options)


def endpoint(make: Callable) -> Callable:
    """
    `make(job, *files)` as Gradio calls it: (*files, *OPTIONS, request, progress). It stops when nobody waits for it
    any more.
    """
    _, *files = inspect.signature(make).parameters

    @functools.wraps(make)
    async def answer(*given):
        *values, request, progress = given
        uploads, (frames, *chosen) = values[: len(files)], values[len(files) :]
        going_on = SESSIONS.begin(request.session_hash) / uuid.uuid4().hex / "going_on"
        going_on.parent.mkdir()
        going_on.touch()

        def run():
            with answering(request):
                started = time.monotonic()
                job = Job(going_on.parent, frames, Settings(*chosen), functools.partial(report, progress, going_on))
                result = make(job, *uploads)
                PACE.add(time.monotonic() - started, work(make.__name__, values))
                return result

        try:
            return await attended(run, going_on, lambda: abandoned() or SESSIONS.gone(request.session_hash))
        finally:
            SESSIONS.end(request.session_hash)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in [*files, *OPTIONS]]
    special = {"request": gr.Request, "progress": gr.Progress}
    parameters += [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=default)
        for (name, kind), default in zip(special.items(), (inspect.Parameter.empty, gr.Progress()))
    ]
    answer.__signature__, answer.__annotations__ = inspect.Signature(parameters), special
    answer.make = make
    return answer


def work(name: str, values: list) -> float | None:
    """Frames times steps that a request asks for, by its function and inputs; None for what does not use the model."""
    if name in ("recognise", "remark_on", "glimpse"):
        return CHECKED_WORK
    if name not in ENDPOINTS:
        return None
    *files, frames, _, steps, _, static, dynamic = values
    clips = len(files[0] or []) * len(files[1] or []) if name == "swap_grid" else 1
    if name == "make_up":
        clips, frames = int(files[2] or 1), min(frames, MOST_MADE_UP)
    passes = 1 + (static != 1) + (dynamic != 1)
    return float(clips * frames * steps * passes)


@endpoint
def swap(job, identity, motion):
    """This person, that motion. identity: a video, GIF or image; motion: a video or GIF. Returns an mp4."""
    person, moves, fps = job.donors(identity, motion, "identity clip")
    return job.written(job.swap([person], [moves])[0], fps, "swap", identity, motion)


@endpoint
def reconstruct(job, clip):
    """
    A clip decoded from its own tokens. Returns an mp4: the original at the left, the reconstruction at the right.
    """
    original, fps = read_upload(clip, "clip", SIZE, job.frames)
    return job.written(beside(original, job.swap([original], [original])[0]), fps, "reconstruction", clip)


@endpoint
def swap_grid(job, identities, motions):
    """Every identity with every motion, up to 4 by 4. Returns an mp4: identities at the left, motions at the top."""
    people = [clip for clip, _ in job.several(identities, "identity clip")]
    moves, rates = zip(*job.several(motions, "motion clip"))
    cells = grid(people, list(moves), job.swap(people, list(moves)))
    return job.written(enlarged(cells, max(1, 128 // SIZE)), rates[0], "grid")


@endpoint
def interpolate(job, clip_a, clip_b, factor, position):
    """
    Between two clips in one factor, "identity" or "motion", the other being clip_a's; position 0 is clip_a, 1 is
    clip_b. Returns an mp4: clip_a, the clip between, clip_b."""
    a, fps = read_upload(clip_a, "clip A", SIZE, job.frames)
    b, _ = read_upload(clip_b, "clip B", SIZE, job.frames)
    length = min(len(a), len(b))
    a, b = a[spread(len(a), length)], b[spread(len(b), length)]
    between = decoding.interpolate(a, b, factor, position, job.settings, job.progress)
    return job.written(beside(a, between, b), fps, f"between_in_{factor}", clip_a, clip_b)


@endpoint
def animate(job, image, motion):
    """An image moved by a clip. Returns an mp4."""
    person, moves, fps = job.donors(image, motion, "image")
    return job.written(job.swap([person], [moves])[0], fps, "animated", image, motion)


@endpoint
def edit(job, clip, static_1, static_2, static_3, dynamic_1, dynamic_2, dynamic_3):
    """
    A clip moved along directions of its identity (static) and of its motion (dynamic), by so many standard deviations,
    from -3 to 3. Returns an mp4: the original at the left, the edited clip at the right."""
    original, fps = read_upload(clip, "clip", SIZE, job.frames)
    amounts = dict(zip(SLIDERS, (static_1, static_2, static_3, dynamic_1, dynamic_2, dynamic_3), strict=True))
    edited = decoding.edit(original, amounts, job.settings, job.progress)
    return job.written(beside(original, edited), fps, "edited", clip)


@endpoint
def make_up(job, identity, motion, count):
    """
    New motions for an identity, new people for a motion, or both where neither is given, `count` of them, 1 to 4.
    Returns an mp4: what is given at the left, if anything, and the new clips."""
    if not MOST_MADE_UP:
        raise Refused("This checkpoint has no prior, so nothing can be made up.")
    if identity and motion:
        raise Refused("With an identity and a motion there is nothing to make up: empty one of the two, or swap them.")
    if count not in range(1, MAX_GRID + 1):
        raise Refused(f"The number of clips must be from 1 to {MAX_GRID}.")
    person = read_upload(identity, "identity clip", SIZE, 1)[0] if identity else None
    moves, fps = read_upload(motion, "motion clip", SIZE, min(job.frames, MOST_MADE_UP)) if motion else (None, 10.0)
    new = decoding.make_up(person, moves, int(count), job.settings, job.progress)
    shown = [clip for clip in (person, moves) if clip is not None] + new
    sources = [path for path in (identity, motion) if path]
    return job.written(beside(*(held(clip, len(new[0])) for clip in shown)), fps, "made_up", *sources)


@endpoint
def what_goes_where(job, identity, motion):
    """
    Where a swap reads who (red) and how it moves (blue). Returns an mp4 (frame, map, both) and a PNG of the middle
    frame at the first, the middle and the last step."""
    person, moves, fps = job.donors(identity, motion, "identity clip")
    clip, maps = decoding.route(person, moves, job.settings, job.progress)
    video = job.written(routing_clip(clip, maps), fps, "what-goes-where", identity, motion)
    picture = Path(video).with_suffix(".png")
    routing_picture(clip, maps).save(picture)
    return video, str(picture)


ENDPOINTS = {
    each.__name__: each
    for each in (swap, reconstruct, swap_grid, interpolate, edit, animate, make_up, what_goes_where)
}


def glimpse(request: gr.Request, clip, *values):
    """As HTML, the middle frame of a clip as `edit` would make it, in a few steps: what a slider does, at once."""
    if clip is None:
        return None
    amounts, (frames, sampler, steps, *chosen) = values[: len(SLIDERS)], values[len(SLIDERS) :]
    with answering(request):
        original, fps = read_upload(clip, "clip", SIZE, frames)
        settings = Settings(sampler, steps, *chosen)
        settings = replace(settings, steps=min(settings.steps, GLIMPSE_STEPS))
        middle = len(original) // 2
        frame = decoding.edit(
            original, dict(zip(SLIDERS, amounts, strict=True)), settings, lambda *_, **__: None, middle
        )
        return preview(beside(original[[middle]], frame), fps, "The middle frame, and what the sliders make of it")


def look(paths: str | list[str] | None, label: str, request: gr.Request) -> tuple[str | list[str] | None, str | None]:
    """
    Of what was just uploaded, what can be used, and as HTML what the model will see of it and why the rest was
    refused.
    """
    kept, shown = [], []
    with answering(request):
        for number, path in enumerate(listed(paths), 1):
            SESSIONS.hold(request.session_hash, [path])
            called = label if isinstance(paths, str) else f"{label} {number}"
            try:
                if number > MAX_GRID:
                    raise Refused(f"The {called} is one too many: a grid takes at most {MAX_GRID}.")
                shown.append(
                    preview(*read_upload(path, called, SIZE, MAX_FRAMES), f"The {called}, as the model sees it")
                )
                kept.append(path)
            except Refused as error:
                shown.append(refusal(str(error)))
    return (kept if isinstance(paths, list) else kept[0] if kept else None) or None, "".join(shown) or None


def recognise(clip, request: gr.Request):
    """Whether a video, GIF or image is of the kind that this model knows. Returns a sentence."""
    with answering(request):
        return recognised(clip, "clip")[1]


def remarks(paths: str | list[str] | None, label: str, request: gr.Request) -> str:
    """As HTML, which clips are far from what the model knows; empty where none is."""
    with answering(request):
        found = [recognised(path, label) for path in listed(paths)]
    return "".join(remark(sentence) for sentence in dict.fromkeys(sentence for known, sentence in found if not known))


def recognised(path: str | None, label: str) -> tuple[bool, str]:
    """Whether a clip is of the kind that the model knows, as far as the checkpoint says, and a sentence about it."""
    clip, _ = read_upload(path, label, SIZE, MAX_FRAMES)
    least = DOMAIN.least(len(clip))
    if least == -math.inf:
        return True, f"This checkpoint does not say what it knows, so nothing can be said of the {label}."
    decibels = decoding.recognise(clip)
    figures = f"(signal to noise {decibels:.1f} dB; its like has {least:.1f} or more)"
    if decibels >= least:
        return True, f"The {label} is of the kind that this model knows: it gives the clip itself back {figures}."
    return False, (
        f"The {label} is far from what this model knows. It does not even give the clip itself back {figures}: expect "
        f"{DOMAIN.domain or 'something else'} instead."
    )


def listed(paths: str | list[str] | None) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths or [])


def forget(request: gr.Request) -> None:
    """The page was closed."""
    SESSIONS.close(request.session_hash)
