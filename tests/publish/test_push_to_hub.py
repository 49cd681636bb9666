"""
What is published loads with the package, with diffusers alone, and in half precision; what is not fit is not
published.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import push_to_hub
import pytest
import torch
from hub_stand_in import HubStandIn
from huggingface_hub import ModelCard
from PIL import Image
from remote_code import needed_files
from tiny import random_clips, seeded, tiny_pipeline
from tiny_baselines import tiny_baseline
from trainer.card import write_model_card

from divid_diffusers import DiViDPipeline, SequentialVAEPipeline
from divid_diffusers.evaluation.results_file import fingerprint


TESTS = Path(__file__).parents[1]
SCRIPT = TESTS.parent / "training/publish/push_to_hub.py"
ARGS = SimpleNamespace(
    dataset="puppets", num_inference_steps=3, license="cc-by-4.0", residual=True, pair_by=None, labelled_share=1.0
)
FACTS = {
    "name": "run",
    "source": "Puppets",
    "dataset": "puppets",
    "steps": "1000000",
    "batch": "2",
    "frames": "3",
    "minutes": "5",
    "cpu_minutes": "4",
    "processes": "1",
    "device": "CPU",
    "command": "accelerate launch training/train_divid.py --max_train_steps 8",
    "held_out": "2 held-out clips",
    "figures": "| figure | value |\n|---|---|\n| psnr | 20.000 |\n",
}
# Finders of installed packages that do not find ours, whether it is installed as files or as a link to this
# repository.
HIDE_THE_PACKAGE = """
import importlib.machinery, importlib.util, sys

class AllButOurs(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] == "divid_diffusers" else super().find_spec(name, path, target)

others = [f for f in sys.meta_path if f is not importlib.machinery.PathFinder and "editable" not in repr(f).lower()]
sys.meta_path[:] = [*others, AllButOurs]
assert importlib.util.find_spec("divid_diffusers") is None
"""
RECONSTRUCT = """
import torch
torch.set_num_threads(1)
pipe.set_progress_bar_config(disable=True)
clips = torch.load(sys.argv[1])
torch.save(pipe.reconstruct(clips, generator=torch.Generator().manual_seed(0), output_type="pt").frames, sys.argv[2])
"""


@pytest.fixture
def run(tmp_path):
    """What a training run leaves behind, training state included."""
    folder = tmp_path / "run"
    tiny_pipeline().save_pretrained(folder)
    write_model_card(folder, ARGS, FACTS)
    for name in ("checkpoint-8/optimizer.bin", "logs/events", "validation/notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("not to be uploaded")
    Image.new("L", (8, 8), 10).save(folder / "validation/step-000004.png")
    Image.new("L", (8, 8), 90).save(folder / "validation/step-1000000.png")
    figures = [
        {"step": 4, "psnr": 10.0, "motion_error": 1.0},
        {"step": 1000000, "psnr": 20.00001, "motion_error": 0.5},
    ]
    (folder / "validation/figures.jsonl").write_text("".join(json.dumps(each) + "\n" for each in figures))
    return folder


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """
    A Hub, also for huggingface_hub in this process, which read the variables of the environment when it was imported.
    """
    with HubStandIn() as hub:
        for name, value in hub.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        huggingface_hub.close_session()  # it may have been opened offline
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def push(capsys):
    """The command in this process: its exit code, and what it wrote to stdout and stderr."""

    def push(*words):
        code = push_to_hub.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return push


def python(code, folder, *words):
    """A process that has neither the repository nor the tests around it."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def reconstruct(pipe, clips):
    pipe.set_progress_bar_config(disable=True)
    return pipe.reconstruct(clips, generator=seeded(), output_type="pt").frames


# --- what is published ---------------------------------------------------------------------------------------------


