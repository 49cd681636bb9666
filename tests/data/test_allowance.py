"""A set is promised no more than its size holds."""

import pytest

from divid_diffusers.data.allowance import what_it_allows


ABSENT = ": people who are not among them are reproduced from their first frame at most"
ONCE = ". Each is seen once, so nothing tells who moves from how"


@pytest.mark.parametrize(
    ("clips", "people", "sentence"),
    [
        (10, 10, f"10 clips of 10 people{ABSENT}{ONCE}."),
        (682, 8, f"682 clips of 8 people{ABSENT}."),
        (1, 1, f"1 clip of 1 person{ABSENT}{ONCE}."),
        (8100, 900, "8,100 clips of 900 people."),
        (7, None, "7 clips: what is not among them is reproduced from its first frame at most."),
        (5000, None, "5,000 clips."),
    ],
)
def test_what_a_set_allows(clips, people, sentence):
    assert what_it_allows(clips, people) == sentence
