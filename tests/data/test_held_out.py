"""What is held out can be judged by: it is of training's people and actions, and the same whoever asks."""

from itertools import product

import pytest

from divid_diffusers.data.held_out import PUPPETS_SEED, num_validation_clips, validation_ids
from divid_diffusers.data.puppets import Puppets


def clips(*labels, names=("identity", "action")):
    return {f"c{i:03}": dict(zip(names, values)) for i, values in enumerate(labels)}


def test_every_person_is_still_seen_in_training_with_every_action():
    labels = clips(*product(range(20), range(20), "12"), names=("identity", "action", "trial"))
    labels = {clip: {name: values[name] for name in ("identity", "action")} for clip, values in labels.items()}
    held_out = validation_ids(labels)
    assert len(held_out) == num_validation_clips(800) == 80
    in_training = {tuple(values.values()) for clip, values in labels.items() if clip not in held_out}
    assert in_training == set(product(range(20), range(20)))


def test_it_depends_on_names_and_labels_alone_whatever_the_order_and_the_names_of_the_classes():
    labels = clips(*product("abcd", "wxyz", "1"), names=("identity", "action"))
    as_numbers = {clip: {n: "abcdwxyz".index(v) for n, v in values.items()} for clip, values in labels.items()}
    assert validation_ids(labels) == validation_ids(dict(reversed(as_numbers.items()))) != set()


@pytest.mark.parametrize("people", [2, 3, 5])
def test_swaps_between_what_is_held_out_can_change_who_and_what(people):
    held_out = [
        [values[name] for clip, values in labels.items() if clip in validation_ids(labels)]
        for labels in [clips(*product(range(people), "wx", "123"), names=("identity", "action", "trial"))]
        for name in ("identity", "action")
    ]
    assert all(len(set(classes)) > 1 for classes in held_out)


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        (clips(*product("abcd", "wx")), 2),  # each person's actions once: the classes stay
        (clips(*[(f"person {i // 2}", f"motion {i}") for i in range(8)]), 2),  # motions cannot stay, but people can
        (clips(*[(f"person {i}", "talks") for i in range(11)]), 0),  # nobody can be spared
        (clips(*[(f"person {max(i, 1)}", "talks") for i in range(9)]), 0),  # one clip cannot be swapped
        (clips(*[("ann", "talks")] * 7), 0),  # too few
        ({f"c{i}": {} for i in range(11)}, 2),  # nothing is known
        ({f"c{i}": {} for i in range(758)}, 76),
    ],
)
def test_as_many_are_held_out_as_can_be_spared(labels, count):
    held_out = validation_ids(labels)
    assert len(held_out) == count
    people = {clip: values.get("identity") for clip, values in labels.items()}
    assert set(people.values()) == {who for clip, who in people.items() if clip not in held_out}


def test_puppets_to_validate_on_are_none_that_are_trained_on():
    train, validation = Puppets(20_000), Puppets(50, PUPPETS_SEED)
    first, of_validation = train[0]["identity"], [clip["identity"] for clip in validation]
    assert all((identity - first) % 2**30 >= len(train) for identity in of_validation)
    assert all(clip["identity"] < 2**30 for clip in validation), "those above are of test"
