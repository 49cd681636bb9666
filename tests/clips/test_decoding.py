"""
A video is what a player shows of a file: the right stream, its pixels square, upright and on black, and none that is
broken.
"""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from media import number_of, numbered_frames, write_video
from PIL import Image

from divid_diffusers import ClipProcessor, load_clip
from divid_diffusers.clips.video import SeekableVideo


def arrays(path):
    return np.stack([np.asarray(frame) for frame in load_clip(path)])


@pytest.fixture
def corner():
    """(3, 64, 96, 3) black, the upper left quarter white."""
    frames = np.zeros((3, 64, 96, 3), np.uint8)
    frames[:, :32, :48] = 255
    return frames


# ------------------------------------------------------------------------------------------------------- as it is
# shown


@pytest.mark.parametrize(("aspect", "width"), [((4, 3), 128), ((8, 9), 85), ((1, 1), 96), ((1, 2), 48)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mpg"])
def test_pixels_that_are_not_square_are_made_so(tmp_path, corner, name, aspect, width):
    if (
        name == "a.mpg"
    ):  # whose codec knows a few shapes of the whole picture only: 4:3 is that of pixels 8:9 of 96 x 64
        codec, aspect, width = "mpeg2video", (8, 9), 85
    else:
        codec = "libx264"
    path = write_video(tmp_path / name, corner, codec, aspect=Fraction(*aspect))
    frames = arrays(path)
    assert frames.shape == (3, 64, width, 3)
    white = (frames[0, 16, :, 0] > 128).sum()
    assert abs(white - width / 2) <= 1
    (frame,) = SeekableVideo(path).frames_at([0])
    assert frame.shape == (64, width, 3)


def test_a_shape_of_pixels_that_no_screen_has_is_taken_for_damage(tmp_path, corner):
    assert arrays(write_video(tmp_path / "a.mkv", corner, aspect=Fraction(200, 1))).shape == (3, 64, 96, 3)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_camera_that_was_turned_or_mirrored(tmp_path, corner, degrees, mirrored):
    path = write_video(tmp_path / "a.mp4", corner, turn=(degrees, mirrored))
    expected = np.rot90(corner[0], degrees // 90)
    if mirrored:
        expected = expected[:, ::-1]
    assert np.abs(arrays(path)[0].astype(int) - expected).mean() < 3
    (frame,) = SeekableVideo(path).frames_at([1])
    assert np.abs(frame.astype(int) - expected).mean() < 3


def test_pixels_are_made_square_before_the_picture_is_turned(tmp_path, corner):
    path = write_video(tmp_path / "a.mp4", corner, aspect=Fraction(4, 3), turn=(90,))
    assert arrays(path).shape == (3, 128, 64, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "ffv1", "bgra"),
        ("b.mkv", "ffv1", "yuva420p"),
        ("a.mov", "qtrle", "argb"),
        ("b.mov", "prores_ks", "yuva444p10le"),
        ("c.mov", "png", "rgba"),
    ],
)
def test_transparent_video_is_laid_on_black_as_images_are(tmp_path, name, codec, pix_fmt):
    frames = np.full((4, 64, 96, 4), 255, np.uint8)
    frames[..., 3] = np.repeat([0, 128, 255], 32)  # red, in three steps of transparency
    frames[..., 1:3] = 0
    path = write_video(tmp_path / name, frames, codec, pix_fmt=pix_fmt)
    seeking = np.stack(list(SeekableVideo(path).frames_at(range(4))))
    for read in (arrays(path), seeking):
        assert read.shape == (4, 64, 96, 3)
        for left, red in ((8, 0), (40, 128), (72, 255)):
            assert np.abs(read[:, :, left : left + 16] - [red, 0, 0]).max() <= 4
    images = ClipProcessor().preprocess([Image.fromarray(frame) for frame in frames], (64, 96))[0]
    assert (ClipProcessor().preprocess(path, (64, 96))[0] - images)[..., 8:24].abs().max() < 0.04


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize(("space", "full"), [(1, False), (5, False), (1, True), (6, True)])
def test_colours_are_those_that_the_stream_says(tmp_path, pix_fmt, space, full):
    """BT.709 and BT.601, in video's range and in the full one, in 8 and in 10 bits."""
    colours = np.zeros((2, 64, 96, 3), np.uint8)
    colours[:, :32, :48], colours[:, :32, 48:], colours[:, 32:, 48:] = (200, 30, 30), (30, 200, 30), (120, 120, 220)
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, pix_fmt
        stream.codec_context.colorspace, stream.codec_context.color_range = space, 2 if full else 1
        for frame in colours:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(
                stream.encode(picture.reformat(format=pix_fmt, dst_colorspace=space, dst_color_range=2 if full else 1))
            )
        container.mux(stream.encode())
    read = arrays(tmp_path / "a.mp4")
    for y, x in ((16, 24), (16, 72), (48, 72)):
        assert np.abs(read[0, y, x].astype(int) - colours[0, y, x]).max() <= 4, (y, x)


# ----------------------------------------------------------------------------------------------------------- which
# stream


def two_streams(path, first, second, first_is_art=False, default=None):
    """Both h264, or the first a picture that goes with the file."""
    with av.open(str(path), "w") as container:
        streams = []
        for number, frames in enumerate((first, second)):
            if frames is None:
                continue
            art = number == 0 and first_is_art
            stream = container.add_stream("mjpeg" if art else "libx264", rate=25)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuvj420p" if art else "yuv420p"
            if art:
                stream.disposition = av.stream.Disposition.attached_pic
            elif default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append((stream, frames))
        for stream, frames in streams:
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    return path


MOVING, STILL, OTHER = numbered_frames(12), numbered_frames(60)[55:56], numbered_frames(40)[28:]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    ("first", "second", "options", "numbers"),
    [
        (STILL, MOVING, {}, range(12)),
        (MOVING, STILL, {}, range(12)),
        (STILL, MOVING, {"first_is_art": True}, range(12)),
        (MOVING, OTHER, {"default": 0}, range(12)),
        (MOVING, OTHER, {"default": 1}, range(28, 40)),
        (STILL, MOVING, {"default": 0}, range(12)),  # marked or not, a still is not the video beside one that moves
    ],
    ids=["still first", "still last", "cover first", "first", "second is default", "still is default"],
)
def test_of_several_streams_the_video_is_read(tmp_path, name, first, second, options, numbers):
    path = two_streams(tmp_path / name, first, second, **options)
    assert [number_of(frame) for frame in arrays(path)] == list(numbers)
    clip = SeekableVideo(path)
    assert [number_of(frame) for frame in clip.frames_at([0, len(clip) - 1])] == [numbers[0], numbers[-1]]