def test_a_card_says_whether_labels_were_used_and_from_where_a_swap_starts(tmp_path):
    cards = []
    for own in ({}, {"residual": False, "pair_by": "identity", "labelled_share": 0.25}):
        write_model_card(tmp_path, SimpleNamespace(**vars(ARGS) | own), FACTS)
        cards.append((tmp_path / "README.md").read_text())
    plain, weak = cards
    assert "starts from the pose of the static clip" in plain and "supervised" not in plain
    assert "starts from the pose" not in weak and "**Weakly supervised**: the identity of 25% of the clips" in weak


def test_one_commit_has_the_pipeline_twice_its_code_card_and_pictures_and_no_training_state(run, hub, push):
    Image.new("RGB", (8, 8)).save(run.parent / "swap.gif")
    done = push(run, "--repo_id", "org/published", "--examples", run.parent / "swap.gif", "--private")
    assert done.code == 0 and f"{hub.url}/org/published/commit/" in done.out, done.err
    assert hub.commits == ["org/published"] and hub.private == {"org/published"}
    files = hub.repos["org/published"]
    weights = {
        f"{part}/diffusion_pytorch_model{kind}.safetensors" for part in ("encoder", "unet") for kind in ("", ".fp16")
    }
    code = {"pipeline.py", *(f"{part}/divid_diffusers.py" for part in ("encoder", "unet", "scheduler"))}
    configs = {"model_index.json", "encoder/config.json", "unet/config.json", "scheduler/scheduler_config.json"}
    pictures = {"pictures/validation.png", "pictures/swap.gif"}
    assert set(files) == weights | code | configs | pictures | {"README.md"}
    assert files["pictures/validation.png"] == (run / "validation/step-1000000.png").read_bytes()
    for name in [*configs, *(name for name in weights if "fp16" not in name)]:
        assert files[name] == (run / name).read_bytes(), name


def test_the_card_says_how_to_load_the_repository_and_what_was_measured(run, hub, push, tmp_path):
    before = (run / "README.md").read_bytes()
    assert push(run, "--repo_id", "published").code == 0  # in the user's own namespace
    assert (run / "README.md").read_bytes() == before
    (tmp_path / "README.md").write_bytes(hub.repos["me/published"]["README.md"])
    card = ModelCard.load(tmp_path / "README.md")
    results = {
        each.metric_type: (each.metric_value, each.dataset_type, each.task_type) for each in card.data.eval_results
    }
    assert results == {
        "psnr": (20.0, "puppets", "video-to-video"),
        "motion_error": (0.5, "puppets", "video-to-video"),
    }
    assert card.data.model_name == "published" and card.data.datasets is None
    assert card.data.library_name == "divid_diffusers" and card.data.license == "cc-by-4.0"
    assert card.data.pipeline_tag == "video-to-video" and "divid" in card.data.tags
    assert card.data.training["cpu_minutes"] == 4 and card.data.training["device"] == "CPU"
    assert card.data.training["command"] == FACTS["command"] and FACTS["command"] in card.text
    assert "# published\n" in card.text and "![Held-out clips" in card.text
    assert 'DiViDPipeline.from_pretrained("me/published")' in card.text and '"run"' not in card.text
    assert 'DiffusionPipeline.from_pretrained("me/published", custom_pipeline="pipeline", trust_remote' in card.text


def write_results(file, weights):
    score = {"n": 1000, "static": [0.8, 0.77, 0.82], "dynamic": [0.6, 0.57, 0.63], "joint": [0.5, 0.47, 0.53]}
    sections = {
        "swap": {"result": {"swaps": {"all": score}}},
        "reconstruction": {"result": {"from pure noise": {"n": 103, "psnr": [30.0, 0.5], "motion_error": [0.6, 0.1]}}},
        "true_swap": {"left_out": "This set cannot draw it."},
    }
    models = {
        "other": {"fingerprint": "0" * 16, "sections": {}},
        "mine": {"fingerprint": weights, "sections": sections},
    }
    file.write_text(json.dumps({"settings": {"dataset": "clips"}, "models": models}))
    return file


