"""How many steps: one row each, decoded in so many."""

import pytest
import sampling_steps

from divid_diffusers import DiViDPipeline, build_pipeline


def test_every_number_of_steps_is_a_row_of_swaps_decoded_in_it(tmp_path, capsys, monkeypatch):
    build_pipeline("tiny").save_pretrained(tmp_path / "model")
    taken, decode = set(), DiViDPipeline.__call__
    monkeypatch.setattr(
        DiViDPipeline,
        "__call__",
        lambda pipe, *args, **options: taken.add(options["num_inference_steps"]) or decode(pipe, *args, **options),
    )
    sampling_steps.main([f"--model={tmp_path / 'model'}", "--steps", "1", "3", "--num_clips=3", "--num_pairs=2"])
    rows = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line[:2] == "| "]
    assert rows == ["steps", "1", "3"] and taken == {1, 3}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [(["--model=x", "--dataset=data/mine"], "--judge is missing"), (["--model=nowhere"], "cannot be loaded")],
)
def test_what_cannot_be_measured_is_a_sentence(flags, sentence, capsys):
    with pytest.raises(SystemExit) as stop:
        sampling_steps.main(flags)
    assert sentence in f"{stop.value.code} {capsys.readouterr().err}"