def test_a_still_alone_is_a_clip_of_one_frame(tmp_path):
    assert len(arrays(two_streams(tmp_path / "a.mp4", STILL, None))) == 1


def test_cover_art_of_a_song_is_no_clip(tmp_path):
    cover = io.BytesIO()
    Image.new("RGB", (48, 48), "red").save(cover, "JPEG")
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=44100)
        art = container.add_stream("mjpeg", rate=1)
        art.width = art.height = 48
        art.pix_fmt = "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        for packet in art.encode(av.VideoFrame.from_image(Image.new("RGB", (48, 48), "red"))):
            container.mux(packet)
        container.mux(art.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), format="fltp", layout="stereo")
        sound.sample_rate = 44100
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    for read in (load_clip, SeekableVideo):
        with pytest.raises(ValueError, match=r"song.m4a' has no video in it, only pictures that go with it\."):
            read(tmp_path / "song.m4a")


# ----------------------------------------------------------------------------------------------------------------
# damage


def noise(count=30, height=64, width=96):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack(
        [np.stack([(2 * x + 5 * i) % 256, (3 * y + 3 * i) % 256, (200 - x + 7 * i) % 256], -1) for i in range(count)]
    ).astype(np.uint8)


def damaged(path, frames, codec, suffix, **options):
    """
    A file of which some bytes in the middle are overwritten so that the decoder goes on, marking frames as corrupt.
    """
    whole = write_video(path.with_name(f"whole{suffix}"), frames, codec, **options).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(whole)
        at = int(rng.integers(len(whole) // 3, len(whole) * 3 // 4))
        content[at : at + 30] = rng.bytes(30)
        path.write_bytes(content)
        try:
            with av.open(str(path)) as container:
                marks = [frame.is_corrupt for frame in container.decode(video=0)]
        except av.FFmpegError:
            continue
        if any(marks):
            return path
    raise AssertionError("no damage was marked")


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mkv", "libx264"), (".mp4", "libx264"), (".avi", "mpeg4"), (".mpg", "mpeg2video")]
)
def test_frames_that_the_decoder_marks_as_damaged_are_refused(tmp_path, suffix, codec):
    path = damaged(tmp_path / f"bad{suffix}", noise(), codec, suffix)
    with pytest.raises(ValueError, match=rf"bad{suffix}' is damaged at \d\.\d\d s: copy or download it again"):
        load_clip(path)
    clip = SeekableVideo(path)
    with pytest.raises(ValueError, match=rf"bad{suffix}' is damaged"):
        list(clip.frames_at(range(len(clip))))
    assert len(load_clip(tmp_path / f"whole{suffix}")) == 30


def test_motion_jpeg_is_refused_where_a_picture_breaks_off(tmp_path):
    whole = write_video(tmp_path / "a.mov", noise(), "mjpeg").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "bad.mov").write_bytes(whole[:middle] + b"\xff\x00" * 30 + whole[middle + 60 :])  # no code is all ones
    with pytest.raises(ValueError, match="bad.mov' is damaged: copy or download it again"):
        load_clip(tmp_path / "bad.mov")
    clip = SeekableVideo(tmp_path / "bad.mov")
    with pytest.raises(ValueError, match="bad.mov' is damaged"):
        list(clip.frames_at(range(len(clip))))
    assert len(load_clip(tmp_path / "a.mov")) == 30


