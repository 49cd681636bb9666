"""`divid` does what its help says, and answers a user's mistake with a sentence."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from media import numbered_frames, write_video
from PIL import Image
from safetensors.torch import load_file
from tiny import latent_pipeline, tiny_directions, tiny_pipeline, tiny_prior

from divid_diffusers import DiViDPipeline, cli, load_clip
from divid_diffusers.clips import reading as clip_reading


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model with guidance, directions and a prior, one on latents, two clips of 4 frames, one of 6, an image."""
    folder = tmp_path_factory.mktemp("cli")
    pipe = tiny_pipeline(static_dropout=0.1, dynamic_dropout=0.1)
    pipe.save_pretrained(folder / "without")
    latent_pipeline().save_pretrained(folder / "latents")
    pipe.register_modules(directions=tiny_directions(pipe.encoder), prior=tiny_prior(pipe.encoder))
    pipe.save_pretrained(folder / "model")
    for name, count in (("a.mp4", 4), ("b.mp4", 4), ("long.mp4", 6)):
        write_video(folder / name, numbered_frames(count, 32, 32))
    Image.new("RGB", (20, 30), "red").save(folder / "photo.png")
    return folder


@pytest.fixture(autouse=True)
def here(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIVID_MODEL", str(place / "model"))


def divid(place, line):
    return cli.main([word.format(place=place) for word in line.split()])


@pytest.mark.parametrize(
    ("line", "frames", "width"),
    [
        ("swap {place}/a.mp4 {place}/long.mp4 -o out.gif", 6, 16),
        ("animate {place}/photo.png {place}/b.mp4 -o out.gif --static-guidance 1.5 --dynamic-guidance 2", 4, 16),
        ("reconstruct {place}/a.mp4 -o out.gif --steps 2", 4, 16),
        ("generate --motion {place}/a.mp4 -o out.gif", 4, 16),
        ("generate --motion {place}/b.mp4 --identity {place}/photo.png --frames 6 -o out.gif", 6, 16),
        ("interpolate {place}/a.mp4 {place}/b.mp4 -o out.gif --factor dynamic --num-clips 3", 4, 48),
    ],
)
def test_a_clip_is_written(place, line, frames, width):
    assert divid(place, line) == 0
    with Image.open("out.gif") as gif:
        durations = 0
        for number in range(gif.n_frames):
            gif.seek(number)
            durations += gif.info["duration"]
        assert gif.size == (width, 16) and durations == 40 * frames  # 25 frames a second, as the motion clip


def test_a_swap_is_that_of_the_pipeline_with_the_same_seed(place):
    assert divid(place, "swap {place}/a.mp4 {place}/b.mp4 -o out.png --seed 7") == 0
    pipe = DiViDPipeline.from_pretrained(place / "model")
    frames = pipe.swap(str(place / "a.mp4"), str(place / "b.mp4"), generator=torch.Generator().manual_seed(7)).frames[
        0
    ]
    expected = np.concatenate([np.asarray(frame) for frame in frames], axis=1)
    assert np.array_equal(np.asarray(Image.open("out.png")), expected)


def test_a_model_on_latents_writes_frames_and_says_whose_latents(place, capsys):
    assert divid(place, "swap {place}/a.mp4 {place}/long.mp4 -o out.gif --model {place}/latents") == 0
    with Image.open("out.gif") as gif:
        assert gif.size == (32, 32) and gif.n_frames == 6
    assert divid(place, "encode {place}/a.mp4 -o tokens.npz --model {place}/latents") == 0
    assert divid(place, "info --model {place}/latents") == 0
    printed = capsys.readouterr().out
    assert "frames      32 x 32, RGB\n" in printed
    assert "autoencoder AutoencoderTiny, 0.01 M, 4 channels of 16 x 16\n" in printed
    assert divid(place, "info") == 0 and "autoencoder none\n" in capsys.readouterr().out


def test_an_edit_is_that_of_the_pipeline(place):
    line = ["edit", str(place / "a.mp4"), "--by", "static 1=2", "--by", "dynamic 3 = -1.5", "-o", "out.png"]
    assert cli.main(line) == 0
    pipe, generator = DiViDPipeline.from_pretrained(place / "model"), torch.Generator().manual_seed(0)
    amounts = {"static 1": 2.0, "dynamic 3": -1.5}
    (frames,) = pipe.edit(str(place / "a.mp4"), amounts, generator=generator).frames
    expected = np.concatenate([np.asarray(frame) for frame in frames], axis=1)
    assert np.array_equal(np.asarray(Image.open("out.png")), expected)


def test_a_video_plays_at_the_rate_asked_for(place):
    assert divid(place, "swap {place}/a.mp4 {place}/b.mp4 -o out.mp4 --fps 5") == 0
    assert len(load_clip("out.mp4")) == 4 and cli.frame_rate("out.mp4") == 5


@pytest.mark.parametrize("kind", ["gif", "webp", "png", "url", "home", "varying.mkv"])
def test_what_is_written_plays_as_long_as_the_motion_clip(place, tmp_path, monkeypatch, kind):
    folder = tmp_path / "motion"
    folder.mkdir()
    images = [Image.fromarray(frame) for frame in numbered_frames(4, 32, 32)]
    if kind in ("gif", "webp", "png"):
        images[0].save(
            folder / f"a.{kind}",
            save_all=True,
            append_images=images[1:],
            duration=125 if kind != "gif" else 50,
            lossless=True,
        )
        motion, rate = folder / f"a.{kind}", 8 if kind != "gif" else 20
    elif kind == "varying.mkv":
        motion, rate = write_video(folder / "a.mkv", numbered_frames(4, 32, 32), milliseconds=[0, 40, 80, 600]), 5
    elif kind == "home":
        monkeypatch.setenv("HOME", str(place))
        motion, rate = "~/b.mp4", 25
    else:
        asked = []

        def fetch(url, path):
            asked.append(url)
            path.write_bytes((place / "b.mp4").read_bytes())

        monkeypatch.setattr(clip_reading, "download", fetch)
        motion, rate = "https://example.org/b.mp4", 25
    assert divid(place, f"swap {{place}}/a.mp4 {motion} -o out.mp4") == 0
    assert cli.frame_rate("out.mp4") == rate and len(load_clip("out.mp4")) == 4
    assert kind != "url" or asked == ["https://example.org/b.mp4"]


def test_a_rate_that_a_gif_cannot_show_is_said(place, tmp_path, capsys):
    write_video(tmp_path / "fast.mp4", numbered_frames(4, 32, 32), milliseconds=[0, 10, 20, 30])
    assert divid(place, "reconstruct fast.mp4 -o out.gif") == 0
    assert cli.frame_rate("out.gif") == 50
    assert "'fast.mp4' has 100.0 frames a second; out.gif is written with 50" in capsys.readouterr().err


def test_a_quoted_home_is_resolved_in_the_output_as_well(place, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert divid(place, "reconstruct {place}/a.mp4 -o ~/out.gif") == 0 and (tmp_path / "out.gif").is_file()
    assert divid(place, "encode {place}/a.mp4 -o ~/out.npz") == 0 and (tmp_path / "out.npz").is_file()


def test_a_video_of_one_frame_has_no_rate_of_its_own(place, tmp_path):
    write_video(tmp_path / "one.mp4", numbered_frames(1, 32, 32))
    assert divid(place, "reconstruct one.mp4 -o out.mp4") == 0 and len(load_clip("out.mp4")) == 1


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_tokens_are_written(place, suffix, capsys):
    assert divid(place, "encode {place}/a.mp4 {place}/b.mp4 -o out." + suffix) == 0
    told = load_file("out.safetensors") if suffix == "safetensors" else np.load("out.npz")
    pipe = DiViDPipeline.from_pretrained(place / "model")
    tokens = pipe.encode([str(place / "a.mp4"), str(place / "b.mp4")])
    np.testing.assert_allclose(np.asarray(told["static"]), tokens.static.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(np.asarray(told["dynamic"]), tokens.dynamic.detach().numpy(), atol=1e-6)
    assert "static (2, 16), dynamic (2, 4, 16)" in capsys.readouterr().out


def test_info_says_what_a_checkpoint_is(place, capsys):
    assert divid(place, "info") == 0
    printed = capsys.readouterr().out
    assert "16 x 16, RGB" in printed and "static 16, dynamic 16 per frame" in printed and "3 steps" in printed
    assert "static 1 (top), static 2, dynamic 1, dynamic 2, dynamic 3" in printed
    assert divid(place, "info --model {place}/without") == 0
    assert "none, so `divid edit` has nothing to move a clip along" in capsys.readouterr().out


MISTAKES = {
    "swap {place}/none.mp4 {place}/b.mp4 -o out.gif": "There is no file or folder '{place}/none.mp4'",
    "swap {place}/a.mp4 {place}/model/model_index.json -o out.gif": "is not a video or image that can be decoded",
    "swap {place}/a.mp4 {place}/b.mp4 -o out.gif --steps 0": "`num_inference_steps` is 0",
    "interpolate {place}/a.mp4 {place}/long.mp4 -o out.gif --factor dynamic": "4 and 6 frames",
    "interpolate {place}/a.mp4 {place}/b.mp4 -o out.gif --num-clips 1": "`num_clips` is 1",
    "encode {place}/a.mp4 {place}/long.mp4 -o out.npz": "The clips have 4, 6 frames",
    "edit {place}/a.mp4 --by height=2 -o out.gif": "no direction 'height': choose from static 1, static 2, dynamic 1",
    "generate -o out.gif --model {place}/without": "This checkpoint has no prior",
    "generate --frames 7 -o out.gif": "this prior draws 1 to 6 frames",
    "edit {place}/a.mp4 --by height=nan -o out.gif --model {place}/without": "This checkpoint has no directions",
    "info --model {place}": "model_index.json",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_a_sentence_and_leaves_no_file(place, tmp_path, line, capsys):
    assert divid(place, line) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("divid: ") and MISTAKES[line].format(place=place) in said
    assert not list(tmp_path.iterdir())


NONSENSE = {
    "swap a.mp4 b.mp4 -o out.avi": "must end in one of .mp4, .gif, .png",
    "encode a.mp4 -o out.mp4": "must end in one of .safetensors, .npz",
    "swap a.mp4 b.mp4 -o nowhere/out.mp4": "There is no folder 'nowhere'",
    "encode a.mp4 -o nowhere/out.npz": "There is no folder 'nowhere'",
    "swap a.mp4 b.mp4 -o {place}/folder.mp4": "folder.mp4' is a folder",
    "encode a.mp4 -o {place}/folder.npz": "folder.npz' is a folder",
    "swap a.mp4 b.mp4 -o /proc/out.mp4": "Cannot write into the folder '/proc'",
    "swap a.mp4 -o out.mp4": "motion",
    "edit a.mp4 -o out.mp4": "--by",
    "edit a.mp4 --by height -o out.mp4": "'height' is no DIRECTION=AMOUNT: write it as in \"static 1=2\"",
    "swap a.mp4 b.mp4 -o out.mp4 --fps 0": "`fps` is 0.0, but a .mp4 takes from 0.01 to 1000",
    "swap a.mp4 b.mp4 -o out.mp4 --fps nan": "`fps` is nan",
    "swap a.mp4 b.mp4 -o out.mp4 --fps inf": "`fps` is inf",
    "swap a.mp4 b.mp4 -o out.gif --fps 0.001": "`fps` is 0.001, but a .gif takes from 0.01 to 50",
    "swap a.mp4 b.mp4 -o out.gif --fps 60": "`fps` is 60.0, but a .gif takes from 0.01 to 50",
    "swap a.mp4 b.mp4 -o out.mp4 --seed 99999999999999999999": "--seed: '99999999999999999999' is not a whole number",
    "dance a.mp4": "invalid choice: 'dance'",
}


@pytest.mark.parametrize("line", NONSENSE)
def test_a_command_line_that_makes_no_sense_is_refused_before_a_model_is_loaded(place, line, capsys):
    for name in ("folder.mp4", "folder.npz"):
        (place / name).mkdir(exist_ok=True)
    with pytest.raises(SystemExit) as stop:
        divid(place, line)
    assert stop.value.code == 2 and NONSENSE[line] in capsys.readouterr().err


def test_a_missing_model_is_asked_for(place, monkeypatch, capsys):
    monkeypatch.delenv("DIVID_MODEL")
    with pytest.raises(SystemExit):
        divid(place, "info")
    assert "which model? Give --model, or set DIVID_MODEL" in capsys.readouterr().err


def test_as_a_command(place, tmp_path):
    command = [sys.executable, "-m", "divid_diffusers.cli", "swap", "none.mp4", "none.mp4", "-o", "out.mp4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "divid: There is no file or folder 'none.mp4'." in done.stderr
