"""
Sprites is composed from its sheets as its authors do it, split as published, and bad or missing sheets are refused at
once.
"""

import dataclasses
import io
import os
import pickle
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import sprites
from PIL import Image
from preparation import prepare
from sprites import ACTIONS, download, main, make_plan

from divid_diffusers.data.prepared import load_clips


FOLDERS = ["body", "bottomwear", "topwear", "hair", "shoes"]
BAND = 8  # pixels: each layer leaves one band more of every cell clear, so a band of each stays in sight
VEIL = 51  # alpha of the first row of pixels of the tops: a fifth
DATA = Path(os.environ.get("DIVID_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))

# By hand: the row of each action on the sheets, and its columns.
ROWS = {"walk": (10, 9, 11), "spellcast": (2, 1, 3), "slash": (14, 13, 15)}  # front, left, right
COLUMNS = {
    "walk": [8, 1, 2, 3, 4, 5, 6, 7],
    "spellcast": [0, 1, 2, 3, 4, 5, 4, 6],
    "slash": [0, 1, 2, 3, 4, 5, 4, 0],
}


def colour(layer, number, row, column):
    return 40 * layer + 6 * number + 9, 12 * row + 3, 18 * column + 5


def draw_sheet(layer, number):
    cells = np.full((21, 64, 13, 64, 4), 255, np.uint8)
    for row in range(21):
        for column in range(13):
            cells[row, :, column, :, :3] = colour(layer, number, row, column)
    cells[..., : BAND * (layer + 1), 3] = 0
    if layer == 2:
        cells[:, 0, :, BAND * (layer + 1) :, 3] = VEIL
    return Image.fromarray(cells.reshape(21 * 64, 13 * 64, 4))


def frame_by_hand(numbers, row, column):
    frame = np.zeros((64, 64, 3))
    for layer, number in enumerate([*numbers, 1]):  # everyone wears shoes/1
        opacity = np.ones((64, 1, 1))
        if layer == 2:
            opacity[0] = VEIL / 255
        seen = frame[:, BAND * (layer + 1) :]
        seen[:] = opacity * np.array(colour(layer, number, row, column)) + (1 - opacity) * seen
    return frame


def png(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def lpc_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheets")
    for layer, name in enumerate(FOLDERS):
        (folder / name).mkdir()
        for number in range(6) if name != "shoes" else [1]:
            (folder / name / f"{number}.png").write_bytes(png(draw_sheet(layer, number)))
    return folder


@pytest.fixture
def own_lpc_dir(lpc_dir, tmp_path):
    return Path(shutil.copytree(lpc_dir, tmp_path / "own"))


@pytest.fixture
def server(own_lpc_dir, monkeypatch):
    """The public repository, served from a folder that a test may damage. It keeps the paths asked for."""

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=own_lpc_dir))
    server.folder, server.asked = own_lpc_dir, asked
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sprites, "SHEETS_URL", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_clip_is_composed_of_the_right_cells_in_the_right_order(lpc_dir, action):
    plan = make_plan(lpc_dir)
    clip = next(clip for clip in plan.clips if clip.clip_id == f"c0418_{action}")
    frames = pickle.loads(pickle.dumps(plan.read))(clip)  # as a worker process receives it
    motion, view = action.split("_")
    row = ROWS[motion][["front", "left", "right"].index(view)]
    by_hand = np.stack([frame_by_hand((1, 5, 3, 4), row, column) for column in COLUMNS[motion]])
    assert frames.dtype == np.uint8 and frames.shape == (8, 64, 64, 3)
    assert np.array_equal(frames[:, 1:], by_hand[:, 1:])
    assert np.abs(frames - by_hand).max() < 1  # the veil is rounded


def test_the_clips_are_the_standard_set(lpc_dir):
    plan = make_plan(lpc_dir)
    assert len(plan.clips) == 11664 == len({clip.clip_id for clip in plan.clips})
    assert ACTIONS == [f"{m}_{v}" for m in ("walk", "spellcast", "slash") for v in ("front", "left", "right")]
    assert {name: len(classes) for name, classes in plan.labels.items()} == {
        "identity": 1296, "action": 9, "body": 6, "bottom": 6, "top": 6, "hair": 6
    }  # fmt: skip
    clip = plan.clips[9 * 418 + 1]
    assert (clip.clip_id, clip.source) == ("c0418_walk_left", "body/1+bottomwear/5+topwear/3+hair/4")
    assert clip.labels == {
        "identity": "0418", "action": "walk_left", "body": "1", "bottom": "5", "top": "3", "hair": "4"
    }  # fmt: skip
    looks = {tuple(clip.labels[part] for part in ("body", "bottom", "top", "hair")) for clip in plan.clips}
    assert len(looks) == 1296
    assert "CC-BY-SA 3.0" in plan.license and "Li and Mandt" in plan.citation


def test_the_split_is_the_published_one_whose_training_characters_are_not_all_trained_on(lpc_dir):
    state = np.random.get_state()
    np.random.seed(423)
    order = np.random.permutation(range(1296))
    np.random.set_state(state)
    assert order[:4].tolist() == [1116, 1135, 17, 469]
    plan = make_plan(lpc_dir)
    numbers = {
        split: [int(c.labels["identity"]) for c in plan.clips if c.split == split]
        for split in ("train", "validation", "test")
    }
    assert set(numbers["train"]) == set(order[:900].tolist()) and len(numbers["train"]) == 8100
    assert set(numbers["validation"]) == set(order[900:1000].tolist()) and len(numbers["validation"]) == 900
    assert set(numbers["test"]) == set(order[1000:].tolist()) and len(numbers["test"]) == 2664


def test_a_set_is_made(lpc_dir, tmp_path):
    plan = make_plan(lpc_dir)
    plan = dataclasses.replace(plan, clips=plan.clips[:32])
    report = prepare(plan, tmp_path / "set")
    assert sum(report["clips"].values()) == 32 and report["frames"] == 256 and not report["skipped"]
    by_id = {clip.clip_id: clip for clip in plan.clips}
    for split in report["clips"]:
        for row in load_clips(str(tmp_path / "set"), split):
            clip = by_id.pop(row["clip_id"])
            assert clip.split == split and row["identity"] == int(clip.labels["identity"])
            assert ACTIONS[row["action"]] == clip.labels["action"] and row["hair"] == int(clip.labels["hair"])
            assert np.array_equal(row["frames"].permute(0, 2, 3, 1).numpy(), plan.read(clip))
    assert not by_id


def test_an_indexed_sheet_is_read_with_its_transparency():
    pixels = np.zeros((1344, 832), np.uint8)
    pixels[100, 200] = 1
    sheet = Image.fromarray(pixels)
    sheet.putpalette([9, 9, 9, 70, 80, 90])
    decoded = np.asarray(sprites.decode(png(sheet, transparency=0)))
    assert decoded[100, 200].tolist() == [70, 80, 90, 255] and decoded[..., 3].sum() == 255
    with pytest.raises(ValueError, match="it is P without transparency"):
        sprites.decode(png(sheet))


def test_a_missing_folder_or_sheet_is_named(own_lpc_dir, tmp_path):
    with pytest.raises(SystemExit, match="There is no folder .*nowhere: check --lpc_dir, or add --download"):
        make_plan(tmp_path / "nowhere")
    (own_lpc_dir / "hair" / "3.png").unlink()
    (own_lpc_dir / "shoes" / "1.png").unlink()
    with pytest.raises(SystemExit, match="own lacks hair/3.png, shoes/1.png: check --lpc_dir, or add --download"):
        make_plan(own_lpc_dir)


def flip_a_bit(content):
    return content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda content: content[: len(content) // 2], "it is not a whole PNG file"),
        (flip_a_bit, "it is not a whole PNG file"),
        (lambda content: b"<html>Sign in to the network</html>", "it is not a whole PNG file"),
        (lambda content: png(Image.new("RGBA", (832, 1280))), "it is 832x1280 pixels, not 832x1344"),
        (lambda content: png(Image.new("RGB", (832, 1344))), "it is RGB without transparency"),
    ],
)
def test_a_bad_sheet_is_refused_before_work_starts(own_lpc_dir, spoil, problem):
    path = own_lpc_dir / "topwear" / "5.png"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(SystemExit, match=f"Cannot use .*topwear/5.png: {problem}.*Delete it and fetch it anew"):
        make_plan(own_lpc_dir)


