"""Seeking gives the frames that decoding everything gives, and decodes little else."""

import av
import numpy as np
import pytest
from media import damaged_files, number_of, numbered_frames, write_video

from divid_diffusers.clips import video
from divid_diffusers.clips.reading import open_source
from divid_diffusers.clips.video import SeekableVideo


FILES = [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mov", "mjpeg"), ("a.mpg", "mpeg1video")]


@pytest.mark.parametrize(("name", "codec"), FILES)
def test_every_frame_is_the_one_that_decoding_everything_gives(tmp_path, name, codec):
    path = write_video(tmp_path / name, numbered_frames(35), codec)
    everything = list(open_source(path, name))
    clip = SeekableVideo(path)
    assert len(clip) == len(everything) == 35
    for index in range(35):
        (frame,) = clip.frames_at([index])
        assert np.array_equal(frame, everything[index]), index
    chosen = [0, 3, 3, 19, 20, 34]
    for index, frame in zip(chosen, clip.frames_at(chosen), strict=True):
        assert np.array_equal(frame, everything[index]), index


@pytest.mark.parametrize("name", ["a.avi", "a.h264"])
def test_a_file_that_tells_frames_apart_only_by_their_number_is_read_in_order(tmp_path, name):
    path = write_video(tmp_path / name, numbered_frames(35), "libx264")
    clip = SeekableVideo(path)
    assert [number_of(frame) for frame in clip.frames_at([0, 7, 7, 34])] == [0, 7, 7, 34]
    assert clip.indices_at_rate(5).tolist() == list(range(0, 35, 5))


def test_only_the_groups_of_pictures_that_hold_a_frame_are_decoded(tmp_path, monkeypatch):
    decoded = []
    decode = video.decode_from

    def counted(*arguments):
        for frame in decode(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video, "decode_from", counted)
    clip = SeekableVideo(write_video(tmp_path / "long.mp4", numbered_frames(60)))
    assert [number_of(frame) for frame in clip.frames_at([2, 31, 58])] == [2, 31, 58]
    assert len(decoded) <= 3 + 2 + 9 + 3  # of 60


def test_a_variable_frame_rate_is_made_constant(tmp_path):
    times = [0, 40, 80, 120, 1000, 1040, 1080, 1120, 2000, 2040]
    clip = SeekableVideo(write_video(tmp_path / "varying.mkv", numbered_frames(10), milliseconds=times))
    assert np.allclose(clip.times, np.array(times) / 1000)
    assert clip.indices_at_rate(4).tolist() == [0, 3, 3, 3, 4, 7, 7, 7, 8]


def test_a_constant_frame_rate_is_thinned_evenly(tmp_path):
    clip = SeekableVideo(write_video(tmp_path / "even.mp4", numbered_frames(50)))
    assert clip.indices_at_rate(25).tolist() == list(range(50))
    assert clip.indices_at_rate(5).tolist() == list(range(0, 50, 5))
    assert clip.indices_at_rate(0.1).tolist() == [0]
    with pytest.raises(ValueError, match="`fps` is 0"):
        clip.indices_at_rate(0)


def test_frames_that_are_trimmed_away_are_not_counted(tmp_path):
    """An edit list hides the first frames, which must be decoded all the same."""
    whole = write_video(tmp_path / "whole.mp4", numbered_frames(30), b_frames=0)
    with av.open(str(whole)) as old, av.open(str(tmp_path / "trimmed.mp4"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.pts, packet.dts = (stamp - 4 * packet.duration for stamp in (packet.pts, packet.dts))
                packet.stream = stream
                new.mux(packet)
    clip = SeekableVideo(tmp_path / "trimmed.mp4")
    everything = list(open_source(tmp_path / "trimmed.mp4", "trimmed"))
    assert len(clip) == len(everything) == 26
    for index in (0, 3, 17, 25):
        (frame,) = clip.frames_at([index])
        assert np.array_equal(frame, everything[index]) and number_of(frame) == index + 4


def test_frames_that_are_not_there_or_not_in_order_are_refused(tmp_path):
    clip = SeekableVideo(write_video(tmp_path / "short.mp4", numbered_frames(5)))
    for indices in ([5], [-1], [3, 2]):
        with pytest.raises(ValueError, match="must ascend within 0..4"):
            list(clip.frames_at(indices))


def test_damaged_files_are_refused_by_name_or_read_as_far_as_they_are_whole(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", numbered_frames(30)).read_bytes()
    for kind, content in damaged_files(whole).items():
        path = tmp_path / f"{kind}.mp4"
        path.write_bytes(content)
        try:
            clip = SeekableVideo(path)
            list(clip.frames_at(range(len(clip))))
            assert kind == "overwritten"
        except ValueError as error:
            assert f"{kind}.mp4'" in str(error)
