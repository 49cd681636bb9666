"""A prior is put into its checkpoint whole, knows whose tokens it draws, and stops where it cannot be trained."""

import json
import shutil

import pytest
import torch
import train_prior
from safetensors import SafetensorError
from tiny import seeded, tiny_pipeline

from divid_diffusers import DiViDPipeline, DiViDTokenPrior, DiViDTokens


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "model"
    tiny_pipeline().save_pretrained(folder)
    return folder


class Clips:
    """Grey clips: bright ones brighten, dark ones darken."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        steps = torch.arange(5) * (20 if index % 2 else -20)
        return {"frames": (128 + steps)[:, None, None, None].expand(5, 3, 16, 16).to(torch.uint8)}


def train(folder, monkeypatch, *options, shape=(3, 16)):
    monkeypatch.setattr(train_prior, "open_clips", lambda args: (Clips(), Clips(), shape))
    train_prior.main(
        ["--model", str(folder), "--dataset", "any", "--num_frames", "3", "--max_train_steps", "3", *options]
    )


def test_a_checkpoint_gets_a_prior_that_draws(checkpoint, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    before = (folder / "encoder" / "diffusion_pytorch_model.safetensors").read_bytes()
    for _ in range(2):  # the second replaces the first
        train(folder, monkeypatch)
    assert (folder / "encoder" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    report = json.loads((folder / "prior" / "training.json").read_text())
    assert report["step"] == 3 and report["num_clips"] == 12
    assert f"validation clips ({report['validation_loss']:.3f})" in capsys.readouterr().out
    assert str(tmp_path) not in json.dumps(report)
    pipe = DiViDPipeline.from_pretrained(folder)
    assert pipe.generate(2, 2, generator=seeded(), prior_steps=2, output_type="pt").frames.shape == (2, 2, 3, 16, 16)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["prior", *(path.name for path in checkpoint.iterdir())]
    )


def test_what_cannot_be_trained_is_refused_and_nothing_is_changed(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="no folder with a pipeline"):
        train(tmp_path, monkeypatch)
    with pytest.raises(SystemExit, match="takes frames of"):
        train(checkpoint, monkeypatch, shape=(1, 16))
    monkeypatch.setattr(train_prior, "LEARNING_RATE", float("inf"))
    with pytest.raises(SystemExit, match="not finite|never finite"):
        train(checkpoint, monkeypatch)
    assert not (checkpoint / "prior").exists()


def test_a_full_disk_is_a_sentence_and_leaves_the_checkpoint_as_it_was(checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    index = (folder / "model_index.json").read_bytes()

    def full(*arguments, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(DiViDTokenPrior, "save_pretrained", full)
    with pytest.raises(SystemExit, match="prior was not added to .*No space left on device.*Make room"):
        train(folder, monkeypatch)
    assert (folder / "model_index.json").read_bytes() == index
    assert not list(folder.glob(".saving-*")) and not list(folder.glob("prior"))


def test_ctrl_c_is_a_sentence_and_leaves_the_checkpoint_as_it_was(checkpoint, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(train_prior, "fit", interrupted)
    with pytest.raises(SystemExit, match="Interrupted: .* the checkpoint is as it was"):
        train(checkpoint, monkeypatch)
    assert not (checkpoint / "prior").exists()


def test_draws_are_of_every_kind():
    given = train_prior.draw(400, 4, DiViDTokenPrior(3, 2, 4, width=16, num_layers=1), seeded())["given"]
    kinds = {tuple(row) for row in given.int().tolist()}
    expected = {(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 1, 1, 1), (0, 1, 1, 0, 0), (1, 1, 1, 1, 0)}
    assert expected <= kinds and (1, 1, 1, 1, 1) not in kinds


def test_copies_are_told_from_new_clips():
    prior = DiViDTokenPrior(3, 2, 4, width=16, num_layers=1).eval()
    train, validation = (
        DiViDTokens(static=torch.randn(50, 3, generator=seeded(s)), dynamic=torch.randn(50, 4, 2, generator=seeded(s)))
        for s in (0, 1)
    )
    prior.sample = lambda count, generator: train
    told = train_prior.copies(prior, train, validation, 0)
    assert told["drawn_to_training"] < 1e-3 and told["drawn_nearer_than_twentieth_of_validation"] == 1
    prior.sample = lambda count, generator: validation
    told = train_prior.copies(prior, train, validation, 0)
    assert told["drawn_to_training"] == pytest.approx(told["validation_to_training"])
    assert told["drawn_nearer_than_twentieth_of_validation"] <= 0.1