def test_the_sheets_are_fetched_and_the_set_made_of_them(server, tmp_path, monkeypatch):
    def first_clips(plan, output_dir, num_workers):
        return prepare(dataclasses.replace(plan, clips=plan.clips[:9]), output_dir, num_workers)

    monkeypatch.setattr(sprites, "prepare", first_clips)
    main(["--download", "--output_dir", str(tmp_path / "out" / "set"), "--num_workers", "1"])
    assert len(load_clips(str(tmp_path / "out" / "set"), "validation")) == 9  # of character 0
    fetched = tmp_path / "out" / "set_lpc_sheets"
    files = sorted(path.relative_to(fetched) for path in fetched.rglob("*") if path.is_file())
    assert len(files) == len(server.asked) == 25
    assert all((fetched / file).read_bytes() == (server.folder / file).read_bytes() for file in files)
    download(fetched)
    assert len(server.asked) == 25  # nothing is fetched twice


def test_a_failed_download_is_said_keeps_no_bad_file_and_goes_on(server, tmp_path):
    absent, bad = server.folder / "hair" / "3.png", server.folder / "hair" / "4.png"
    content = absent.read_bytes()
    absent.unlink()
    bad.write_bytes(b"<html>Sign in to the network</html>")
    for sheet, problem in ((absent, "HTTP Error 404"), (bad, "it is not a whole PNG file")):
        with pytest.raises(SystemExit, match=f"Cannot fetch http.*/hair/{sheet.name} into .*: {problem}.*--lpc_dir"):
            download(tmp_path / "sheets")
        assert not (tmp_path / "sheets" / "hair" / sheet.name).exists()
        sheet.write_bytes(content)
    download(tmp_path / "sheets")
    assert len(make_plan(tmp_path / "sheets").clips) == 11664
    assert len(server.asked) == 27  # two of the 25 sheets twice


