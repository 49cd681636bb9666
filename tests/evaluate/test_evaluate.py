"""Evaluation from the command line: a whole table from tiny models, resumed where it stopped, and refusals before the work."""

import functools
import json

import evaluate
import numpy as np
import preparation
import pytest
import report
import torch
from tiny import SIZE, tiny_pipeline
from tiny_baselines import tiny_baseline

from divid_diffusers import SequentialVAEPipeline
from divid_diffusers.models.judge import ClipJudge


LABELS = {"identity": ["dim", "bright"], "action": ["left", "right"]}


def draw(clip: preparation.Clip) -> np.ndarray:
    """A bar as bright as its identity, moving the way its action says."""
    frames = np.zeros((5, SIZE, SIZE, 1), np.uint8)
    for i in range(5):
        column = 2 + 2 * i if clip.labels["action"] == "right" else 12 - 2 * i
        frames[i, 4:12, column : column + 3] = 90 if clip.labels["identity"] == "dim" else 250
    return frames


def prepared(folder, labels):
    clips = [
        preparation.Clip(
            f"c{i}", "drawn", "test" if i % 5 == 4 else "train",
            {"identity": LABELS["identity"][i // 5 % 2], "action": LABELS["action"][i // 10 % 2]},
        )
        for i in range(40)
    ]  # fmt: skip
    plan = preparation.Plan(clips, functools.partial(draw), (SIZE, SIZE, 1), labels, "every fifth")
    preparation.prepare(plan, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A set, a judge of it, and two models."""
    folder = tmp_path_factory.mktemp("evaluate")
    prepared(folder / "bars", LABELS)
    torch.manual_seed(0)
    accuracy = {"identity": [1.0, 0.7, 1.0, 8], "action": [1.0, 0.7, 1.0, 8], "joint": [1.0, 0.7, 1.0, 8]}
    judge = ClipJudge(LABELS, 1, SIZE, (4, 8), num_frames=4, dataset="bars", test_accuracy=accuracy)
    judge.save_pretrained(folder / "judge")
    tiny_pipeline(in_channels=1).save_pretrained(folder / "divid")
    SequentialVAEPipeline(tiny_baseline(in_channels=1)).save_pretrained(folder / "dbse")
    return folder


def run(folder, out, *flags, models=("divid",), judge=True):
    names = [f"{name}={folder / name}" for name in models]
    judge_flag = [f"--judge={folder / 'judge'}"] if judge else []
    evaluate.main(
        ["--models", *names, f"--dataset={folder / 'bars'}", f"--out={out}", "--num_pairs=7", *judge_flag, *flags]
    )
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    return out, run(folder, out, models=("divid", "dbse"))


def test_every_section_is_measured_or_says_why_not(measured):
    _, results = measured
    sections = {name: model["sections"] for name, model in results["models"].items()}
    left_out = {name: [key for key, found in each.items() if "left_out" in found] for name, each in sections.items()}
    assert left_out == {
        "divid": ["true_swap", "prior", "label_free"],
        "dbse": ["bottleneck", "routing", "true_swap", "label_free"],
    }
    swaps = sections["divid"]["swap"]["result"]["swaps"]["all"]
    assert swaps["n"] == 7 and swaps["joint"][1] <= swaps["joint"][0] <= swaps["joint"][2]
    reconstruction = sections["divid"]["reconstruction"]["result"]
    assert reconstruction["from pure noise"]["n"] == reconstruction["from inverted noise"]["n"] == 8
    assert "from inverted noise" not in sections["dbse"]["reconstruction"]["result"]
    assert all({"seconds", "revision"} <= found.keys() for each in sections.values() for found in each.values())


def test_the_tables_come_from_the_json_alone_and_name_the_judges_accuracy(measured, tmp_path):
    out, results = measured
    (tmp_path / "results.json").write_text((out / "results.json").read_text())
    text = report.write_report(tmp_path)
    assert text == (out / "tables.md").read_text()
    joint = results["models"]["dbse"]["sections"]["swap"]["result"]["swaps"]["all"]["joint"]
    assert "| **dbse, swaps** | 7 | " in text and report.share(joint) in text
    assert "Judge of bars, on 8 real held-out clips: action 100.0 % [70.0, 100.0]" in text
    assert (tmp_path / "bottleneck_divid.png").stat().st_size > 1000


def test_the_figure_shows_donors_and_models(measured):
    out, _ = measured
    from PIL import Image

    figure, movie = Image.open(out / "swaps.png"), Image.open(out / "swaps.gif")
    assert figure.width == 2 * 4 * SIZE and movie.n_frames == 4
    assert figure.height % (4 * (2 * SIZE + 12)) == 0, "per pair: two donors and two models"


def test_a_run_goes_on_where_it_stopped(folder, tmp_path, monkeypatch):
    run(folder, tmp_path, "--sections", "routing")
    monkeypatch.setitem(evaluate.SECTIONS, "routing", lambda *_: pytest.fail("measured a second time"))
    results = run(folder, tmp_path, "--sections", "routing", "prior")
    assert list(results["models"]["divid"]["sections"]) == ["routing", "prior"]


def test_a_model_with_other_weights_is_measured_anew(folder, tmp_path):
    torch.manual_seed(1)
    for number in range(2):
        tiny_pipeline(in_channels=1).save_pretrained(folder / "changing")
        results = run(folder, tmp_path, "--sections", "routing" if number else "prior", models=("changing",))
    assert list(results["models"]["changing"]["sections"]) == ["routing"]


def test_without_a_judge_nothing_is_named_but_clips_are_compared(folder, tmp_path):
    sections = run(folder, tmp_path, "--sections", "swap", "reconstruction", models=("dbse",), judge=False)["models"][
        "dbse"
    ]["sections"]
    assert "train_judge.py" in sections["swap"]["left_out"]
    assert "perceptual_distance" not in sections["reconstruction"]["result"]["from pure noise"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: tiny_pipeline(in_channels=3).save_pretrained(f / "divid"), r"takes frames of .* \(3, 16, 16\), but .* has \(1, 16, 16\)"),
        (
            lambda f: ClipJudge(LABELS | {"action": ["up", "down"]}, 1, SIZE, (4,), dataset="arrows").save_pretrained(f / "judge"),
            "it is the judge of arrows",
        ),
        (
            lambda f: ClipJudge({"identity": LABELS["identity"]}, 1, SIZE, (4,)).save_pretrained(f / "judge"),
            "swaps need one that is motion",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_the_work(folder, tmp_path, change, message):
    for name in ("judge", "divid", "bars"):
        (tmp_path / name).symlink_to(folder / name)
    target = tmp_path / "own"
    target.mkdir()
    change(target)
    for made in target.iterdir():
        (tmp_path / made.name).unlink()
        made.rename(tmp_path / made.name)
    with pytest.raises(SystemExit, match=message):
        run(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_figures_under_other_settings_do_not_share_a_file(folder, tmp_path):
    run(folder, tmp_path, "--sections", "prior")
    with pytest.raises(SystemExit, match=r"other settings \(seed\)"):
        run(folder, tmp_path, "--sections", "prior", "--seed=1")


def test_nan_in_the_codes_is_a_sentence(folder, tmp_path):
    pipe = tiny_pipeline(in_channels=1)
    with torch.no_grad():
        next(pipe.encoder.parameters()).fill_(float("nan"))
    pipe.save_pretrained(folder / "broken")
    with pytest.raises(SystemExit, match="broken: The static codes hold NaN"):
        run(folder, tmp_path, "--sections", "swap", models=("broken",))


@pytest.mark.parametrize("models", [["divid"], ["a=x", "a=y"], ["=x"], ["a/b=x"]])
def test_models_need_names_of_their_own(models, capsys):
    with pytest.raises(SystemExit):
        evaluate.parse_args(["--models", *models, "--dataset=d", "--out=o"])
    assert "NAME=PATH" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--num_pairs=-1", "--num_frames=1", "--num_clips=-3", "--seed=-1"])
def test_numbers_that_mean_nothing_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        evaluate.parse_args(["--models", "a=x", "--dataset=d", "--out=o", flag])
    assert "it must be at least" in capsys.readouterr().err


def test_a_model_for_label_free_scores_that_cannot_be_had_is_told_before_the_work(folder, tmp_path):
    with pytest.raises(SystemExit, match="cannot be loaded"):
        run(folder, tmp_path / "out", f"--identity_model={tmp_path / 'nothing'}")
    assert not (tmp_path / "out").exists()


def test_results_that_are_damaged_are_not_overwritten(folder, tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(SystemExit, match="is not what this script writes"):
        run(folder, tmp_path, "--sections", "prior")
    assert (tmp_path / "results.json").read_text() == "{"


def test_label_free_scores_come_from_the_models_that_were_named(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "PretrainedFeatures", lambda name: lambda clips: clips.flatten(2))
    results = run(folder, tmp_path, "--sections", "label_free", "--identity_model=eyes")
    row = results["models"]["divid"]["sections"]["label_free"]["result"]["identity"]
    assert row["num_scored"] == row["num_clips"] == 7 and results["settings"]["identity_model"] == "eyes"
    assert "| divid | identity | eyes |" in (tmp_path / "tables.md").read_text()
