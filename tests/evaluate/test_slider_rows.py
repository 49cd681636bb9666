"""The picture of sliders: every cell is where its row and its amount say."""

import numpy as np
import pytest
import slider_rows
import torch
from PIL import Image
from tiny import tiny_directions, tiny_pipeline


def test_rows_are_directions_and_columns_are_amounts():
    rows = {"static 1\ntop": torch.tensor([0.2, 0.4]), "dynamic 1": torch.tensor([0.6, 0.8])}
    rows = {name: values.view(2, 1, 1, 1).expand(2, 3, 16, 16) for name, values in rows.items()}
    pixels = np.asarray(slider_rows.draw_rows(rows, [-2.0, 2.0]))
    assert pixels.shape == (24 + 2 * 96, 160 + 2 * 96, 3)
    cells = [[pixels[24 + 48 + 96 * row, 160 + 48 + 96 * column, 0] for column in range(2)] for row in range(2)]
    assert cells == [[51, 102], [153, 204]]
    assert pixels[24:, :160].min() < 100 and pixels[:24, 160:].min() < 100  # names and amounts


def test_a_picture_of_a_checkpoint(tmp_path, monkeypatch, capsys):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "without")
    pipe.register_modules(directions=tiny_directions(pipe.encoder))
    pipe.save_pretrained(tmp_path / "model")
    clip = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8)
    monkeypatch.setattr(slider_rows, "held_out_clip", lambda *_: clip)
    words = ["--dataset", "puppets", "--num_frames=3", "--frame=1", "--amounts", "-1", "0", "1"]
    target = tmp_path / "new" / "rows.png"
    slider_rows.main(["--model", str(tmp_path / "model"), *words, "--output", str(target)])
    assert Image.open(target).size == (160 + 3 * 96, 24 + 5 * 96)  # two of s and three of d
    with pytest.raises(SystemExit, match="has no directions"):
        slider_rows.main(["--model", str(tmp_path / "without"), *words, "--output", str(target)])
    with pytest.raises(SystemExit):
        slider_rows.parse_args(["--model", "m", "--dataset", "puppets", "--num_frames", "3", "--frame", "3"])
    assert "--frame 3 is not among 3 frames" in capsys.readouterr().err
