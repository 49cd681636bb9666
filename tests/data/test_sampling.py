"""
What a training step sees is a function of (seed, epoch, index): no clip is lost, none twice, and resuming is exact.
"""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from divid_diffusers.data.sampling import FRAME_SAMPLING, ResumableBatchSampler, SampledClips, sample_frame_indices


settings.register_profile("no_time_limit", deadline=None, max_examples=50)
settings.load_profile("no_time_limit")

counts = st.integers(1, 40)
seeds = st.integers(0, 2**31)
maybe_rng = st.one_of(st.none(), seeds.map(np.random.default_rng))
hows = st.sampled_from(FRAME_SAMPLING)


@given(available=counts, num_frames=counts, rng=maybe_rng, how=hows)
def test_frames_are_in_order_in_range_and_as_many_as_asked_for(available, num_frames, rng, how):
    indices = sample_frame_indices(available, num_frames, rng, how)
    assert len(indices) == num_frames
    assert (np.diff(indices) >= 0).all()
    assert 0 <= indices.min() and indices.max() < available


@given(available=counts, num_frames=counts, rng=maybe_rng, how=hows)
def test_frames_are_repeated_only_where_the_clip_is_too_short(available, num_frames, rng, how):
    distinct = len(set(sample_frame_indices(available, num_frames, rng, how)))
    if available >= num_frames:
        assert distinct == num_frames
    elif rng is None or how != "random":
        assert distinct == available  # nothing of a short clip is left out


@given(available=counts, num_frames=st.integers(2, 40), seed=seeds)
def test_each_way_of_sampling_is_what_it_says(available, num_frames, seed):
    def sample(how):
        return sample_frame_indices(available, num_frames, np.random.default_rng(seed), how)

    edges = np.arange(num_frames + 1) * available // num_frames
    assert (edges[:-1] <= sample("uniform")).all() and (sample("uniform") <= edges[1:]).all()
    for how, step in (("contiguous", 1), ("strided", max(1, available // num_frames))):
        steps = np.diff(sample(how))
        held = sample(how)[1:] == available - 1  # where a short clip's last frame is held
        assert ((steps == step) | (held & (steps == 0))).all()
        assert available < num_frames or (steps == step).all()


def test_the_start_of_neighbours_is_drawn_from_the_whole_clip():
    rng = np.random.default_rng(0)
    starts = {sample_frame_indices(9, 4, rng, "contiguous")[0] for _ in range(200)}
    assert starts == set(range(6))


def test_an_unknown_way_of_sampling_is_refused():
    with pytest.raises(ValueError, match="Unknown frame sampling 'all': choose one of random, uniform"):
        sample_frame_indices(5, 3, None, "all")


@given(available=st.integers(2, 40), num_frames=st.integers(2, 40))
def test_frames_for_evaluation_reach_from_the_first_to_the_last_in_even_steps(available, num_frames):
    indices = sample_frame_indices(available, num_frames)
    assert indices[0] == 0 and indices[-1] == available - 1
    steps = np.diff(indices)
    assert steps.max() - steps.min() <= 1


def test_every_frame_can_be_drawn_for_training():
    rng = np.random.default_rng(0)
    drawn = Counter(index for _ in range(200) for index in sample_frame_indices(8, 3, rng))
    assert set(drawn) == set(range(8))
    assert max(drawn.values()) < 2 * min(drawn.values())


@pytest.mark.parametrize(("available", "num_frames"), [(0, 3), (3, 0), (-1, 3)])
def test_no_frames_cannot_be_sampled(available, num_frames):
    with pytest.raises(ValueError, match=f"Cannot take {num_frames} frames of a clip of {available}"):
        sample_frame_indices(available, num_frames)


# --- clips ---------------------------------------------------------------------------------------------------------


def numbered_clips(count=4, frames=12):
    """Clip c, frame f is one pixel that says 20 c + f."""
    return [{"frames": (20 * clip + torch.arange(frames).byte()).view(-1, 1, 1, 1)} for clip in range(count)]


def test_an_item_is_a_function_of_seed_epoch_and_index():
    clips = numbered_clips()
    one, same, other = (SampledClips(clips, 3, seed) for seed in (0, 0, 1))
    positions = list(range(40))
    assert all(torch.equal(one[p], same[p]) for p in reversed(positions))
    assert not all(torch.equal(one[p], other[p]) for p in positions)


def test_every_epoch_sees_the_same_clip_at_the_same_index_through_other_frames():
    dataset = SampledClips(numbered_clips(), 3)
    assert len(dataset) == 4
    seen = [dataset[epoch * 4 + 2].flatten().tolist() for epoch in range(10)]
    assert all(40 <= value < 60 for frames in seen for value in frames)
    assert len(set(map(tuple, seen))) > 5


def test_clips_at_different_indices_get_their_own_draw():
    clips = [{"frames": torch.arange(30).byte().view(-1, 1, 1, 1)}] * 6
    dataset = SampledClips(clips, 3)
    assert len({tuple(dataset[index].flatten().tolist()) for index in range(6)}) > 1


# --- batches -------------------------------------------------------------------------------------------------------


def batches(count, *args, **kwargs):
    return list(islice(ResumableBatchSampler(*args, **kwargs), count))


@given(num_clips=counts, batch_size=st.integers(1, 10), seed=seeds)
def test_every_clip_is_seen_once_per_epoch(num_clips, batch_size, seed):
    epochs = 3
    needed = -(-epochs * num_clips // batch_size)
    drawn = batches(needed, num_clips, batch_size, seed)
    assert all(len(batch) == batch_size for batch in drawn)
    positions = sum(drawn, [])[: epochs * num_clips]
    assert sorted(positions) == list(range(epochs * num_clips))
    # Epoch after epoch, not mixed.
    assert [position // num_clips for position in positions] == sorted(p // num_clips for p in positions)


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = batches(2, 20, 20)
    assert [position - 20 for position in second] != first
    assert batches(1, 20, 20, seed=1)[0] != first


@given(num_clips=counts, batch_size=st.integers(1, 10), seed=seeds, skipped=st.integers(0, 30))
def test_starting_at_a_batch_is_skipping_those_before_it(num_clips, batch_size, seed, skipped):
    whole = batches(skipped + 5, num_clips, batch_size, seed)
    assert batches(5, num_clips, batch_size, seed, first_batch=skipped) == whole[skipped:]


@given(num_clips=counts, batch_size=st.integers(1, 5), world_size=st.integers(1, 4), seed=seeds)
def test_processes_together_see_what_one_process_with_the_whole_batch_sees(num_clips, batch_size, world_size, seed):
    alone = batches(6, num_clips, batch_size * world_size, seed)
    ranks = [batches(6, num_clips, batch_size, seed, rank, world_size) for rank in range(world_size)]
    assert [sum(parts, []) for parts in zip(*ranks)] == alone