def test_the_card_has_what_was_measured_of_these_weights(run, hub, push, tmp_path):
    file = write_results(tmp_path / "results.json", fingerprint(DiViDPipeline.from_pretrained(run)))
    assert push(run, "--repo_id", "org/published", "--results", file).code == 0
    (tmp_path / "README.md").write_bytes(hub.repos["org/published"]["README.md"])
    results = {each.metric_type: each for each in ModelCard.load(tmp_path / "README.md").data.eval_results}
    assert list(results) == ["swap_static", "swap_dynamic", "swap_joint", "psnr", "motion_error"]
    assert results["swap_joint"].metric_value == 0.5 and results["swap_joint"].dataset_type == "clips"
    assert results["swap_joint"].metric_args == {"n": 1000, "low": 0.47, "high": 0.53}
    assert results["psnr"].metric_args == {"n": 103, "low": 29.5, "high": 30.5}


def test_a_section_changed_by_hand_is_refused_with_a_sentence(run, hub, push, tmp_path):
    file = write_results(tmp_path / "results.json", fingerprint(DiViDPipeline.from_pretrained(run)))
    file.write_text(file.read_text().replace('"joint"', '"both"'))
    done = push(run, "--repo_id", "org/published", "--results", file)
    assert (
        done.code == 1
        and not hub.commits
        and "is not a results.json as evaluate.py writes it: KeyError('joint')" in done.err
    )


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_figures_of_other_weights_or_of_no_evaluation_are_refused(run, hub, push, tmp_path, text):
    file = write_results(tmp_path / "results.json", "1" * 16)
    if text is not None:
        file.write_text(text)
    done = push(run, "--repo_id", "org/published", "--results", file)
    assert done.code == 1 and not hub.commits
    assert ("no figures of these weights" if text is None else "is not a results.json") in done.err


def test_a_token_in_the_training_command_is_not_published(run, hub, push, tmp_path):
    for form in ("--hub_token hf_secret", "--hub_token=hf_secret"):
        command = f"{FACTS['command']} {form} --seed 3"
        write_model_card(run, ARGS, FACTS | {"command": command})
        assert push(run, "--repo_id", "org/published").code == 0
        (tmp_path / "README.md").write_bytes(hub.repos["org/published"]["README.md"])
        card = ModelCard.load(tmp_path / "README.md")
        assert card.data.training["command"] == command.replace(f"{form} ", "") and "--seed 3\n" in card.text
        assert "hf_secret" not in card.content


@pytest.mark.parametrize(
    "form", ["--hub_tok hf_secret", "--hub_t=hf_secret", "--hub_token 'hf_secret'", f"--x hf_{'s' * 34}"]
)
def test_a_token_under_another_flag_is_not_published_either(run, form):
    card = ModelCard(f"---\nlibrary_name: divid_diffusers\n---\n# run\n\ntrain.py {form} --seed 3\n")
    text = push_to_hub.finished_card(card, [], "org/published", [])
    assert "hf_s" not in text and "--seed 3" in text


def test_only_figures_and_pictures_of_the_published_step_are_published(run):
    """A run that validated nothing, in a folder in which another had; and one whose last line was cut off."""
    write_model_card(run, ARGS, FACTS | {"steps": "9"})
    card = ModelCard.load(run / "README.md")
    assert push_to_hub.metrics_from(run, card) == [] and push_to_hub.pictures_of(run, card, []) == {}
    write_model_card(run, ARGS, FACTS)
    with open(run / "validation/figures.jsonl", "a") as file:
        file.write('{"step": 1000000, "ps')
    card = ModelCard.load(run / "README.md")
    assert [each.metric_value for each in push_to_hub.metrics_from(run, card)] == [20.0, 0.5]
    assert push_to_hub.pictures_of(run, card, [])["pictures/validation.png"].name == "step-1000000.png"