def test_no_server_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sprites, "SHEETS_URL", "http://127.0.0.1:1")
    with pytest.raises(SystemExit, match="Cannot fetch http://127.0.0.1:1/body/0.png into .*refused.*clone https://"):
        download(tmp_path / "sheets")


def test_the_source_of_the_sheets_must_be_said(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--output_dir", str(tmp_path / "set")])
    assert "give the folder of the sheets as --lpc_dir, or fetch them with --download" in capsys.readouterr().err


@pytest.mark.skipif(not (DATA / "sprites_lpc").is_dir(), reason=f"there is no {DATA}/sprites_lpc: set DIVID_TEST_DATA")
def test_the_real_characters_all_differ():
    plan = make_plan(DATA / "sprites_lpc")
    assert len(plan.clips) == 11664
    assert len({plan.read(clip)[0].tobytes() for clip in plan.clips[:: len(ACTIONS)]}) == 1296

    # As the authors do it: compose whole sheets, then cut them. topwear/3 has half-clear pixels.
    clip = next(clip for clip in plan.clips if clip.clip_id == "c0810_slash_right")
    whole = Image.new("RGBA", (832, 1344), "black")
    for sheet in (*clip.source.split("+"), "shoes/1"):
        whole = Image.alpha_composite(whole, Image.open(DATA / "sprites_lpc" / f"{sheet}.png").convert("RGBA"))
    cut = [whole.crop((64 * c, 64 * 15, 64 * c + 64, 64 * 16)).convert("RGB") for c in COLUMNS["slash"]]
    assert "topwear/3" in clip.source and np.array_equal(plan.read(clip), np.stack(cut))
