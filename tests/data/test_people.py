"""
Rendered people: who and what never meet, what a face does can be seen, and whoever lacks Anny or OpenGL is told so.

What needs neither runs everywhere; the rest is skipped without the extra `people`.
"""

import sys
from dataclasses import replace

import numpy as np
import pytest

from divid_diffusers.data import people, people_mesh
from divid_diffusers.data.people import (
    ACTIONS,
    EXPRESSIONS,
    LEVELS,
    Person,
    clip_name,
    express,
    of_clip_name,
    render,
    turned,
)
from divid_diffusers.data.people_expressions import MIXTURES, VISEMES, mixture
from divid_diffusers.data.people_hair import ENDS, THICKNESS, above_hairline, thickness
from divid_diffusers.data.people_person import BEARDS, HAIR_STYLES, SKINS


def test_a_seed_is_one_person_and_another_seed_another():
    assert Person.sample(7) == Person.sample(7)
    assert len({repr(Person.sample(seed)) for seed in range(50)}) == 50
    with pytest.raises(ValueError, match="person seed of a rendered person is 'ann': pass a whole number"):
        Person.sample("ann")


def test_people_are_adults_of_every_look_in_colours_that_exist():
    sampled = [Person.sample(seed) for seed in range(300)]
    assert {person.skin_tone for person in sampled} == set(SKINS)
    assert {person.hair_style for person in sampled} == set(HAIR_STYLES)
    assert {person.beard for person in sampled} == set(BEARDS)
    assert min(person.phenotype["age"] for person in sampled) > 0.6
    for person in sampled:
        colours = (person.skin, person.lips, person.eyes, person.hair, person.clothes, person.trim, person.background)
        assert all(0 <= channel <= 1 for colour in colours for channel in colour)


def test_a_trajectory_depends_on_its_seed_and_never_rests():
    for expression in EXPRESSIONS:
        first, again, other = (express(expression, "2", seed) for seed in (1, 1, 2))
        assert np.array_equal(first.actions, again.actions) and np.array_equal(first.head, again.head)
        assert not np.array_equal(first.head, other.head)
        assert (
            first.actions.shape == (15, len(ACTIONS)) and first.head.shape == (15, 3) and first.gaze.shape == (15, 2)
        )
        assert first.actions.min() >= 0 and first.actions.max() <= 1.2


@pytest.mark.parametrize("expression", sorted(set(MIXTURES) - {"neutral"}))
def test_a_higher_level_is_a_stronger_expression(expression):
    own = mixture(MIXTURES[expression]) > 0
    strength = [
        np.mean([express(expression, level, seed).actions[:, own].mean() for seed in range(8)]) for level in LEVELS
    ]
    assert strength[0] < strength[1] < strength[2]


def test_an_expression_moves_what_it_is_named_after():
    """By the largest excursion over some seeds, against that of a neutral face."""

    def excursion(expression, part):
        return np.mean([np.ptp(part(express(expression, "3", seed))) for seed in range(8)])

    for expression, axis in (("nod", 0), ("shake", 1), ("tilt", 2)):
        turn = {name: excursion(name, lambda motion: motion.head[:, axis]) for name in (expression, "neutral")}
        assert turn[expression] > 2 * turn["neutral"]
    lids = ACTIONS.index("eyeBlinkLeft")
    closed = {
        name: np.mean([express(name, "3", seed).actions[:, lids].mean() for seed in range(8)])
        for name in ("blink", "neutral")
    }
    assert closed["blink"] > 2 * closed["neutral"]
    jaw = ACTIONS.index("jawOpen")
    assert excursion("talk", lambda motion: motion.actions[:, jaw]) > 0.3
    assert excursion("look", lambda motion: motion.gaze[:, 1]) > 2 * excursion("neutral", lambda m: m.gaze[:, 1])


def test_mixtures_and_visemes_name_actions_that_exist():
    for parts in (*MIXTURES.values(), *VISEMES):
        assert (mixture(parts) > 0).sum() >= len(parts)
    assert mixture({"jawOpen": 0.5, "mouthSmile": 0.25}).sum() == 1.0


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("joy", "1", 0), "There is no expression 'joy' of rendered people: choose one of neutral"),
        (("happy", "4", 0), "There is no level '4'"),
        (("happy", "1", 0, 0), "num_frames is 0 for rendered people"),
        (("happy", "1", 0.5), "motion seed of a rendered person is 0.5"),
    ],
)
def test_a_trajectory_that_there_is_not_is_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        express(*arguments)


