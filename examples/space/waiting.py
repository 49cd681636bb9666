"""
How long a visitor waits, and when what they asked for may stop. Gradio predicts from the mean of all earlier requests,
whatever they asked for, and works on for those who have left; this goes by what each request asks for and how far the
one before it has come.

It reads Gradio's queue, which is no documented part of it: tests/space/test_waiting.py names what is used of it.
"""

import asyncio
import time
import types
from collections import deque
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import numpy as np
from gradio.context import LocalContext
from gradio.server_messages import EstimationMessage


UPDATE_SECONDS = 2.0  # between what those who wait are told


class Pace:
    """
    Seconds for so much work, by a straight line through the last requests: reading and writing take time whatever is
    asked for.
    """

    def __init__(self):
        self.done: deque[tuple[float, float]] = deque(maxlen=20)

    def add(self, seconds: float, work: float) -> None:
        self.done.append((seconds, work))

    def expect(self, work: float | None) -> float | None:
        """None while nothing is known."""
        if work is None or not self.done:
            return None
        seconds, works = np.transpose(self.done)
        spread = works - works.mean()
        slope = spread @ seconds / (spread @ spread) if spread.any() else seconds.mean() / works.mean()
        return max(float(seconds.mean() + max(slope, 0) * (work - works.mean())), 0.0)


def remaining(expected: float | None, elapsed: float, done: float) -> float | None:
    """Seconds that a request still takes of which the fraction `done` was done in `elapsed` seconds."""
    if done > 0:
        return elapsed * (1 - done) / done
    return None if expected is None else max(expected - elapsed, 0)


def waits(ahead: float | None, queued: list[float | None]) -> list[float | None]:
    """
    Seconds until each of the queued requests, done one after the other, is answered; None where that is not known.

    Args:
        ahead: seconds until the first of them begins.
        queued: seconds that each of them takes.
    """
    found = []
    for seconds in queued:
        ahead = None if ahead is None or seconds is None else ahead + seconds
        found.append(ahead)
    return found


def predict_by_work(demo: gr.Blocks, pace: Pace, work: Callable[[str, list], float | None]) -> None:
    """
    Args:
        work: of a request, by the name of its function and its inputs: how much is to be done, or None for what takes
            no part.
    """

    def broadcast(queue, concurrency_id: str, after: int | None = None) -> None:
        def expected(event) -> float | None:
            return pace.expect(work(event.fn.name, event.data.data))

        line = queue.event_queue_per_concurrency_id[concurrency_id]
        active = [event for job in queue.active_jobs if job for event in job if event.concurrency_id == concurrency_id]
        begun = [moment for moments in line.start_times_per_fn.values() for moment in moments]
        ahead = 0.0
        if active and active[0].alive and begun:  # one at a time; what was abandoned stops within a step
            ahead = remaining(expected(active[0]), time.time() - min(begun), progress(active[0]))
        for rank, (event, eta) in enumerate(zip(line.queue, waits(ahead, [expected(event) for event in line.queue]))):
            if after is None or rank >= after:
                queue.send_message(event, EstimationMessage(rank=rank, rank_eta=eta, queue_size=len(line.queue)))

    queue = demo._queue
    queue.broadcast_estimations = types.MethodType(broadcast, queue)
    queue.process_time_per_fn = NoHistory()


class NoHistory(dict):
    """In place of the mean that Gradio would promise to whoever's turn it is."""

    def __missing__(self, function):
        return self

    def add(self, seconds: float) -> None:
        pass


def progress(event) -> float:
    units = event.progress.progress_data if event.progress else None
    return units[-1].index / units[-1].length if units and units[-1].index and units[-1].length else 0.0


async def attended(run: Callable, going_on: Path, deserted: Callable[[], bool]):
    """
    What `run()` gives, in a thread of its own. The file `going_on` says whether anybody waits for it: it is deleted
    once `deserted()`, and at the latest at the end.
    """
    running = asyncio.ensure_future(asyncio.to_thread(run))
    # Whoever left does not ask what went wrong; asyncio would log that as a fault of the server.
    running.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        while not (await asyncio.wait([running], timeout=0.5))[0]:
            if deserted():
                going_on.unlink(missing_ok=True)
        return running.result()
    finally:  # also where Gradio cancels it
        going_on.unlink(missing_ok=True)
        if not running.done():
            await asyncio.wait([running])  # there is one model: the next has its turn when this one is over


def abandoned() -> bool:
    """Whether nobody waits any more for the request that this code answers: its page or connection was closed."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return False
    running = (event for job in blocks._queue.active_jobs if job for event in job)
    return any(event._id == event_id and not event.alive for event in running)
