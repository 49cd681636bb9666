"""
Evaluation from the command line: a whole table from tiny models, resumed where it stopped, and refusals before the
work.
"""

import functools
import json
import shutil

import evaluate
import few
import numpy as np
import preparation
import push_to_hub
import pytest
import report
import sections
import torch
from tiny import SIZE, tiny_pipeline, tiny_prior
from tiny_baselines import tiny_baseline

from divid_diffusers import DiViDPipeline, SequentialVAEPipeline
from divid_diffusers.data.prepared import PreparedClips
from divid_diffusers.models.judge import ClipJudge
from divid_diffusers.pipelines.saving import add_component


LABELS = {"identity": ["dim", "bright"], "action": ["left", "right"]}
ARROWS = LABELS | {"action": ["up", "down"]}


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
    ClipJudge(LABELS, 1, SIZE, (4, 8), num_frames=4, dataset="bars", kind="3d").save_pretrained(folder / "judge-3d")
    tiny_pipeline(in_channels=1).save_pretrained(folder / "divid")
    SequentialVAEPipeline(tiny_baseline(in_channels=1)).save_pretrained(folder / "dbse")
    return folder


def run(folder, out, *flags, models=("divid",), judges=("judge",)):
    names = [f"{name}={folder / name}" for name in models]
    judge_flag = ["--judge", *(str(folder / judge) for judge in judges)] if judges else []
    evaluate.main(
        ["--models", *names, f"--dataset={folder / 'bars'}", f"--out={out}", *judge_flag, "--num_pairs=7", *flags]
    )
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def measured(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    return out, run(folder, out, models=("divid", "dbse"), judges=("judge", "judge-3d"))


def test_every_section_is_measured_or_says_why_not(measured):
    _, results = measured
    sections = {name: results["models"][name]["sections"] for name in ("divid", "dbse")}
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


def test_what_was_measured_can_be_published(measured, folder, tmp_path):
    file = measured[0] / "results.json"
    published = push_to_hub.metrics_measured(push_to_hub.open_pipeline(folder / "divid"), file)
    names = ["swap_static", "swap_dynamic", "swap_joint", "psnr", "motion_error", "leakage"]
    assert [each.metric_type for each in published] == names
    with pytest.raises(ValueError, match="no figures of these weights"):
        push_to_hub.metrics_measured(tiny_pipeline(in_channels=1), file)


def test_a_prior_has_figures_of_its_own_and_leaves_the_others(folder, tmp_path):
    flags = ["--sections", "reconstruction", "prior"]
    shutil.copytree(folder / "divid", folder / "drawing")
    first = run(folder, tmp_path / "out", *flags, models=["drawing"])["models"]
    entries = []
    for seed in (0, 1):
        prior = tiny_prior(DiViDPipeline.from_pretrained(folder / "divid").encoder, dropout=seed / 10)
        add_component(folder / "drawing", "prior", prior)
        entries.append(run(folder, tmp_path / "out", *flags, models=["drawing"])["models"])
    none, one, other = (next(iter(each.values())) for each in (first, *entries))
    assert "left_out" in none["sections"]["prior"] and "result" in one["sections"]["prior"]
    assert (
        none["sections"]["reconstruction"] == one["sections"]["reconstruction"] == other["sections"]["reconstruction"]
    )
    assert none["parameters"] == one["parameters"] and one["prior"] != other["prior"]


def test_a_decoder_that_looks_at_the_static_frame_is_measured_with_and_without(folder, tmp_path, capsys):
    torch.manual_seed(0)
    pipe = tiny_pipeline(in_channels=1, prediction_type="sample", reference_frame=True)
    for name in ("looks", "blind"):
        pipe.save_pretrained(tmp_path / name)
        shutil.copytree(tmp_path / name, folder / name)
    found = run(folder, tmp_path / "out", "--tokens_alone", "blind", models=["looks", "blind"])["models"]
    assert found["looks"]["fingerprint"] != found["blind"]["fingerprint"]
    looks, blind = (found[name]["sections"] for name in ("looks", "blind"))
    cells = [each["leakage"]["result"]["cells"] for each in (looks, blind)]
    assert cells[0] == cells[1]  # of s and d, whatever the decoder sees
    psnr = [each["reconstruction"]["result"]["from pure noise"]["psnr"][0] for each in (looks, blind)]
    assert psnr[0] > psnr[1] + 1  # half of the static frame is shown
    assert "from inverted noise" not in blind["reconstruction"]["result"]
    with pytest.raises(SystemExit):
        run(folder, tmp_path / "other", "--tokens_alone", "dbse")
    assert "--tokens_alone dbse: there is no such name" in capsys.readouterr().err


def test_a_judge_of_grey_clips_names_them_in_colour_as_well_and_no_others(folder, tmp_path):
    few.main(["--input", str(folder / "bars"), "--output_dir", str(tmp_path / "bars"), "--num_workers=1"])
    shutil.copytree(folder / "judge", tmp_path / "judge")
    tiny_pipeline().save_pretrained(tmp_path / "divid")
    grey = run(folder, tmp_path / "grey", "--sections=swap")["models"]["copy of the static donor"]["sections"]
    colour = run(tmp_path, tmp_path / "colour", "--sections=swap")["models"]["copy of the static donor"]["sections"]
    assert grey["swap"]["result"]["real"] == colour["swap"]["result"]["real"]


def test_floors_are_rows_of_every_swap_table(measured):
    out, results = measured
    floors = {name: model for name, model in results["models"].items() if "version" in model["fingerprint"]}
    assert len(floors) == 6 and all(set(model["sections"]) == {"swap", "true_swap"} for model in floors.values())
    text = (out / "tables.md").read_text()
    for name, model in floors.items():
        row = model["sections"]["swap"]["result"]["swaps"]["different in both"]
        assert f"| {name} | {row['n']} | {report.share(row['joint'])} | " in text
    assert "too few people" in text and "nearest training clip" in text


def test_every_other_judge_is_asked_for_the_same_swaps_and_named_with_its_agreement(measured):
    out, results = measured
    assert list(results["settings"]["other_judges"]) == ["judge-3d"]
    text = (out / "tables.md").read_text()
    assert "judge-3d: judge of unknown accuracy." in text and "| joint, judged by judge-3d | agreement |" in text
    for model in results["models"].values():
        swap = model["sections"]["swap"]["result"]
        assert list(swap["other_judges"]) == ["judge-3d", "nearest training clip"]
        other = swap["other_judges"]["judge-3d"]
        assert other["swaps"]["all"]["n"] == 7 and other["real"]["n"] == 8
        assert f"{100 * other['agreement'][0]:.1f}" in text
    assert "| divid minus | joint | judged by judge-3d | judged by nearest training clip | harder pairs |" in text


def test_judges_of_one_table_name_the_same_and_have_names_of_their_own(folder, tmp_path):
    ClipJudge({"identity": LABELS["identity"]}, 1, SIZE, (4,), num_frames=4).save_pretrained(folder / "judge-short")
    with pytest.raises(SystemExit, match="first judge names action, and another does not"):
        run(folder, tmp_path, judges=("judge", "judge-short"))
    with pytest.raises(SystemExit, match="in folders of one name"):
        run(folder, tmp_path, judges=("judge", "judge"))


def test_the_figure_shows_donors_and_models(measured):
    out, _ = measured
    from PIL import Image

    figure, movie = Image.open(out / "swaps.png"), Image.open(out / "swaps.gif")
    assert figure.width == 2 * 4 * SIZE and movie.n_frames == 4
    assert figure.height % (7 * (2 * SIZE + 12)) == 0, "per pair: two donors, two models and three floors"


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


def test_other_steps_in_the_same_folder_are_another_model(folder, tmp_path):
    tiny_pipeline(in_channels=1).save_pretrained(tmp_path / "divid")
    for name in ("judge", "bars"):
        (tmp_path / name).symlink_to(folder / name)
    before = run(tmp_path, tmp_path / "out", "--sections", "routing")["models"]["divid"]
    index = tmp_path / "divid" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"num_inference_steps": 2}))
    after = run(tmp_path, tmp_path / "out", "--sections", "routing")["models"]["divid"]
    steps = [len(each["sections"]["routing"]["result"]["weight_on_static"]["8"]) for each in (before, after)]
    assert steps == [3, 2] and before["fingerprint"] != after["fingerprint"]


