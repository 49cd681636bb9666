"""
What those who wait are told goes by what was asked for; and the parts of Gradio's queue that this reads are there.
"""

import asyncio
import gc
import threading
import types

import pytest


gr = pytest.importorskip("gradio", reason="The Space needs gradio: pip install -r examples/space/requirements.txt")

from waiting import Pace, abandoned, attended, predict_by_work, remaining, waits  # noqa: E402


def test_a_request_takes_as_long_as_its_work_at_the_pace_of_the_last_ones():
    pace = Pace()
    assert pace.expect(100) is None
    pace.add(10, 100)
    assert pace.expect(300) == pytest.approx(30) and pace.expect(None) is None
    for _ in range(20):
        pace.add(1, 100)  # a machine that became faster
    assert pace.expect(300) == pytest.approx(3)


def test_what_every_request_costs_is_not_taken_for_work():
    pace = Pace()
    for work in (1, 1, 1, 100, 1):
        pace.add(2 + 0.1 * work, work)  # two seconds to read and write
    assert pace.expect(1000) == pytest.approx(102) and pace.expect(0) == pytest.approx(2)
    for seconds, work in ((9, 1), (1, 100)):  # by chance, the smaller one was slower
        pace.add(seconds, work)
    assert pace.expect(1) >= 0


def test_what_remains_goes_by_what_was_done():
    assert remaining(expected=10, elapsed=4, done=0) == 6
    assert remaining(expected=10, elapsed=30, done=0) == 0
    assert remaining(expected=10, elapsed=30, done=0.25) == 90  # slower than thought, and it is known by now
    assert remaining(expected=None, elapsed=4, done=0.5) == 4 and remaining(None, 4, 0) is None


def test_who_waits_waits_for_all_before_them():
    assert waits(5, [10, 2, 30]) == [15, 17, 47]
    assert waits(None, [1]) == [None] and waits(0, [3, None, 4]) == [3, None, None]


@pytest.fixture
def demo():
    def heavy(x):
        return x

    def light(x):
        return x

    with gr.Blocks() as demo:
        box = gr.Textbox()
        for function in (heavy, light):
            gr.Button().click(function, box, box, concurrency_id="model", concurrency_limit=1)
    demo.queue()
    pace = Pace()
    pace.add(1, 1)
    predict_by_work(demo, pace, lambda name, values: {"heavy": 100.0, "light": 1.0}[name] * values[0])
    return demo


def event(demo, name, session, number=1):
    """One of Gradio's own, so that what is read of it is what it has."""
    from gradio.queueing import Event

    function = next(function for function in demo.fns.values() if function.name == name)
    made = Event(session, function, request=None, username=None)
    made.data = types.SimpleNamespace(data=[number])
    return made


def told(demo, events, active=()):
    queue, sent = demo._queue, {}
    for each in [*events, *active]:
        queue.create_event_queue_for_fn(each.fn)
    line = queue.event_queue_per_concurrency_id["model"]
    line.queue, queue.active_jobs = list(events), [list(active)]
    for each in active:
        line.start_times_per_fn[each.fn].add(each.started)
    queue.send_message = lambda event, message: sent.__setitem__(event.session_hash, message)
    queue.broadcast_estimations("model")
    return {name: message.rank_eta for name, message in sent.items()}


def test_a_light_request_behind_a_heavy_one_is_told_so(demo):
    estimates = told(demo, [event(demo, "heavy", "a"), event(demo, "light", "b", 2)])
    assert estimates == {"a": 100, "b": 102}


@pytest.mark.parametrize("alive, expected", [(True, 30), (False, 1)])
def test_the_one_that_runs_counts_by_its_progress_unless_nobody_waits_for_it(demo, monkeypatch, alive, expected):
    from gradio.server_messages import ProgressMessage, ProgressUnit

    running = event(demo, "heavy", "a")
    running.started, running.alive = 1000.0, alive
    running.progress = ProgressMessage(progress_data=[ProgressUnit(index=10, length=39, unit="steps")])
    monkeypatch.setattr("waiting.time.time", lambda: 1010.0)
    assert told(demo, [event(demo, "light", "b")], [running])["b"] == pytest.approx(expected)


def test_gradio_promises_no_mean_of_its_own(demo):
    history = demo._queue.process_time_per_fn
    function = next(iter(demo.fns.values()))
    history[function].add(12.0)
    assert function not in history


def test_a_request_whose_page_was_closed_is_abandoned(demo):
    from gradio.context import LocalContext

    running = event(demo, "heavy", "a")
    demo._queue.active_jobs = [None, [running]]
    assert not abandoned()  # outside of a request
    LocalContext.blocks.set(demo)
    LocalContext.event_id.set(running._id)
    try:
        assert not abandoned()
        running.alive = False  # as `Queue.clean_events` does
        assert abandoned()
    finally:
        LocalContext.event_id.set(None)


@pytest.mark.parametrize("cancelled", [1, 2])
def test_what_goes_wrong_after_a_visitor_has_left_is_no_fault_of_the_server(tmp_path, cancelled):
    faults, stopped, going_on = [], threading.Event(), tmp_path / "going_on"
    going_on.touch()

    def run():
        stopped.wait(10)
        raise ValueError("This was stopped.")

    async def visit():
        asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        answer = asyncio.ensure_future(attended(run, going_on, lambda: False))
        for _ in range(cancelled):
            await asyncio.sleep(0.1)
            answer.cancel()
        await asyncio.sleep(0.1)
        stopped.set()
        with pytest.raises(asyncio.CancelledError):
            await answer
        await asyncio.sleep(0.1)
        del answer
        gc.collect()

    asyncio.run(visit())
    assert not faults and not going_on.exists()


def test_a_deserted_request_is_told_so(tmp_path):
    going_on = tmp_path / "going_on"
    going_on.touch()

    def run():
        for _ in range(1000):
            if not going_on.exists():
                raise ValueError("This was stopped.")
            threading.Event().wait(0.01)

    with pytest.raises(ValueError, match="This was stopped"):
        asyncio.run(attended(run, going_on, lambda: True))
    assert asyncio.run(attended(lambda: 5, going_on, lambda: False)) == 5
