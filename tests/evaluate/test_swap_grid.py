"""README's first picture: every cell is where its labels say."""

from pathlib import Path

import numpy as np
import preparation
import pytest
import swap_grid
import torch
from PIL import Image

from divid_diffusers.data.puppets import Puppets


ROOT = Path(__file__).parents[2]


def read_puppet(clip):
    return Puppets(40, num_frames=7)[int(clip.source)]["frames"].permute(0, 2, 3, 1).numpy()


@pytest.fixture
def prepared(tmp_path):
    """Four puppets, each another person with another motion, all held out; and one to train on."""
    names = [str(i) for i in range(5)]
    clips = [
        preparation.Clip(n, n, "test" if int(n) else "train", dict.fromkeys(("identity", "action"), n)) for n in names
    ]
    plan = preparation.Plan(clips, read_puppet, (64, 64, 3), {"identity": names, "action": names}, "all but the first")
    preparation.prepare(plan, tmp_path / "set")
    return str(tmp_path / "set")


def test_rows_are_people_and_columns_are_motions():
    def clips(*values):
        return torch.tensor(values).view(-1, 1, 1, 1, 1).expand(-1, 3, 3, 64, 64)

    people, motions = clips(10, 20).byte(), clips(30, 40, 50).byte()
    people = torch.cat([people[:, :1], people[:, 1:] + 100], dim=1)  # only the first frame of a person is shown
    swaps = clips(60, 70, 80, 90, 100, 110) / 255
    pictures = swap_grid.draw_grid(people, motions, swaps)
    assert len(pictures) == 3 and pictures[0].size == (4 + 128 * 4, 4 + 128 * 3)
    for picture in pictures:
        values = np.asarray(picture)[:, :, 0]
        assert [values[60, 196 + 128 * k] for k in range(3)] == [30, 40, 50]
        assert [values[196 + 128 * k, 60] for k in range(2)] == [10, 20]
        assert [[values[196 + 128 * i, 196 + 128 * k] for k in range(3)] for i in range(2)] == [
            [60, 70, 80],
            [90, 100, 110],
        ]
        assert values[130].min() == values[:, 130].min() == 255  # the line between given and made


def test_a_grid_of_a_prepared_set(prepared, tmp_path):
    words = [
        "--model",
        str(ROOT / "examples" / "divid-puppets-tiny"),
        "--dataset",
        prepared,
        "--output",
        str(tmp_path / "new" / "g.gif"),
    ]
    swap_grid.main(swap_grid.parse_args([*words, "--num_people=2", "--num_motions=2", "--num_frames=3"]))
    assert Image.open(tmp_path / "new" / "g.gif").n_frames == 3


def test_too_few_people_or_actions_are_a_sentence(prepared):
    with pytest.raises(SystemExit, match="give 2 people and 2 actions of others, but 2 and 3"):
        swap_grid.donors(prepared, 2, 3, 3, seed=0)
