"""Uploads and results go with the session they belong to, and not before."""

import os
import time

import pytest
import sessions as module
from sessions import Sessions


@pytest.fixture
def uploads(tmp_path):
    def upload(name):
        path = tmp_path / "uploads" / name / "clip.mp4"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"a clip")
        return path

    return upload


@pytest.fixture
def sessions(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "JUST_UPLOADED", 0.0)
    return Sessions(tmp_path / "uploads")


def test_uploads_and_results_go_when_the_session_ends(sessions, uploads, tmp_path):
    path = uploads("one")
    sessions.hold("a", [str(path)])
    folder = sessions.begin("a")
    (folder / "result.mp4").write_bytes(b"a result")
    sessions.end("a")
    assert path.exists() and folder.exists()
    sessions.close("a")
    assert not path.exists() and not path.parent.exists() and not folder.exists()


def test_a_clip_that_two_people_sent_stays_until_both_have_gone(sessions, uploads):
    path = uploads("shared")
    sessions.hold("a", [str(path)])
    sessions.hold("b", [str(path)])
    sessions.close("a")
    assert path.exists()
    sessions.close("b")
    assert not path.exists()


def test_who_leaves_during_an_answer_is_cleaned_up_after_it(sessions, uploads):
    path = uploads("one")
    sessions.hold("a", [str(path)])
    folder = sessions.begin("a")
    sessions.close("a")
    assert path.exists() and folder.exists()
    (folder / "result.mp4").write_bytes(b"too late")
    sessions.end("a")
    assert not path.exists() and not folder.exists()


def test_who_comes_back_keeps_their_files(sessions, uploads):
    path = uploads("one")
    sessions.hold("a", [str(path)])
    sessions.begin("a")
    sessions.close("a")
    sessions.hold("a", [str(path)])
    sessions.begin("a")
    sessions.end("a")
    sessions.end("a")
    assert path.exists()


def test_who_left_is_gone_also_while_their_request_waits_for_its_turn_until_they_ask_for_something(sessions, uploads):
    path = uploads("one")
    sessions.hold("a", [str(path)])
    assert not sessions.gone("a")
    sessions.close("a")
    folder = sessions.begin("a")  # the turn of what they asked for before
    assert sessions.gone("a") and not sessions.gone("b")
    sessions.end("a")
    assert not folder.exists()
    sessions.hold("a", [])
    assert not sessions.gone("a")


def test_files_that_are_nobodys_are_left_alone(sessions, tmp_path):
    example = tmp_path / "example.mp4"
    example.write_bytes(b"an example")
    sessions.hold("a", [str(example), str(tmp_path / "uploads" / ".." / "example.mp4")])
    sessions.close("a")
    assert example.exists()


def test_a_clip_that_was_sent_a_moment_ago_stays_a_moment(sessions, uploads, monkeypatch):
    monkeypatch.setattr(module, "JUST_UPLOADED", 0.3)
    path = uploads("one")
    sessions.hold("a", [str(path)])
    sessions.close("a")
    assert path.exists() or time.time() - os.stat(path.parent.parent).st_ctime > 0.3
    while path.exists():  # the test's own limit of time ends this if it is never deleted
        time.sleep(0.05)