@pytest.mark.parametrize("what, setting", [("judge", "judge"), ("bars", "clips, training_clips")])
def test_a_judge_or_clips_that_changed_behind_one_name_do_not_share_a_file(
    folder, tmp_path, monkeypatch, what, setting
):
    for name in ("judge", "divid", "bars"):
        (tmp_path / name).symlink_to(folder / name)
    run(tmp_path, tmp_path / "out", "--sections", "prior")
    (tmp_path / what).unlink()
    if what == "judge":
        judge = ClipJudge.from_pretrained(folder / "judge")
        with torch.no_grad():
            next(judge.parameters()).add_(0.1)
        judge.save_pretrained(tmp_path / "judge")
    else:
        monkeypatch.setitem(globals(), "draw", lambda clip, draw=draw: draw(clip) // 2)
        prepared(tmp_path / "bars", LABELS)
    with pytest.raises(SystemExit, match=rf"other settings \({setting}\)"):
        run(tmp_path, tmp_path / "out", "--sections", "prior")


def test_what_was_left_out_is_measured_once_it_can_be(folder, tmp_path, monkeypatch):
    assert "left_out" in run(folder, tmp_path, "--sections", "label_free")["models"]["divid"]["sections"]["label_free"]
    monkeypatch.setattr(evaluate, "PretrainedFeatures", lambda name: lambda clips: clips.flatten(2))
    results = run(folder, tmp_path, "--sections", "label_free", "--identity_model=eyes")
    assert "result" in results["models"]["divid"]["sections"]["label_free"]
    assert run(folder, tmp_path, "--sections", "label_free")["settings"]["identity_model"] == "eyes"


def test_clips_compared_with_each_other_are_the_same_and_no_first_of_a_sorted_list(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sections, "INVERTED_CLIPS", 3)
    measured = []
    monkeypatch.setattr(sections, "closeness", lambda bench, truth, decoded: measured.append((bench, truth)) or {})
    monkeypatch.setattr(evaluate, "write_report", lambda out: "")
    result = run(folder, tmp_path, "--sections", "reconstruction")["models"]["divid"]["sections"]["reconstruction"]
    assert {"from pure noise, the same clips", "from inverted noise"} <= result["result"].keys()
    (bench, _), (_, same), (_, inverted) = measured
    assert torch.equal(same, inverted) and len(same) == 3 and not torch.equal(same, bench.clips[:3])


def test_few_pairs_of_many_have_many_donors():
    clips = torch.zeros(100, 2, 1, 1, 1)
    pairs = [(a, b) for a in range(100) for b in range(100) if a != b]
    bench = sections.Bench([], [], clips, pairs, [], [], None, {}, sections.NotMeasured(""), None, "", 0, None)
    a, b = bench.some_pairs(200)
    assert len(set(a)) > 75 and len(set(b)) > 75 and bench.some_pairs(200) == (a, b)


def test_few_clips_of_many_are_not_the_first():
    clips = torch.arange(100.0).reshape(100, 1, 1, 1, 1).expand(-1, 2, -1, -1, -1)
    bench = sections.Bench([], [], clips, [], [], [], None, {}, sections.NotMeasured(""), None, "", 0, None)
    some = bench.some_clips(20)
    assert some.shape == (20, 2, 1, 1, 1) and len(some[:, 0].unique()) == 20 and some.max() > 75
    assert torch.equal(bench.some_clips(20), some)


def test_a_single_test_clip_is_reconstructed_and_what_needs_two_says_so(folder, tmp_path):
    (tmp_path / "bars").symlink_to(folder / "bars")
    sections = run(folder, tmp_path, "--num_clips=1", models=("divid",))["models"]["divid"]["sections"]
    reconstruction = sections["reconstruction"]["result"]["from pure noise"]
    assert reconstruction["n"] == 1 and reconstruction["psnr"][1] is None, "of one clip there is no interval"
    assert {name for name, each in sections.items() if "result" in each} == {"reconstruction", "routing"}
    for name in ("swap", "bottleneck"):
        assert "a single test clip" in sections[name]["left_out"]
    assert "nan" not in (tmp_path / "tables.md").read_text() and not (tmp_path / "swaps.png").exists()


def test_clips_of_one_identity_are_reconstructed_though_no_swap_can_change_it(folder, tmp_path, monkeypatch):
    everyone = evaluate.load_clips

    def dim(path, split):
        clips = everyone(path, split)
        chosen = [i for i in range(len(clips)) if split == "train" or clips[i]["identity"] == 0]
        return PreparedClips(clips.dataset.with_format(None).select(chosen))

    monkeypatch.setattr(evaluate, "load_clips", dim)
    found = run(folder, tmp_path, "--sections", "reconstruction", "swap")["models"]["divid"]["sections"]
    assert found["reconstruction"]["result"]["from pure noise"]["n"] == 4
    assert "All clips have one 'identity'" in found["swap"]["left_out"]


def test_without_a_judge_nothing_is_named_but_clips_are_compared(folder, tmp_path):
    sections = run(folder, tmp_path, "--sections", "swap", "reconstruction", models=("dbse",), judges=())["models"][
        "dbse"
    ]["sections"]
    assert "train_judge.py" in sections["swap"]["left_out"]
    assert "perceptual_distance" not in sections["reconstruction"]["result"]["from pure noise"]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda f: tiny_pipeline(in_channels=3).save_pretrained(f / "divid"),
            r"takes frames of .* \(3, 16, 16\), but .* has \(1, 16, 16\)",
        ),
        (
            lambda f: ClipJudge(ARROWS, 1, SIZE, (4,), dataset="arrows").save_pretrained(f / "judge"),
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


def test_choices_are_made_on_validation_clips_and_their_figures_do_not_mix_with_those_of_test(folder, tmp_path):
    results = run(folder, tmp_path, "--sections", "swap", "--split=validation")
    assert results["settings"]["split"] == "validation" and results["settings"]["num_clips"] == 3  # of 32 for training
    assert "3 validation clips of 4 frames" in (tmp_path / "tables.md").read_text()
    with pytest.raises(SystemExit, match=r"other settings \(split"):
        run(folder, tmp_path, "--sections", "swap")


def test_figures_from_before_there_were_validation_clips_are_of_test(folder, tmp_path):
    results = run(folder, tmp_path, "--sections", "prior")
    del results["settings"]["split"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert run(folder, tmp_path, "--sections", "routing")["settings"]["num_clips"] == 8
    assert "8 held-out clips" in (tmp_path / "tables.md").read_text()


def test_figures_under_other_settings_do_not_share_a_file(folder, tmp_path):
    run(folder, tmp_path, "--sections", "prior")
    with pytest.raises(SystemExit, match=r"other settings \(seed\)"):
        run(folder, tmp_path, "--sections", "prior", "--seed=1")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (float("nan"), "cannot be loaded: The weights in .* are not finite"),
        (3e38, "broken: The static codes hold NaN"),
    ],
    ids=["in the weights", "in the codes"],
)
def test_nan_is_a_sentence(weight, message, folder, tmp_path):
    pipe = tiny_pipeline(in_channels=1)
    with torch.no_grad():
        next(pipe.encoder.parameters()).fill_(weight)
    pipe.save_pretrained(folder / "broken")
    with pytest.raises(SystemExit, match=message):
        run(folder, tmp_path, "--sections", "swap", models=("broken",))


@pytest.mark.parametrize("models", [["divid"], ["a=x", "a=y"], ["=x"], ["a/b=x"]])
def test_models_need_names_of_their_own(models, capsys):
    with pytest.raises(SystemExit):
        evaluate.parse_args(["--models", *models, "--dataset=d", "--out=o"])
    assert "NAME=PATH" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--num_pairs=-1", "--num_frames=1", "--num_inference_steps=0", "--seed=nan"])
def test_numbers_that_mean_nothing_are_refused(flag, capsys):
    with pytest.raises(SystemExit):
        evaluate.parse_args(["--models", "a=x", "--dataset=d", "--out=o", flag])
    assert f"argument {flag.split('=')[0]}: " in capsys.readouterr().err


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
