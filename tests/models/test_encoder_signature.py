"""An encoder is told from others by its weights, in whatever precision they are."""

import torch
from tiny import tiny_encoder

from divid_diffusers.models.encoder_signature import encoder_signature, may_be_of


def test_a_signature_is_of_the_weights_not_of_their_precision():
    encoder, other = tiny_encoder(), tiny_encoder()
    told = encoder_signature(encoder)
    assert may_be_of(encoder, told) and not may_be_of(other, told)
    assert may_be_of(encoder.half(), told) and may_be_of(encoder.to(torch.bfloat16), told)
    assert not may_be_of(tiny_encoder(lstm_hidden_dim=8), told)


def test_what_is_not_known_is_not_held_against_it():
    assert may_be_of(tiny_encoder(), None)
    assert may_be_of(torch.nn.Linear(2, 2, device="meta"), [0.0])