def test_a_damaged_frame_that_is_passed_over_spoils_those_predicted_from_it(tmp_path):
    path = damaged(tmp_path / "bad.mp4", noise(), "libx264", ".mp4", keyframe_every=30)
    with av.open(str(path)) as container:
        number = [frame.is_corrupt for frame in container.decode(video=0)].index(True)
    with pytest.raises(ValueError, match="bad.mp4' is damaged"):
        list(SeekableVideo(path).frames_at([number + 1]))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.mp4", "libx264")]
)
def test_a_file_that_ends_too_early_is_refused(tmp_path, name, codec):
    whole = write_video(tmp_path / name, numbered_frames(40), codec).read_bytes()
    assert len(load_clip(tmp_path / name)) == 40
    (tmp_path / f"cut_{name}").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ValueError, match=f"cut_{name}' is cut short: copy or download it again"):
        load_clip(tmp_path / f"cut_{name}")


def test_a_recording_that_does_not_know_its_own_length_is_read(tmp_path):
    whole = bytearray(write_video(tmp_path / "a.mkv", numbered_frames(12)).read_bytes())
    at = whole.index(b"\x18\x53\x80\x67") + 4
    assert whole[at] == 1  # a length of eight bytes
    whole[at : at + 8] = b"\x01" + b"\xff" * 7
    (tmp_path / "live.mkv").write_bytes(whole)
    assert len(load_clip(tmp_path / "live.mkv")) == 12
    for stump in (b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x01", bytes.fromhex("1a45dfa3ff") + b"\x18\x53\x80\x67"):
        (tmp_path / "stump.mkv").write_bytes(stump)
        with pytest.raises(ValueError, match="stump.mkv"):
            load_clip(tmp_path / "stump.mkv")


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.ts", "mpeg2video")])
def test_a_broadcast_that_was_joined_late_is_read_from_its_first_whole_picture(tmp_path, name, codec):
    whole = write_video(tmp_path / name, np.concatenate([noise()] * 2), codec).read_bytes()
    (tmp_path / name).write_bytes(whole[188 * 40 :])
    assert 20 <= len(load_clip(tmp_path / name)) < 60
