"""
What a script gets from the Space over HTTP: every endpoint, sentences for hostile files, twenty answers to twenty
requests.
"""

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hostile import write_hostile
from media import write_video
from uploads import Refused, read_upload

from divid_diffusers import load_clip
from divid_diffusers.data.puppets import Appearance, render


gradio_client = pytest.importorskip("gradio_client", reason="The Space needs gradio, which brings gradio_client")

QUICK = {"frames": 3, "steps": 1}


@pytest.fixture
def connect(server, tmp_path):
    """Makes clients, and ends their sessions after the test."""
    clients = []

    def client():
        clients.append(
            gradio_client.Client(
                server.url, verbose=False, download_files=str(tmp_path / "answers"), httpx_kwargs={"timeout": 200}
            )
        )
        return clients[-1]

    yield client
    for each in clients:
        each.close()


@pytest.fixture
def client(connect):
    return connect()


def file(path):
    return gradio_client.handle_file(str(path))


def shape(path):
    """(frames, height, width) of what was answered."""
    clip = load_clip(path)
    return len(clip), clip[0].height, clip[0].width


def refusal(client, *arguments, api_name="/swap", **options):
    with pytest.raises(gradio_client.exceptions.AppError) as refused:
        client.predict(*arguments, api_name=api_name, **(QUICK | options))
    return str(refused.value)


def test_every_endpoint_answers(client, clips, tmp_path):
    person, motion = map(file, clips)
    image = tmp_path / "person.png"
    load_clip(clips[0])[0].save(image)

    swapped = client.predict(person, motion, **QUICK, api_name="/swap")
    assert shape(swapped) == (3, 256, 256)
    assert shape(client.predict(file(image), motion, **QUICK, api_name="/swap")) == (3, 256, 256)
    assert shape(client.predict(file(image), motion, **QUICK, api_name="/animate")) == (3, 256, 256)
    beside = client.predict(person, **QUICK, api_name="/reconstruct")
    assert shape(beside)[0] == 3 and shape(beside)[2] > 1.8 * shape(beside)[1]
    _, height, width = shape(client.predict([person, file(image)], [motion], **QUICK, api_name="/swap_grid"))
    assert 1.4 < height / width < 1.6  # two rows and one column, and what they are made of
    for factor in ("identity", "motion"):
        between = client.predict(person, motion, factor, 0.25, **QUICK, api_name="/interpolate")
        assert 2.8 < shape(between)[2] / shape(between)[1] < 3.2
    video, picture = client.predict(person, motion, frames=3, steps=3, api_name="/what_goes_where")
    # A download says what it is.
    assert Path(swapped).name == "swap_person_motion.mp4" and Path(beside).name == "reconstruction_person.mp4"
    assert Path(between).name == "between_in_motion_person_motion.mp4"
    assert Path(video).stem == Path(picture).stem == "what-goes-where_person_motion"
    assert shape(video)[0] == 3 and shape(picture) == (1, 3 * 192, 3 * 192)

    names = {
        f"/{name}"
        for name in (
            "swap",
            "reconstruct",
            "swap_grid",
            "interpolate",
            "edit",
            "animate",
            "make_up",
            "what_goes_where",
            "recognise",
        )
    }
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(described) == names  # and nothing that was not meant to be one


def test_an_edit_is_by_what_is_asked_and_what_is_left_out_is_zero(client, clips, server):
    def edited(**amounts):
        answer = client.predict(file(clips[0]), **amounts, **QUICK, api_name="/edit")
        return np.stack([np.asarray(frame) for frame in load_clip(answer)])

    plain = edited()
    again = client.predict(file(clips[0]), **QUICK, api_name="/reconstruct")
    assert np.array_equal(plain, np.stack([np.asarray(frame) for frame in load_clip(again)]))
    width = plain.shape[2] // 2
    for name in ("static_1", "static_3", "dynamic_1", "dynamic_3"):
        other = edited(**{name: 2.0})
        assert not np.array_equal(other[:, :, width:], plain[:, :, width:]), name
    body = {"data": [None, 4, 0, 0, 0, 0, 0, 3, "DDIM", 1, 0, 1, 1]}
    status, answer = post(f"{server.url}/gradio_api/call/edit", json.dumps(body).encode(), "application/json")
    assert status == 400 and "greater than maximum value 3" in answer


