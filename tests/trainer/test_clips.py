"""Which clips are measured."""

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
