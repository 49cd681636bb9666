"""With a stand-in for MSD-Benchmark: what examples/msd_benchmark.py hands to the evaluators, and what it refuses."""

import runpy
import sys
from pathlib import Path

import numpy as np
import preparation
import pytest
from tiny import SIZE, tiny_pipeline
from tiny_baselines import tiny_baseline

from divid_diffusers import SequentialVAEPipeline
from divid_diffusers.models.judge import ClipJudge


SCRIPT = Path(__file__).parents[2] / "examples" / "msd_benchmark.py"
LABELS = {"identity": ["dim", "bright"], "action": ["left", "right"]}

# Every evaluator of the stand-in asks for all that the real ones ask for. Its score: the share of clips that come back
# as they were though all channels but those of one kind are another clip's.
EVALUATORS = """
import numpy as np
import pandas as pd
import torch

class Evaluator:
    def __init__(self, initializer, dataset_type, evaluation_manager, **options):
        self.manager, self.options = evaluation_manager, options
        self.dataset, self.loader = initializer.get_dataset(dataset_type, loaders=True, labels=True)
        assert initializer.config.device == "cpu" and evaluation_manager.create_predictor().max_depth == 3

    def eval(self, epoch):
        model, judge = self.manager.model.eval(), self.manager.get_judge()
        ((clips, static_labels, dynamic_labels),) = self.loader
        assert list(static_labels) == self.dataset.static_factors == ["identity"]
        assert list(dynamic_labels) == ["action"]
        assert len(self.dataset) == len(clips) and self.dataset.class_dims == {"identity": 2, "action": 2}
        codes = model.encode(model.preprocess(clips))
        assert codes.shape == (len(clips), model.latent_dim()) and torch.equal(codes, model.latent_vector(clips))
        assert self.manager.model.forward(clips).shape == clips.shape
        others = model.sample(codes) if type(self).__name__ == "TwoFactorSample" else codes.roll(1, 0)
        assert others.shape == codes.shape
        back = {}
        for kind, kept in self.manager.get_latent_explorer().get_map(epoch).items():
            mixed, rest = model.swap_channels(codes, others, np.setdiff1d(np.arange(model.latent_dim()), kept))
            assert torch.equal(mixed[:, kept], codes[:, kept]) and torch.equal(rest[:, kept], others[:, kept])
            decoded = model.postprocess(model.decode(mixed))
            assert {name: told.shape for name, told in judge(decoded, False).items()}["action"] == clips.shape[:1]
            back[kind] = (decoded == clips).flatten(1).all(dim=1).float().mean().item()
        self.manager.logger.log_table("back", back, step=epoch)
        return pd.Series({"score": sum(back.values()) / 2}), pd.DataFrame({"subset": ["all"], **back})
"""
STAND_IN = {
    "evaluations/judge/judge.py": "class Judge: pass",
    "evaluations/latent_exploration/explorers/skd_predictor_latent_explorer.py": """
class PredictorLatentExplorerStaticDynamic:
    def __init__(self, initializer, dataset_type, evaluation_manager, batch_exploration):
        self.model, self.loader = evaluation_manager.model, initializer.get_dataset(dataset_type, loaders=True)[1]

    def get_map(self, epoch):
        static, dynamic, of_static, of_dynamic = self.model.latent_vector_splited_static_dynamic(self.loader[-1][0])
        assert static.shape[1] == len(of_static) and dynamic.shape[1] == len(of_dynamic)
        return {"static": list(of_static), "dynamic": list(of_dynamic)}
""",
    "evaluations/metrics/dci_evaluator.py": EVALUATORS + "class DCIEvaluator(Evaluator): pass",
    "evaluations/metrics/intervention/multi_factor_intervention.py": EVALUATORS
    + "class MultiFactorSwap(Evaluator): pass",
    "evaluations/metrics/intervention/two_factor_intervention.py": EVALUATORS
    + "class TwoFactorSwap(Evaluator): pass\nclass TwoFactorSample(Evaluator): pass",
    "methods/abstract_model.py": """
import torch

class AbstractModel(torch.nn.Module):
    preprocess = postprocess = lambda self, x: x
""",
    "utils/loggers/base_logger.py": """
class CompositeLogger:
    def __init__(self, loggers): pass
    def log_table(self, name, data, step=None): pass
""",
}


