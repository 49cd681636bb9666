"""Which clips are measured, and which are the same."""

import shutil

import numpy as np
import preparation
import pytest
from trainer.clips import fingerprint

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.sampling import draw_clips


SORTED = [
    {"index": index, "action": index % 9} for index in range(900)
]  # as in Sprites: every 9th clip is the same action


def test_drawn_clips_are_of_all_kinds_and_drawn_again_by_the_same_seed():
    drawn = draw_clips(SORTED, 100, seed=0)
    places = [clip["index"] for clip in drawn]
    assert len(set(places)) == 100 and places == sorted(places) and {clip["action"] for clip in drawn} == set(range(9))
    assert draw_clips(SORTED, 100, seed=0) == drawn != draw_clips(SORTED, 100, seed=1)


def test_all_clips_are_all_in_their_order():
    assert draw_clips(SORTED, 900, seed=3) == draw_clips(SORTED, 5000, seed=3) == SORTED


def prepared(folder, people=("ann", "bob"), brightness=9):
    clips = [
        preparation.Clip(f"c{i}", "drawn", "train" if i else "test", {"identity": people[i % 2]}) for i in range(5)
    ]
    labels = {"identity": sorted(people)}
    draw = Draw(brightness)
    preparation.prepare(preparation.Plan(clips, draw, (8, 8, 3), labels, "the first"), folder)
    return folder


class Draw:
    def __init__(self, brightness):
        self.brightness = brightness

    def __call__(self, clip):
        return np.full((3, 8, 8, 3), self.brightness, np.uint8)


@pytest.mark.parametrize("other", [{"people": ("ann", "cid")}, {"brightness": 10}])
def test_a_set_is_known_by_what_it_holds_and_not_by_where_it_lies(tmp_path, other):
    one = fingerprint(load_clips(str(prepared(tmp_path / "one")), "train"))
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert fingerprint(load_clips(str(tmp_path / "moved"), "train")) == one
    assert fingerprint(load_clips(str(prepared(tmp_path / "one", **other)), "train")) != one