def test_a_licence_is_what_was_given_and_nothing_is_assumed(run, hub, push, tmp_path):
    args = SimpleNamespace(**vars(ARGS) | {"license": None})
    write_model_card(run, args, FACTS)
    assert "license" not in (run / "README.md").read_text()
    assert push(run, "--repo_id", "org/published").code == 0
    assert b"license" not in hub.repos["org/published"]["README.md"]
    assert push(run, "--repo_id", "org/published", "--license", "mit").code == 0
    assert b"license: mit" in hub.repos["org/published"]["README.md"]


def test_a_card_names_no_set_that_no_hub_has(run, tmp_path):
    (tmp_path / "mine").mkdir()
    mine = str(tmp_path / "mine")
    for dataset, named in (
        (mine, None),
        ("puppets", None),
        ("org/clips", ["org/clips"]),
        (f"org/a+puppets+{mine}+org/b", ["org/a", "org/b"]),
    ):
        write_model_card(run, SimpleNamespace(**vars(ARGS) | {"dataset": dataset}), FACTS)
        assert ModelCard.load(run / "README.md").data.get("datasets") == named
    assert str(tmp_path) not in (run / "README.md").read_text()


def test_publishing_what_was_published_changes_nothing_and_old_files_do_not_stay(run, hub, push, tmp_path):
    push(run, "--repo_id", "org/published")
    files = dict(hub.repos["org/published"])
    hub.repos["org/published"]["unet/diffusion_pytorch_model-00001-of-00002.safetensors"] = b"an older upload's"
    hub.repos["org/published"]["notes.md"] = b"somebody's own"
    for name, content in files.items():
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "copy/validation").mkdir()
    for name in ("figures.jsonl", "step-1000000.png"):
        (tmp_path / "copy/validation" / name).write_bytes((run / "validation" / name).read_bytes())
    done = push(tmp_path / "copy", "--repo_id", "org/published")
    assert done.code == 0, done.err
    assert hub.repos["org/published"] == files | {"notes.md": b"somebody's own"}


def test_a_dry_run_lists_everything_and_asks_the_hub_nothing(run, hub, push):
    done = push(run, "--repo_id", "org/published", "--dry_run")
    assert done.code == 0 and "Nothing was uploaded" in done.out
    assert hub.requests == [] and hub.repos == {}
    listed = {line.split()[-1] for line in done.out.splitlines()[:-1]}
    push(run, "--repo_id", "org/published")
    assert listed == set(hub.repos["org/published"])


def test_what_a_page_says_of_it_is_published_with_it(run, hub, push):
    (run / "examples").mkdir()
    (run / "examples" / "clip_1_wave.webp").write_bytes(b"a clip")
    (run / "examples" / ".DS_Store").write_bytes(b"not one")
    (run / "space.json").write_text('{"name": "Mine"}')
    assert push(run, "--repo_id", "org/published").code == 0
    files = hub.repos["org/published"]
    assert files["space.json"] == b'{"name": "Mine"}' and files["examples/clip_1_wave.webp"] == b"a clip"
    assert "examples/.DS_Store" not in files


# --- loading -------------------------------------------------------------------------------------------------------


def test_with_the_package_both_precisions_load_and_no_code_of_the_repository_runs(run, hub, push, tmp_path):
    push(run, "--repo_id", "org/published")
    files = hub.repos["org/published"]
    for name in [name for name in files if name.endswith(".py")]:
        files[name] = b"raise SystemExit('code of the repository has run')\n"
    torch.save(random_clips(), tmp_path / "clips.pt")
    code = f"""
import sys
from diffusers import AutoModel
from divid_diffusers import DiViDPipeline, DiViDUNet2DConditionModel
pipe = DiViDPipeline.from_pretrained("org/published", variant="fp16")
{RECONSTRUCT}
sys.argv[2] = "full.pt"
pipe = DiViDPipeline.from_pretrained("org/published")
{RECONSTRUCT}
assert type(AutoModel.from_pretrained("org/published", subfolder="unet")) is DiViDUNet2DConditionModel
"""
    done = python(code, tmp_path, "clips.pt", "half.pt")
    assert done.returncode == 0, done.stderr
    pipe = DiViDPipeline.from_pretrained(run)
    assert torch.equal(torch.load(tmp_path / "full.pt"), reconstruct(pipe, random_clips()))
    rounded = pipe.to(torch.float16).to(torch.float32)
    assert torch.equal(torch.load(tmp_path / "half.pt"), reconstruct(rounded, random_clips()))