def draw(clip: preparation.Clip) -> np.ndarray:
    number = int(clip.clip_id[1:])
    return np.random.default_rng(number).integers(0, 255, (5, SIZE, SIZE, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A clone, a set, its judge, a model without a prior and one with."""
    folder = tmp_path_factory.mktemp("msd")
    for name, text in STAND_IN.items():
        path = folder / "clone" / "msd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    clips = [
        preparation.Clip(
            f"c{i}", "drawn", "test" if i else "train",
            {"identity": LABELS["identity"][i % 2], "action": LABELS["action"][i // 2 % 2]},
        )
        for i in range(7)
    ]  # fmt: skip
    preparation.prepare(preparation.Plan(clips, draw, (SIZE, SIZE, 1), LABELS, "all but one"), folder / "set")
    ClipJudge(LABELS, 1, SIZE, (4,), num_frames=4).save_pretrained(folder / "judge")
    ClipJudge({"who": ["a", "b"]}, 1, SIZE, (4,), num_frames=4).save_pretrained(folder / "judge-of-another-set")
    tiny_pipeline(in_channels=1).save_pretrained(folder / "divid")
    SequentialVAEPipeline(tiny_baseline(in_channels=1)).save_pretrained(folder / "dbse")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    def run(clone="clone", judge="judge"):
        words = [f"--msd={folder / clone}", f"--dataset={folder / 'set'}", f"--judge={folder / judge}"]
        models = ["--models", str(folder / "divid"), str(folder / "dbse")]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words, *models])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    monkeypatch.setattr(sys, "path", list(sys.path))
    yield run
    for name in [name for name in sys.modules if name.partition(".")[0] == "msd"]:
        del sys.modules[name]


def test_evaluators_get_what_they_ask_for_and_a_copy_is_seen_as_one(run, capsys):
    run()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split(":")[0]: lines[i + 2].split()[1:] for i, line in enumerate(lines) if ": score " in line}
    every = ["TwoFactorSwap", "MultiFactorSwap", "DCIEvaluator"]
    assert rows["copy of the static donor, TwoFactorSwap"] == ["1.000", "0.000"]
    assert {f"divid, {name}" for name in every} | {f"dbse, {name}" for name in (*every, "TwoFactorSample")} <= set(
        rows
    )
    assert "divid, TwoFactorSample" not in rows  # it has no prior to draw from
    assert any(line.startswith("Named right of 6 real clips: action ") for line in lines)


def refusal(run, capsys, **what):
    with pytest.raises(SystemExit):
        run(**what)
    return capsys.readouterr().err


def test_no_clone_is_a_sentence(run, capsys):
    assert "there is no folder" in refusal(run, capsys, clone="nowhere")


def test_a_judge_of_another_set_is_a_sentence(run, capsys):
    assert "must have the same labels, action among them: see 'action'" in refusal(
        run, capsys, judge="judge-of-another-set"
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("import a_package_that_nobody_has", "MSD-Benchmark needs a_package_that_nobody_has, which is not installed"),
        ("class Referee: pass", "is not laid out as MSD-Benchmark was at commit da5ba28"),
        ("import msd.judges", "is not laid out as MSD-Benchmark was at commit da5ba28"),
    ],
)
def test_a_clone_that_does_not_import_is_a_sentence(text, message, run, tmp_path, capsys):
    judge = tmp_path / "msd" / "evaluations" / "judge" / "judge.py"
    judge.parent.mkdir(parents=True)
    judge.write_text(text)
    assert message in refusal(run, capsys, clone=tmp_path)