def test_what_is_given_is_shown_beside_what_is_made_up_and_both_are_refused(client, clips):
    person, motion = map(file, clips)

    def made_up(*inputs, **options):
        answer = client.predict(*inputs, **(QUICK | options), api_name="/make_up")
        return np.stack([np.asarray(frame) for frame in load_clip(answer)])

    one = made_up(person, None, 2)
    height, width = one.shape[1:3]
    assert 2.9 < width / height < 3.2 and not np.array_equal(one[1, :, : width // 3], one[1, :, -width // 3 :])
    assert np.array_equal(one, made_up(person, None, 2)) and not np.array_equal(one, made_up(person, None, 2, seed=1))
    assert 1.9 < np.divide(*made_up(None, motion, 1).shape[2:0:-1]) < 2.1
    assert 0.9 < np.divide(*made_up(None, None, 1).shape[2:0:-1]) < 1.1
    assert "there is nothing to make up" in refusal(client, person, motion, 1, api_name="/make_up")


def test_samples_under_use_via_api_run_as_they_stand(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gradio_client.Client, "__init__", quietly(gradio_client.Client.__init__, tmp_path))
    with urllib.request.urlopen(f"{server.url}/gradio_api/info") as page:
        endpoints = json.loads(page.read())["named_endpoints"]
    for name, endpoint in endpoints.items():
        sample = endpoint["code_snippets"]["python"]
        assert server.url in sample and "github" not in sample, sample
        found = {}
        exec(sample.replace("frames=16", "frames=2").replace("steps=10", "steps=1"), found)
        found["client"].close()
        result = found["result"]
        if name == "/recognise":
            assert "this model knows" in result
        else:
            assert Path(result if isinstance(result, str) else result[0]).stat().st_size > 0, name


def quietly(init, folder):
    return lambda self, *args, **kwargs: init(self, *args, verbose=False, download_files=str(folder), **kwargs)


def test_a_change_first_takes_back_what_runs_and_asks_the_server_nothing(server):
    """
    A page does in turn what an event starts: whatever waited for the server before, or was taken back after it, would
    be the visitor's next request.
    """
    with urllib.request.urlopen(f"{server.url}/config") as page:
        config = json.loads(page.read())
    started = defaultdict(list)
    for dependency in config["dependencies"]:
        for component, event in dependency["targets"]:
            if event == "change":
                started[component].append(dependency)
    kinds = {component["id"]: component["type"] for component in config["components"]}
    assert {kinds[component] for component in started} == {"file", "slider", "radio", "dropdown", "number"}
    for dependencies in started.values():
        assert next(each for each in dependencies if each["cancels"] or each["outputs"])["cancels"]
        assert not any(each["backend_fn"] for each in dependencies)


def test_a_script_is_told_whether_a_clip_is_of_the_kind_that_the_model_knows(client, clips, tmp_path):
    tiles = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    foreign = file(write_video(tmp_path / "tiles.mp4", tiles))
    said = client.predict(foreign, api_name="/recognise")
    assert said.startswith("The clip is far from what this model knows.") and " dB; its like has " in said
    assert client.predict(foreign, foreign, **QUICK, api_name="/swap")  # it is said, not refused
    said = client.predict(file(clips[0]), api_name="/recognise")
    assert said.startswith("The clip is of the kind that this model knows")
    (tmp_path / "text.mp4").write_text("this is not what its name says")
    with pytest.raises(gradio_client.exceptions.AppError, match="The clip is not a video or image"):
        client.predict(file(tmp_path / "text.mp4"), api_name="/recognise")


def test_links_to_anything_but_an_example_are_refused(server):
    for link in (
        f"{server.url}/gradio_api/file={server.folder}/log.txt",
        f"{server.url}/gradio_api/file=/etc/passwd",
        "http://127.0.0.1:1/clip.mp4",
    ):
        given = {"path": link, "meta": {"_type": "gradio.FileData"}}
        status, answer = call(server, given, given, 3, "DDIM", 1, 0, 1, 1)
        assert status == 400 and "Links are not followed here" in answer, answer


def test_settings_are_heeded(client, clips):
    person, motion = map(file, clips)

    def frames(**options):
        answer = client.predict(person, motion, **(QUICK | options), api_name="/swap")
        return np.stack([np.asarray(frame) for frame in load_clip(answer)])

    plain = frames()
    assert np.array_equal(plain, frames())
    for options in ({"seed": 1}, {"sampler": "UniPC", "steps": 2}, {"static_guidance": 2}, {"dynamic_guidance": 2}):
        assert not np.array_equal(plain, frames(**options)), options


def test_hostile_uploads_are_refused_and_the_server_lives(client, clips, tmp_path, server):
    person, motion = map(file, clips)
    before = len(server.log.read_text())
    for path, sentence in write_hostile(tmp_path).items():
        if Path(path).name == "big.mp4":
            continue  # refused while it is being sent, see below
        said = refusal(client, person, file(path))
        assert said.startswith("The motion clip") and sentence in said, (path, said)
    with pytest.raises(ValueError, match="exceeds the maximum file size"):
        client.predict(person, file(tmp_path / "big.mp4"), **QUICK, api_name="/swap")
    assert send(server, "big.mp4", (tmp_path / "big.mp4").read_bytes())[0] == 413  # from whoever does not ask first
    assert "There are 5 identity clips" in refusal(client, [person] * 5, [motion], api_name="/swap_grid")
    assert shape(client.predict(person, motion, **QUICK, api_name="/swap")) == (3, 256, 256)
    assert "Traceback" not in server.log.read_text()[before:]


def post(url, body, kind):
    """(status, text) of the answer."""
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def send(server, name, content):
    head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: video/mp4\r\n\r\n'
    body = head.encode() + content + b"\r\n--b--\r\n"
    return post(f"{server.url}/gradio_api/upload", body, "multipart/form-data; boundary=b")


def call(server, *data):
    return post(f"{server.url}/gradio_api/call/swap", json.dumps({"data": data}).encode(), "application/json")


def test_path_tricks_reach_nothing(clips, server):
    content = Path(clips[0]).read_bytes()
    for name in (
        "../../../../etc/cron.d/clip.mp4",
        "/etc/passwd",
        "..%2f..%2fclip.mp4",
        "..\\..\\clip.mp4",
        "..",
        "c:clip",
    ):
        status, answer = send(server, name, content)
        if status == 200:
            stored = Path(json.loads(answer)[0])
            assert server.folder in stored.resolve().parents and stored.read_bytes() == content, name
        else:
            assert status == 400 and "Invalid file name" in answer, name
    settings = [3, "DDIM", 1, 0, 1, 1]
    for path in ("/etc/passwd", "../../../../etc/passwd", f"{server.folder}/log.txt"):
        given = {"path": path, "meta": {"_type": "gradio.FileData"}}
        status, answer = call(server, given, given, *settings)
        assert status == 400 and "was not uploaded by a user" in answer, answer
    link = {"path": "http://127.0.0.1/clip.mp4", "meta": {"_type": "gradio.FileData"}}
    status, answer = call(server, link, link, *settings)
    assert status == 400 and "Links are not followed here" in answer, answer


def test_settings_that_no_page_sends_are_refused(server):
    for settings, sentence in (
        ([3, "DDIM", 51, 0, 1, 1], "greater than maximum value 50"),
        ([1000, "DDIM", 1, 0, 1, 1], "greater than maximum value 48"),
        ([3, "none", 1, 0, 1, 1], "choices"),
    ):
        status, answer = call(server, None, None, *settings)
        assert status == 400 and sentence in answer, answer


def resident(pid):
    """Megabytes of memory that a process has, which Linux tells."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("This system does not say how much memory a process has.")
    return int(status.read_text().split("VmRSS:")[1].split()[0]) / 1024


def test_twenty_requests_at_once(client, clips, server):
    """None is lost, memory does not grow, and the page is served meanwhile."""
    person, motion = map(file, clips)
    jobs = [client.submit(person, motion, seed=seed, **QUICK, api_name="/swap") for seed in range(20)]
    memory, served = [], 0
    while not all(job.done() for job in jobs):
        memory.append((sum(job.done() for job in jobs), resident(server.pid)))
        with urllib.request.urlopen(server.url) as page:
            served += page.status == 200 and b"DiViD" in page.read()
        time.sleep(0.2)
    answers = [load_clip(job.result()) for job in jobs]
    assert len({np.asarray(clip[0]).tobytes() for clip in answers}) == 20  # each its own
    assert served > 0
    memory.append((20, resident(server.pid)))
    first_half = next(megabytes for done, megabytes in memory if done >= 10)
    assert memory[-1][1] < first_half + 50, memory


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """Arguments of a grid that takes the model for minutes."""
    frames = render(Appearance.sample(2**30 + 23), "wave", 2**30 + 23, num_frames=48)
    clip = str(write_video(tmp_path_factory.mktemp("heavy") / "long.mp4", frames))
    options = {"frames": 48, "steps": 50, "static_guidance": 2, "dynamic_guidance": 2, "api_name": "/swap_grid"}
    return ([file(clip)] * 4, [file(clip)] * 4), options


def started(job):
    while not job.status().progress_data and not job.done():
        time.sleep(0.1)
    assert not job.done()
    return job


def test_other_work_goes_on_while_the_model_is_busy(connect, heavy, server):
    job = started(connect().submit(*heavy[0], **heavy[1]))
    with urllib.request.urlopen(server.url) as page:
        assert page.status == 200
    assert not job.done()
    job.cancel()


@pytest.mark.timeout(300)  # less than the heavy one takes
@pytest.mark.parametrize("leave", ["cancel", "close"])
def test_a_heavy_request_stops_when_nobody_waits_for_it(connect, client, clips, heavy, leave):
    """
    Without a stop the next visitor would have no answer within the limit of time. Closing a client ends its heartbeat
    only: it goes on listening for the answer.
    """
    visitor = connect()
    job = started(visitor.submit(*heavy[0], **heavy[1]))
    job.cancel() if leave == "cancel" else visitor.close()
    assert shape(client.predict(*map(file, clips), **QUICK, api_name="/swap")) == (3, 256, 256)
    assert leave == "cancel" or "This was stopped" in str(job.exception())


@pytest.mark.timeout(300)
def test_a_heavy_request_stops_when_its_connection_is_gone(server, client, clips, heavy):
    """Without a word, as when a page is closed or a telephone goes out of reach: its process is killed."""
    code = (
        "import json, sys, time; from gradio_client import Client\n"
        "url, arguments, options = json.loads(sys.argv[1])\n"
        "job = Client(url, verbose=False).submit(*arguments, **options)\n"
        "while not job.status().progress_data: time.sleep(0.1)\n"
        "print('it runs', flush=True); time.sleep(1000)"
    )
    arguments = json.dumps([server.url, *heavy])
    visitor = subprocess.Popen([sys.executable, "-c", code, arguments], stdout=subprocess.PIPE)
    try:
        assert visitor.stdout.readline() == b"it runs\n"
    finally:
        visitor.kill()
        visitor.communicate()
    assert shape(client.predict(*map(file, clips), **QUICK, api_name="/swap")) == (3, 256, 256)


def test_who_waits_behind_a_heavy_request_is_told_that_it_takes_longer_than_their_own(connect, client, clips, heavy):
    client.predict(*map(file, clips), **QUICK, api_name="/swap")  # so that there is a mean, which would be false
    visitor = connect()
    job = started(visitor.submit(*heavy[0], **heavy[1]))
    light = client.submit(*map(file, clips), **QUICK, api_name="/swap")
    while light.status().eta is None and not light.done():
        time.sleep(0.1)
    assert light.status().eta > 30
    job.cancel()
    assert light.result()


def test_nothing_is_kept_after_a_session(connect, clips, server):
    client, other = connect(), connect()
    before = set(server.files())
    client.predict(*map(file, clips), **QUICK, api_name="/swap")
    shared = other.predict(file(clips[0]), **QUICK, api_name="/reconstruct")
    kept = set(server.files()) - before
    assert len([path for path in kept if "results" in path.parts]) == 2
    client.close()
    while any(Path(clips[1]).name == path.name for path in server.files()):  # pytest's timeout is the limit
        time.sleep(0.1)
    assert other.predict(file(clips[0]), **QUICK, api_name="/reconstruct") and shared
    other.close()
    while set(server.files()) & kept:
        time.sleep(0.1)


def test_a_session_that_leaves_takes_its_own_results_only(connect, clips, server):
    clients = [connect(), connect()]
    threads = [
        threading.Thread(target=client.predict, args=[file(clips[0])], kwargs=QUICK | {"api_name": "/reconstruct"})
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    before = len([path for path in server.files() if "results" in path.parts])
    clients[0].close()
    while len([path for path in server.files() if "results" in path.parts]) >= before:
        time.sleep(0.1)
    assert clients[1].predict(file(clips[0]), **QUICK, api_name="/reconstruct")


def test_reading_is_the_same_here_and_there(clips):
    """The clips of these tests are within the limits: what is refused above is refused for what it is."""
    for path in clips:
        assert len(read_upload(path, "clip", 64, 5)[0]) == 5
    with pytest.raises(Refused):
        read_upload("", "clip", 64, 5)