def test_diffusers_alone_loads_it_with_trust_only_and_decodes_the_same_to_the_bit(run, hub, push, tmp_path):
    push(run, "--repo_id", "org/published")
    torch.save(random_clips(), tmp_path / "clips.pt")
    code = f"""{HIDE_THE_PACKAGE}
from diffusers import DiffusionPipeline
try:
    DiffusionPipeline.from_pretrained("org/published", custom_pipeline="pipeline")
except ValueError as error:
    print(error)
assert "divid_diffusers" not in sys.modules
pipe = DiffusionPipeline.from_pretrained("org/published", custom_pipeline="pipeline", trust_remote_code=True)
modules = {{name: module for name, module in sys.modules.items() if name.split(".")[0] == "divid_diffusers"}}
assert modules and all("pipeline.py/divid_diffusers" in module.__file__ for module in modules.values())
assert type(pipe.unet) is modules["divid_diffusers"].DiViDUNet2DConditionModel
{RECONSTRUCT}
sys.argv[2] = "again.pt"
pipe = DiffusionPipeline.from_pretrained("org/published", custom_pipeline="org/published", trust_remote_code=True)
{RECONSTRUCT}
pipe.save_pretrained("saved_by_diffusers_alone")
"""
    done = python(code, tmp_path, "clips.pt", "frames.pt")
    assert done.returncode == 0, done.stderr
    assert "contains custom code in pipeline.py" in done.stdout and "Pass `trust_remote_code=True`" in done.stdout
    assert "not found in your environment" not in done.stderr and "Expected types" not in done.stderr
    expected = reconstruct(DiViDPipeline.from_pretrained(run), random_clips())
    for name in ("frames.pt", "again.pt"):
        assert torch.equal(torch.load(tmp_path / name), expected)
    again = DiViDPipeline.from_pretrained(tmp_path / "saved_by_diffusers_alone")
    assert torch.equal(reconstruct(again, random_clips()), expected)


def test_a_baseline_is_published_and_loaded_in_the_same_ways(tmp_path, hub, push):
    pipe = SequentialVAEPipeline(tiny_baseline("dbse"))
    pipe.save_pretrained(tmp_path / "run")
    write_model_card(tmp_path / "run", ARGS, FACTS)
    assert push(tmp_path / "run", "--repo_id", "org/baseline").code == 0
    torch.save(random_clips(), tmp_path / "clips.pt")
    load = 'from_pretrained("org/baseline", custom_pipeline="pipeline", trust_remote_code=True)'
    code = (
        f"{HIDE_THE_PACKAGE}\nfrom diffusers import DiffusionPipeline\npipe = DiffusionPipeline.{load}\n{RECONSTRUCT}"
    )
    done = python(code, tmp_path, tmp_path / "clips.pt", tmp_path / "frames.pt")
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "frames.pt"), reconstruct(pipe, random_clips()))


