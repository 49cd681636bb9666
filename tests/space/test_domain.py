"""A page knows of its checkpoint what the checkpoint's own repository says, and which clips are none of its kind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import domain
import numpy as np
import pytest
from domain import Domain, own_snr, read_domain
from tiny import latent_pipeline

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import Puppets


ROOT = Path(__file__).parents[2]
CHECKPOINTS = sorted((ROOT / "examples").glob("divid-*"))
PUPPETS = ROOT / "examples" / "divid-puppets-tiny"


@pytest.fixture(scope="module")
def pipe():
    pipe = DiViDPipeline.from_pretrained(PUPPETS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: path.name)
def test_every_checkpoint_here_says_what_it_knows(checkpoint):
    found = read_domain(str(checkpoint))
    assert found.name != checkpoint.name and found.domain and found.least_snr > found.least_snr_still
    assert "held-out clips" in found.measured and "domain.py" in found.measured
    with_examples = {"divid-puppets-tiny", "divid-puppets-reference"}
    assert bool(found.examples) == (checkpoint.name in with_examples)  # the other clips may not be passed on
    assert sum(path.stat().st_size for path in found.examples) < 200_000


def test_a_checkpoint_that_says_nothing_has_its_name_and_no_examples(tmp_path):
    folder = tmp_path / "my-run"
    folder.mkdir()
    found = read_domain(str(folder))
    assert found == Domain("my-run") and found.examples == [] and found.least(5) == found.least(1) == -np.inf


def test_a_name_of_the_hub_that_cannot_be_asked_says_nothing(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(domain, "snapshot_download", refuse)
    assert read_domain("org/divid-mead") == Domain("divid-mead")


@pytest.mark.parametrize(
    "content",
    ["{", '{"name": ""}', '{"name": 5}', '{"least_snr": "high"}', '{"least_snr": NaN}', '{"colour": 1}', "[]"],
)
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "space.json").write_text(content)
    with pytest.raises(ValueError, match="space.json of .* cannot be used"):
        read_domain(str(tmp_path))


def test_what_is_foreign_is_told_from_what_is_not(pipe):
    known = read_domain(str(PUPPETS))
    for i in range(2):
        clip = Puppets(2, seed=7, split="test")[i]["frames"].permute(0, 2, 3, 1).numpy()
        assert own_snr(pipe, clip) >= known.least(len(clip))
        assert own_snr(pipe, clip[:1]) >= known.least(1)
        assert own_snr(pipe, clip) == own_snr(pipe, clip)
        assert own_snr(pipe, 255 - clip[:, ::-1]) < known.least(len(clip))  # the same clip, as a negative, upside down
    rows = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None, None] * 4, (5, 64, 64, 3))
    assert own_snr(pipe, rows) < known.least(5)
    assert own_snr(pipe, np.zeros((5, 64, 64, 3), np.uint8)) < known.least(5)  # nothing at all is no puppet


def test_the_command_measures_and_writes_both(tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(PUPPETS, run, ignore=shutil.ignore_patterns("space.json", "examples"))
    arguments = [str(run), "--dataset", "puppets", "--name", "Mine", "--domain", "my kind", "--num_clips", "5"]
    domain.main([*arguments, "--num_examples", "2"])
    found = read_domain(str(run))
    assert (found.name, found.domain) == ("Mine", "my kind") and "worst of 5 held-out clips" in found.measured
    assert found.least_snr == json.loads(capsys.readouterr().out)["least_snr"]
    assert [path.suffix for path in found.examples] == [".webp"] * 2
    with pytest.raises(SystemExit):  # clips that somebody put there are not mixed with others
        domain.main([*arguments, "--num_examples", "1"])
    assert "is not empty" in capsys.readouterr().err
    assert not list(run.glob(".*"))


def test_a_page_for_a_checkpoint_on_latents_shows_frames_of_its_autoencoders_size(tmp_path):
    pytest.importorskip("gradio", reason="The Space needs gradio: pip install -r examples/space/requirements.txt")
    latent_pipeline().save_pretrained(tmp_path / "latents")
    code = "import decoding, domain, numpy as np; print(decoding.SIZE, domain.own_snr(decoding.PIPE, np.zeros((2, 32, 32, 3), np.uint8)))"
    environment = os.environ | {"DIVID_MODEL": str(tmp_path / "latents"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "examples" / "space", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    size, snr = done.stdout.split()
    assert size == "32" and np.isfinite(float(snr))


def test_a_page_for_a_checkpoint_without_examples_opens_empty(tmp_path):
    pytest.importorskip("gradio", reason="The Space needs gradio: pip install -r examples/space/requirements.txt")
    run = tmp_path / "my-run"
    shutil.copytree(PUPPETS, run, ignore=shutil.ignore_patterns("space.json", "examples"))
    code = "import app, json; demo = app.build(); print(json.dumps([b['props'] for b in demo.config['components']], default=str))"
    environment = os.environ | {"DIVID_MODEL": str(run), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "examples" / "space", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    components = json.loads(done.stdout.splitlines()[-1])
    helps = [each["info"] for each in components if each.get("info")]
    assert helps and all(text[0].isupper() and text.endswith(".") for text in helps), "sentences, no fragments"
    props = {each["elem_id"]: each for each in components if each.get("elem_id")}
    assert "my-run" in props["introduction"]["value"] and "does not say" in props["introduction"]["value"]
    assert props["swap_identity"].get("value") is None and props["swap_result"].get("value") is None
    assert props["swap_identity_examples"]["visible"] is False
