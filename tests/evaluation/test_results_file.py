"""What a figure depends on, and nothing else, is in its fingerprint; what JSON cannot hold is not in the file."""

import json
import math

import pytest
import torch
from tiny import tiny_pipeline
from tiny_baselines import tiny_baseline

from divid_diffusers import DiViDPipeline, SequentialVAEPipeline
from divid_diffusers.evaluation.results_file import fingerprint, open_results, save_results


def test_a_model_is_the_same_wherever_it_lies(tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "one")
    pipe.save_pretrained(tmp_path / "two")
    one, two = (DiViDPipeline.from_pretrained(tmp_path / name) for name in ("one", "two"))
    assert fingerprint(one) == fingerprint(two) == fingerprint(pipe)


def other_weight(pipe):
    with torch.no_grad():
        pipe.unet.get_parameter(next(name for name, _ in pipe.unet.named_parameters())).view(-1)[0] += 1e-3


def other_statistics(pipe):
    pipe.encoder.register_buffer("more", torch.zeros(1))


@pytest.mark.parametrize(
    "change",
    [
        other_weight,
        other_statistics,
        lambda pipe: pipe.register_to_config(num_inference_steps=7),
        lambda pipe: pipe.scheduler.register_to_config(beta_end=0.5),
        lambda pipe: pipe.unet.register_to_config(prediction_type="sample"),
        lambda pipe: pipe.unet.register_to_config(reference_frame=True),
    ],
)
def test_whatever_changes_what_a_model_makes_changes_its_fingerprint(change):
    torch.manual_seed(0)
    pipe = tiny_pipeline()
    before = fingerprint(pipe)
    change(pipe)
    assert fingerprint(pipe) != before


def test_an_option_that_is_off_changes_nothing_of_figures_from_before_it():
    pipe = tiny_pipeline()
    before = fingerprint(pipe)
    pipe.unet._internal_dict = {k: v for k, v in pipe.unet.config.items() if k != "reference_frame"}
    assert fingerprint(pipe) == before


def test_baselines_and_plain_things_have_fingerprints():
    one, two = (SequentialVAEPipeline(tiny_baseline()) for _ in range(2))
    assert fingerprint(one) != fingerprint(two), "other weights"
    assert (
        len({fingerprint(each) for each in ("1", 1, 1.5, None, [1], [1, 1], [[1], 1], {"a": 1}, torch.ones(1))}) == 9
    )
    assert fingerprint(torch.zeros(2, 3)) != fingerprint(torch.zeros(3, 2)) != fingerprint(torch.zeros(3, 2).half())


SHARED = {"seed": 0, "recordings": None}


def test_what_is_not_finite_is_none_in_the_file(tmp_path):
    results = open_results(tmp_path / "results.json", SHARED, {})
    results["models"]["a"] = {"psnr": [1.0, math.inf], "more": {"ceiling": math.nan}}
    save_results(results, tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["models"]["a"] == {
        "psnr": [1.0, None],
        "more": {"ceiling": None},
    }


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"settings": 1, "environment": {}, "models": {}}'])
def test_a_file_of_something_else_is_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="is not what this script writes"):
        open_results(tmp_path / "results.json", SHARED, {})


def test_settings_of_sections_on_request_are_added_and_kept_but_never_exchanged(tmp_path):
    path = tmp_path / "results.json"
    save_results(open_results(path, dict(SHARED), {}), path)
    results = open_results(path, SHARED | {"recordings": "zip"}, {})
    assert results["settings"]["recordings"] == "zip"
    save_results(results, path)
    assert open_results(path, dict(SHARED), {})["settings"]["recordings"] == "zip"
    with pytest.raises(ValueError, match=r"other settings \(recordings\)"):
        open_results(path, SHARED | {"recordings": "another"}, {})