def test_the_shipped_files_are_those_that_importing_the_package_reads():
    code = """
import os, sys, divid_diffusers
root = os.path.dirname(os.path.dirname(divid_diffusers.__file__))
names = [name for name in sys.modules if name.split(".")[0] == "divid_diffusers"]
print("\\n".join(sorted(os.path.relpath(sys.modules[name].__file__, root) for name in names)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == needed_files()


# --- what is refused before anything is uploaded -------------------------------------------------------------------


def spoil_weights(run):
    path = run / "unet/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def large_weights(run):
    pipe = DiViDPipeline.from_pretrained(run)
    torch.nn.init.constant_(next(pipe.unet.parameters()), 1e6)
    pipe.save_pretrained(run)


@pytest.mark.parametrize(
    ("spoil", "words", "sentence"),
    [
        (lambda run: (run / "model_index.json").unlink(), [], "is not a saved pipeline: it has no model_index.json"),
        (lambda run: (run / "model_index.json").write_text("{"), [], "does not load"),
        (
            lambda run: (run / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}'),
            [],
            "its class is DDPMPipeline, which divid_diffusers does not have",
        ),
        (spoil_weights, [], "does not load"),
        (large_weights, [], "has weights that half precision cannot hold"),
        (lambda run: (run / "README.md").unlink(), [], "has no README.md with `library_name: divid_diffusers`"),
        (lambda run: (run / "README.md").write_text("# A title\n"), [], "has no README.md with `library_name"),
        (lambda run: None, ["--repo_id", "a/b/c"], "Repo id must be in the form"),
        (lambda run: None, ["--repo_id", "org/what is this"], "Repo id must use alphanumeric"),
        (lambda run: None, ["--examples", "missing.gif"], "The picture missing.gif cannot be read"),
        (lambda run: None, ["--examples", "clip.mp4"], "clip.mp4 is no picture that a card can show"),
        (lambda run: None, ["--examples", "validation.png"], "Two pictures are called validation.png"),
    ],
)
def test_what_is_not_fit_is_refused_before_the_hub_hears_of_it(run, hub, push, spoil, words, sentence):
    spoil(run)
    done = push(run, "--repo_id", "org/published", *words)
    assert done.code == 1 and sentence in done.err
    assert not [request for request in hub.requests if "whoami" not in request]


# --- what the Hub refuses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "repo_id", "sentence"),
    [
        ("", "org/published", "there is no token. Run `hf auth login`"),
        ("hf_wrong", "org/published", "does not accept the token"),
        ("hf_stand_in", "others/published", "this token may not write there"),
    ],
)
def test_a_refusal_of_the_hub_is_a_sentence(run, hub, push, monkeypatch, token, repo_id, sentence):
    monkeypatch.setenv("HF_TOKEN", token)
    done = push(run, "--repo_id", repo_id)
    assert done.code == 1 and f"{repo_id} was not published: " in done.err and sentence in done.err
    assert hub.repos == {} and hub.commits == []


def test_a_hub_out_of_reach_is_a_sentence(run, hub, push, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    done = push(run, "--repo_id", "org/published")
    assert done.code == 1 and "the connection to the Hub failed" in done.err


def test_the_command_itself_ends_with_a_sentence_and_no_traceback(run):
    command = [sys.executable, str(SCRIPT), str(run), "--repo_id", "org/published"]
    environment = os.environ | {"HF_TOKEN": "hf_stand_in", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and "HF_HUB_OFFLINE is set" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["/preupload", "/commit"])
def test_an_interrupted_upload_leaves_the_repository_as_it_was(run, hub, push, where, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits before it tries again
    assert push(run, "--repo_id", "org/published").code == 0
    files = dict(hub.repos["org/published"])
    tiny_pipeline().save_pretrained(run)  # other weights
    hub.breaks_at = where
    done = push(run, "--repo_id", "org/published")
    assert done.code == 1 and "the connection to the Hub failed" in done.err
    assert hub.repos["org/published"] == files and len(hub.commits) == 1
    hub.breaks_at = None
    assert push(run, "--repo_id", "org/published").code == 0
    assert len(hub.commits) == 2 and hub.repos["org/published"] != files


def test_private_is_not_taken_for_granted_where_the_repository_is_public(run, hub, push):
    hub.repos["org/published"] = {}
    done = push(run, "--repo_id", "org/published", "--private")
    assert done.code == 1 and "org/published exists and is public" in done.err
    assert hub.commits == []
