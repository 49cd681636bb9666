"""What stands on the page when it opens: one result for each tab, made once, at the start."""

import logging
import time

import decoding
import scratch
from endpoints import ENDPOINTS, MAX_GRID, PACE, Job, work
from inputs import EXAMPLES


FRAMES = 16  # as "Advanced" has it
BUDGET_SECONDS = 60.0  # for all of them: what a slow machine does not make in time is left out


def first_inputs() -> dict[str, list]:
    """What stands in the boxes of each tab, by endpoint, soonest answered first."""
    one, two, three, four, five = (EXAMPLES[index % len(EXAMPLES)] for index in range(5))
    return {
        "swap": [one.clip, two.clip],
        "reconstruct": [three.clip],
        "animate": [three.image, five.clip],
        "interpolate": [one.clip, four.clip, "identity", 0.5],
        "edit": [four.clip, *[0.0] * len(decoding.SLIDERS)],
        "make_up": [one.clip, None, MAX_GRID],
        "what_goes_where": [one.clip, two.clip],
        "swap_grid": [[one.clip, two.clip], [three.clip, four.clip]],
    }


def first_results() -> dict[str, list[str]]:
    """Files of each endpoint's answer. None on ZeroGPU, which lends its GPU to visitors only."""
    found, end = {}, time.monotonic() + BUDGET_SECONDS
    if not EXAMPLES or decoding.spaces:
        return found

    def progress(*arguments, **options) -> None:
        if time.monotonic() > end:
            raise TimeoutError

    settings = decoding.Settings("DDIM", decoding.DEFAULT_STEPS, 0, 1.0, 1.0)
    for name, inputs in first_inputs().items():
        if (name == "edit" and not decoding.SLIDER_LABELS) or (name == "make_up" and not decoding.MOST_MADE_UP):
            continue
        folder, started = scratch.EXAMPLES / name, time.monotonic()
        folder.mkdir()
        try:
            answer = ENDPOINTS[name].make(Job(folder, FRAMES, settings, progress), *inputs)
        except TimeoutError:
            logging.warning("The first result of %s would take too long: its tab opens without one.", name)
            break
        except ValueError as error:
            logging.warning("There is no first result of %s: %s", name, error)
            continue
        PACE.add(time.monotonic() - started, work(name, [*inputs, FRAMES, "DDIM", settings.steps, 0, 1.0, 1.0]))
        found[name] = [answer] if isinstance(answer, str) else list(answer)
    return found