def test_a_clip_s_name_says_how_it_is_rendered():
    assert of_clip_name(clip_name(12, "happy", "3", 345)) == (12, "happy", "3", 345)
    for name in ("a1_s1_t1", "p1-joy-1-0", "p1-happy-4-0", "p1-happy-1-x", "p1-happy-1-0-0"):
        with pytest.raises(ValueError, match="does not name a clip of rendered people"):
            of_clip_name(name)


def test_hair_grows_on_top_and_not_in_the_face():
    top, brow, chin, nape = (0, -0.03, 0.85), (0.03, -0.14, 0.745), (0, -0.14, 0.62), (0, 0.05, 0.70)
    places = np.array([top, brow, chin, nape])
    for style in HAIR_STYLES:
        person = replace(Person.sample(0), hair_style=style)
        assert (above_hairline(places, person) > 0).tolist() == [True, False, False, True]
        assert (thickness(places, person) > 0).tolist() == [style != "bald", False, False, style != "bald"]
    assert set(THICKNESS) == set(HAIR_STYLES) and set(ENDS) < set(HAIR_STYLES)


def test_turns_nod_down_turn_left_and_tilt_left():
    ahead, up = np.array([0, -1, 0]), np.array([0, 0, 1])
    zero, angle = np.zeros(1), np.full(1, 0.3)
    assert (turned(angle, zero, zero)[0] @ ahead)[2] < -0.2  # nods: looks down
    assert (turned(zero, zero, angle)[0] @ ahead)[0] > 0.2  # to the person's left
    assert (turned(zero, angle, zero)[0] @ up)[0] > 0.2


def test_without_anny_or_with_another_it_is_said_what_to_do(monkeypatch):
    people_mesh.load_anny.cache_clear()
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(ImportError, match=r'need the package anny: pip install -e ".\[people\]"'):
        people_mesh.load_anny()
    monkeypatch.setattr(people_mesh, "version", lambda name: "0.9.1")
    monkeypatch.setitem(sys.modules, "anny", sys)
    with pytest.raises(ImportError, match="need anny 0.6, but 0.9.1 is installed: pip install 'anny==0.6"):
        people_mesh.load_anny()
    people_mesh.load_anny.cache_clear()


@pytest.fixture(scope="module")
def drawn():
    """The first clip of a process takes some seconds; without what it needs, nothing is drawn."""
    pytest.importorskip("anny", reason="rendered people need the extra `people`")
    pytest.importorskip("moderngl", reason="rendered people need the extra `people`")
    try:
        people.renderer(32)
    except OSError as error:
        pytest.skip(str(error))
    return render(Person.sample(3), "surprised", "3", 5, num_frames=4, size=32)


def test_anny_s_actions_are_those_of_the_expressions(drawn):
    assert people.head_mesh().model.facial_action_labels == list(ACTIONS)


def test_a_clip_is_the_same_again_and_moves(drawn):
    assert drawn.dtype == np.uint8 and drawn.shape == (4, 32, 32, 3)
    assert np.array_equal(drawn, render(Person.sample(3), "surprised", "3", 5, num_frames=4, size=32))
    assert (np.abs(drawn[1:].astype(int) - drawn[:-1]) > 8).any(-1).sum((1, 2)).min() > 10


def test_a_person_of_other_clips_in_between_is_the_same_person(drawn):
    """The renderer is kept, and whatever it was last set to must not be seen."""
    render(Person.sample(4), "kiss", "1", 6, num_frames=1, size=32)
    assert np.array_equal(drawn, render(Person.sample(3), "surprised", "3", 5, num_frames=4, size=32))


def test_a_face_is_seen_before_a_wall_of_its_own(drawn):
    person = Person.sample(3)
    corner, middle = drawn[0][1, 1], drawn[0][14:18, 14:18].reshape(-1, 3).mean(0)
    ends = np.array([person.background, person.background_low]) * 255
    assert (corner >= ends.min(0) - 4).all() and (corner <= ends.max(0) + 4).all()
    assert middle[0] > middle[2]  # skin is warm


def test_a_face_that_leaves_the_frame_is_refused(drawn):
    motion = express("neutral", "1", 0, 2)
    far = replace(motion, head=motion.head + np.array([2.0, 0, 0]))
    with pytest.raises(ValueError, match="The face leaves the frame"):
        people.render_trajectory(Person.sample(3), far, 32)
