"""Sliders: tokens move along directions by what is asked, and by nothing else."""

import pytest
import torch
from calls import close, distance, pt
from tiny import WIDTH, random_clips, random_tokens, tiny_directions, tiny_encoder, tiny_pipeline

from divid_diffusers import DiViDPipeline


A = random_clips(1, 4, seed=10)


@pytest.fixture
def pipe():
    pipe = tiny_pipeline()
    pipe.register_modules(directions=tiny_directions(pipe.encoder))
    return pipe


def test_names_count_from_one_and_the_label_is_that_which_explains_most_if_it_explains_enough(pipe):
    assert pipe.directions.names == ["static 1", "static 2", "dynamic 1", "dynamic 2", "dynamic 3"]
    assert [pipe.directions.label(name) for name in pipe.directions.names] == ["top", None, None, None, None]


def test_an_edit_of_nothing_is_the_reconstruction_to_the_bit(pipe):
    again = pt(pipe.reconstruct, A)
    assert torch.equal(pt(pipe.edit, A, {}), again)
    assert torch.equal(pt(pipe.edit, A, {"static 1": 0.0, "dynamic 2": 0}), again)


def test_amounts_are_in_units_of_the_directions_and_add_up(pipe):
    static, dynamic = random_tokens()
    moved, still = pipe.directions.move(static, dynamic, {"static 1": 2.0, "static 2": -0.5})
    expected = static + 2 * pipe.directions.static[0] - 0.5 * pipe.directions.static[1]
    torch.testing.assert_close(moved, expected)
    assert still is dynamic
    still, moved = pipe.directions.move(static, dynamic, {"dynamic 3": -1.5})
    assert still is static
    torch.testing.assert_close(moved, dynamic - 1.5 * pipe.directions.dynamic[2])  # every frame alike


def test_clips_of_different_lengths_are_moved_alike(pipe):
    static, dynamic = random_tokens()
    _, (short, whole) = pipe.directions.move(static, [dynamic[0][:1], dynamic[1]], {"dynamic 1": 1.0})
    torch.testing.assert_close(short, dynamic[0][:1] + pipe.directions.dynamic[0])
    torch.testing.assert_close(whole, dynamic[1] + pipe.directions.dynamic[0])


def test_an_edit_decodes_the_moved_tokens_and_takes_what_a_swap_takes(pipe):
    with torch.no_grad():
        tokens = pipe.encode(A, static_frame=2)
    moved = pipe.directions.move(tokens.static, tokens.dynamic, {"static 1": 2.0})
    edited = pt(pipe.edit, A, {"static 1": 2.0}, static_frame=2, num_inference_steps=2)
    assert torch.equal(edited, pt(pipe, *moved, num_inference_steps=2))
    assert distance(edited, pt(pipe.reconstruct, A, static_frame=2, num_inference_steps=2)) > 1e-4
    assert len(pipe.edit([A[0], A[0][:2]], {"dynamic 1": 1.0}).frames[1]) == 2


def test_directions_are_saved_and_loaded_with_the_checkpoint(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(loaded.directions.static, pipe.directions.static)
    assert torch.equal(loaded.directions.dynamic, pipe.directions.dynamic)
    assert loaded.directions.label("static 1") == "top"
    close(pt(loaded.edit, A, {"dynamic 1": 2.0}), pt(pipe.edit, A, {"dynamic 1": 2.0}))
    assert DiViDPipeline.from_pretrained(tmp_path, directions=None).directions is None


def test_half_precision_is_the_same_encoder(pipe, tmp_path):
    pipe.to(dtype=torch.float16).save_pretrained(tmp_path)
    loaded = DiViDPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert pt(loaded.edit, A, {"static 1": 1.0}).isfinite().all()


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_checkpoint_without_directions_says_how_to_find_them():
    with pytest.raises(ValueError, match=r"no directions .* `python training/find_directions.py"):
        tiny_pipeline().edit(A, {"static 1": 1.0})


def test_an_unknown_name_lists_the_known_ones(pipe):
    with pytest.raises(ValueError, match="no direction 'static 3': choose from static 1, static 2, dynamic 1"):
        pipe.edit(A, {"static 3": 1.0})


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -float("inf"), None, "2"])
def test_an_amount_that_is_no_finite_number_is_refused(pipe, amount):
    with pytest.raises(ValueError, match="The amount of 'static 1' is .*give a number of standard deviations"):
        pipe.edit(A, {"static 1": amount})


def test_what_is_no_dict_is_refused(pipe):
    with pytest.raises(ValueError, match="An edit is a dict such as {'static 1': 2.0}, but is a list"):
        pipe.edit(A, ["static 1"])


def test_directions_of_another_encoder_are_refused(pipe):
    pipe.register_modules(directions=tiny_directions(tiny_encoder()))
    with pytest.raises(ValueError, match="directions are of another encoder, or of this one before it was trained on"):
        pipe.edit(A, {"static 1": 1.0})
    pipe.register_modules(directions=tiny_directions(pipe.encoder, dynamic_dim=WIDTH - 1))
    with pytest.raises(
        ValueError, match="another encoder: their dynamic tokens have 15 numbers and this encoder's 16"
    ):
        pipe.edit(A, {"static 1": 1.0})


def test_directions_of_the_encoder_before_it_was_trained_on_are_refused(pipe):
    for weight in pipe.encoder.parameters():
        weight.data.add_(0.2 * weight.std() * torch.randn_like(weight) if weight.ndim > 1 else 0)
    with pytest.raises(ValueError, match="before it was trained on"):
        pipe.edit(A, {"static 1": 1.0})
