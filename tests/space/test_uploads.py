"""What is read is what the pipeline would read; what is refused is refused in a sentence and before it is unpacked."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import uploads
from hostile import gif, write_hostile
from media import damaged_files, number_of, numbered_frames, write_video
from PIL import Image
from uploads import Refused, frames_of, read_upload

from divid_diffusers import ClipProcessor


def as_the_pipeline_reads(path, size):
    (frames,) = ClipProcessor().preprocess(str(path), size)
    return ((frames.permute(0, 2, 3, 1) / 2 + 0.5) * 255).round().numpy()


def test_a_video_is_read_as_the_pipeline_reads_it(tmp_path):
    path = write_video(tmp_path / "clip.mp4", numbered_frames(7))
    frames, fps = read_upload(str(path), "clip", 32, 16)
    assert frames.shape == (7, 32, 32, 3) and frames.dtype == np.uint8 and fps == pytest.approx(25)
    assert np.abs(frames - as_the_pipeline_reads(path, 32)).max() <= 2


def test_of_a_long_video_evenly_spaced_frames_are_read_which_last_as_long(tmp_path):
    path = write_video(tmp_path / "clip.mp4", numbered_frames(41))
    frames, fps = read_upload(str(path), "clip", 16, 5)
    assert [number_of(frame) for frame in frames] == [0, 10, 20, 30, 40] and fps == pytest.approx(5 / 41 * 25)


@pytest.mark.parametrize("options", [{"turn": (90,)}, {"turn": (0, True)}, {"aspect": Fraction(4, 3)}], ids=str)
def test_a_video_is_read_as_it_is_shown(tmp_path, options):
    corner = numbered_frames(3, 48, 96)
    corner[:, :24, :60] = 250
    path = write_video(tmp_path / "clip.mp4", corner, **options)
    frames, _ = read_upload(str(path), "clip", 16, 4)
    assert np.abs(frames - as_the_pipeline_reads(path, 16)).max() <= 3


def test_a_photo_with_a_second_view_is_a_still_however_large(tmp_path):
    views = [Image.new("RGB", (5000, 40), colour) for colour in ("white", "black")]
    views[0].save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=views[1:])
    frames, _ = read_upload(str(tmp_path / "photo.jpg"), "clip", 16, 4)
    assert len(frames) == 1 and frames.min() > 250


def test_the_process_that_decodes_loads_no_torch(tmp_path):
    """Which would take seconds, and more than its memory."""
    path = write_video(tmp_path / "clip.mp4", numbered_frames(2))
    command = [sys.executable, "-X", "importtime", uploads.__file__, str(path), "The clip", "16", "2"]
    loaded = subprocess.run(command, capture_output=True).stderr.decode()
    assert "divid_diffusers.clips.reading" in loaded and "torch" not in loaded and "diffusers.models" not in loaded


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animated_picture_is_a_clip(tmp_path, suffix):
    images = [Image.fromarray(frame) for frame in numbered_frames(6)]
    path = tmp_path / f"clip.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100, lossless=True)
    frames, fps = frames_of(path, "The clip", 32, 3)
    assert [round(number_of(frame)) for frame in frames] == [0, 2, 5] and fps == 5  # three frames in 0.6 s


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
def test_a_picture_is_read_as_the_pipeline_reads_it(tmp_path, mode):
    pixels = np.linspace(0, 1, 40 * 60).reshape(40, 60)
    image = Image.fromarray((pixels * 255).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray((pixels * 65535).astype(np.uint16))
    elif mode == "RGBA":
        image = Image.merge("RGBA", [image, image, image, image.transpose(Image.Transpose.ROTATE_180)])
    else:
        image = image.convert(mode)
    image.save(tmp_path / "picture.png")
    frames, _ = frames_of(tmp_path / "picture.png", "The clip", 16, 5)
    assert np.abs(frames[0] - as_the_pipeline_reads(tmp_path / "picture.png", 16)[0]).max() <= 2


def test_hostile_files_are_refused_in_a_sentence(tmp_path):
    for path, sentence in write_hostile(tmp_path).items():
        try:
            read_upload(path, "motion clip", 16, 4)
            said = "nothing"
        except Refused as refusal:
            said = str(refusal)
        assert said.startswith("The motion clip ") and said.endswith(".") and sentence in said, (path, said)
        assert str(tmp_path) not in said  # nobody is told where things lie on the server


def test_damaged_files_are_refused_or_read_as_far_as_they_go(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", numbered_frames(12)).read_bytes()
    for name, content in damaged_files(whole).items():
        (tmp_path / "damaged.mp4").write_bytes(content)
        try:
            frames, _ = frames_of(tmp_path / "damaged.mp4", "The clip", 16, 4)
        except (Refused, OSError, ValueError) as error:
            assert name and str(error)
        else:
            assert 1 <= len(frames) <= 4


def test_nothing_and_a_file_that_has_gone_are_asked_for(tmp_path):
    with pytest.raises(Refused, match="There is no identity clip yet"):
        read_upload(None, "identity clip", 16, 4)
    with pytest.raises(Refused, match="no longer here: upload it again"):
        read_upload(str(tmp_path / "gone.mp4"), "identity clip", 16, 4)


def test_a_gif_within_the_limits_is_read(tmp_path):
    (tmp_path / "clip.gif").write_bytes(gif(40, 30, 300))
    assert len(frames_of(tmp_path / "clip.gif", "The clip", 16, 4)[0]) == 4
