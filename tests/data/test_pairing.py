"""Weak supervision: a partner has the same label, is another clip where there is one, and is drawn again alike."""

import numpy as np
import torch

from divid_diffusers.data.pairing import Partners
from divid_diffusers.data.sampling import SampledClips


CLASSES = [0, 1, 0, 2, 1, 0, 1, 0]


def drawn(partners, times=30):
    return [{partners.draw(i, np.random.default_rng(seed)) for seed in range(times)} for i in range(len(CLASSES))]


def test_a_partner_is_any_other_clip_of_the_class():
    members = [{j for j, other in enumerate(CLASSES) if other == each and j != i} for i, each in enumerate(CLASSES)]
    members[3] = {3}  # alone
    assert drawn(Partners(CLASSES)) == members


def test_unlabelled_clips_have_no_partner_and_are_nobody_s():
    partners = Partners(CLASSES, share=0.5, seed=3)
    known = set(partners.class_of)
    assert len(known) == 4
    for index, found in enumerate(drawn(partners)):
        assert found <= known if index in known else found == {index}
    assert all(found == {index} for index, found in enumerate(drawn(Partners(CLASSES, share=0))))


def test_an_item_is_a_clip_and_its_partner_and_the_same_in_every_run():
    clips = [{"frames": torch.full((6, 1, 2, 2), 10 * label + index)} for index, label in enumerate(CLASSES)]
    data, again = (SampledClips(clips, 3, partners=Partners(CLASSES)) for _ in range(2))
    for position in range(3 * len(clips)):
        item = data[position]
        assert item.shape == (2, 3, 1, 2, 2) and torch.equal(item, again[position])
    plain = SampledClips(clips, 3)
    assert all(torch.equal(plain[i], data[i][0]) for i in range(len(clips)))
