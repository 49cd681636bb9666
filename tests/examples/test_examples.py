"""Every example runs as it stands, is short, and does what it says."""

import runpy
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import videos
from datasets import load_from_disk
from media import write_video
from PIL import Image

from divid_diffusers.data.puppets import Puppets


EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def run(name, *words, monkeypatch):
    path = next(path for path in EXAMPLES if path.stem == name)
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, words)])
    runpy.run_path(str(path), run_name="__main__")


def frames(path):
    return Image.open(path).n_frames


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_enough_to_read(path):
    limit = 200 if path.stem == "msd_benchmark" else 60  # it has a method for each that another package asks for
    assert len(path.read_text().splitlines()) <= limit


def test_swap(tmp_path, monkeypatch, capsys):
    run("swap", "--output_dir", tmp_path, "--num_people=2", "--num_motions=2", monkeypatch=monkeypatch)
    assert frames(tmp_path / "swap.gif") == 10 and "identity kept" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["reconstruct", "interpolate", "animate", "generate"])
def test_pictures(name, tmp_path, monkeypatch):
    target = tmp_path / "new" / "clip.gif"
    run(name, "--output", target, monkeypatch=monkeypatch)
    assert frames(target) == 10


@pytest.mark.parametrize("factor", ["static", "dynamic", "both"])
def test_interpolate_in_every_factor_it_offers(factor, tmp_path, monkeypatch):
    flags = ["--factor", factor, "--num_clips=2", "--output", tmp_path / "clip.gif"]
    run("interpolate", *flags, monkeypatch=monkeypatch)
    with Image.open(tmp_path / "clip.gif") as clip:
        assert clip.size == (128, 64) and clip.n_frames == 10


@pytest.mark.parametrize("predict", ["eps", "x_0"])
def test_minimal_trains_and_swaps(predict, tmp_path, monkeypatch, capsys):
    target = tmp_path / "new" / "minimal.gif"
    run("minimal", "--steps=3", f"--predict={predict}", "--output", target, monkeypatch=monkeypatch)
    assert frames(target) == 10 and Image.open(target).size == (3 * 64, 64)
    loss = float(capsys.readouterr().out.split("L_DDPM ")[1].split(",")[0])
    # An untrained network gives about 0: noise has variance 1, clips far less.
    assert (loss > 0.7) == (predict == "eps")


def test_reconstruct_a_clip_of_ones_own(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4", Puppets(1, num_frames=7)[0]["frames"].permute(0, 2, 3, 1).numpy())
    run("reconstruct", tmp_path / "clip.mp4", "--output", tmp_path / "clip.gif", monkeypatch=monkeypatch)
    assert frames(tmp_path / "clip.gif") == 7


def test_encode_folder_skips_what_is_no_clip(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "videos"
    (folder / "below").mkdir(parents=True)
    for i, place in enumerate((folder, folder / "below")):
        write_video(place / "clip.mp4", Puppets(2)[i]["frames"].permute(0, 2, 3, 1).numpy())
    (folder / "notes.mp4").write_text("no video")
    run("encode_folder", folder, tmp_path / "features.parquet", monkeypatch=monkeypatch)
    table = pq.read_table(tmp_path / "features.parquet")
    assert table["file"].to_pylist() == ["below/clip.mp4", "clip.mp4"] and table.num_columns == 1 + 64 + 64
    assert "Skipped:" in capsys.readouterr().out


def test_encode_folder_finds_the_clips_that_are_prepared_of_the_same_folder(tmp_path, monkeypatch, capsys):
    folder, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    for place in (folder / "ann", folder / "@eaDir", folder / "frames", elsewhere):
        place.mkdir(parents=True)
    clip = Puppets(1)[0]["frames"].permute(0, 2, 3, 1).numpy()
    write_video(folder / "ann" / "c1.mp4", clip)
    write_video(elsewhere / "c2.mp4", clip)
    (folder / "link").symlink_to(elsewhere)
    pictures = [Image.fromarray(frame) for frame in clip[:3]]
    pictures[0].save(folder / "ann" / "c1.jpg")
    pictures[0].save(folder / "@eaDir" / "t.jpg")
    for i, picture in enumerate(pictures):
        picture.save(folder / "frames" / f"{i}.png")
    run("encode_folder", folder, tmp_path / "features.parquet", monkeypatch=monkeypatch)
    printed = capsys.readouterr().out
    assert "Skipped: ann: its pictures (1) lie beside videos or clips" in printed and "Wrote 3 clips" in printed
    found = pq.read_table(tmp_path / "features.parquet")["file"].to_pylist()
    videos.main([f"--input={folder}", f"--output_dir={tmp_path / 'set'}", "--num_workers=1", "--size=8"])
    prepared = [row["clip_id"] for split in load_from_disk(tmp_path / "set").values() for row in split]
    assert found == sorted(prepared) == ["ann/c1.mp4", "frames", "link/c2.mp4"]


@pytest.mark.parametrize(
    ("name", "message"), [("gone", "There is no folder .*gone"), ("empty", "holds no video, GIF or folder of frame")]
)
def test_encode_folder_of_a_folder_without_clips_ends_in_a_sentence(name, message, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=message):
        run("encode_folder", tmp_path / name, tmp_path / "features.parquet", monkeypatch=monkeypatch)


def test_classify_finds_motion_in_d_and_hair_in_s(monkeypatch, capsys):
    run("classify", "--num_clips=90", monkeypatch=monkeypatch)
    told = {
        line.split(":")[0]: int(line.split(": ")[1].split("%")[0]) for line in capsys.readouterr().out.splitlines()
    }
    assert told["motion from d"] > 2 * told["motion from s"]
    assert set(told) == {f"{label} from {token}" for label in ("motion", "long hair") for token in "sd"}


def test_fine_tune_on_a_folder_of_videos(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in range(6):
        write_video(folder / f"clip{i}.mp4", Puppets(6)[i]["frames"].permute(0, 2, 3, 1).numpy())
    flags = ["--num_frames=4", "--train_batch_size=2", "--validation_steps=0", "--report_to=none"]
    secret = "--hub_token=hf_secret"
    run("fine_tune", folder, tmp_path / "mine", "--max_train_steps=1", secret, *flags, monkeypatch=monkeypatch)
    assert (tmp_path / "mine" / "model_index.json").is_file()
    printed = "".join(capfd.readouterr())
    assert "train_divid.py --dataset" in printed and "hf_" not in printed
