"""What of a recorded step can be looked at without a GPU: its LSTM, its clips, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from in_process import run_of_its_own
from tiny import SHORT_RUN
from torch import nn
from train_divid import main, parse_args
from trainer import graph_loop
from trainer.graph_loop import ClipsOnDevice, lstm_of_operators

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import Puppets


def test_the_lstm_of_operators_is_torchs_own():
    lstm = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
    inputs = torch.randn(3, 7, 5)
    outputs = {"torch": lstm(inputs)[0], "ours": lstm_of_operators(lstm)(inputs)[0]}
    torch.testing.assert_close(outputs["ours"], outputs["torch"])
    weights = torch.randn(3, 7, 8)
    gradients = [torch.autograd.grad((out * weights).sum(), lstm.parameters()) for out in outputs.values()]
    torch.testing.assert_close(*gradients)


def numbered(*lengths):
    """Clips of one pixel, whose value tells clip and frame: 10 times the one and the other."""
    return [{"frames": torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1) + 10 * i} for i, n in enumerate(lengths)]


def test_a_batch_has_frames_of_one_clip_each_in_order_and_none_twice():
    torch.manual_seed(0)
    drawn = ((ClipsOnDevice(numbered(6, 9, 4), "cpu").draw(600, 4) + 1) * 127.5).round().long().flatten(1)
    clips, frames = drawn // 10, drawn % 10
    assert (clips == clips[:, :1]).all() and (frames.diff(dim=1) > 0).all()
    for clip, length in enumerate((6, 9, 4)):
        shown = frames[clips[:, 0] == clip]
        assert 150 < len(shown) < 250 and shown.unique().tolist() == list(range(length))


def test_a_clip_that_is_too_short_holds_its_last_frame():
    drawn = ((ClipsOnDevice(numbered(2), "cpu").draw(5, 4) + 1) * 127.5).round().flatten(1)
    assert drawn.tolist() == [[0, 1, 1, 1]] * 5


class PlayedBySteps:
    """Stands in for a graph, so that the loop around it runs on a CPU."""

    def __init__(self, step, optimizer):
        self.step, self.optimizer, self.loss = step, optimizer, torch.zeros(())

    def replay(self):
        self.optimizer.zero_grad()
        self.loss.copy_(self.step())


def test_a_run_learns_and_leaves_a_pipeline_with_its_card(tmp_path, monkeypatch):
    monkeypatch.setattr(graph_loop, "check", lambda *_: None)
    monkeypatch.setattr(graph_loop, "record", lambda *given: (graph := PlayedBySteps(*given), graph.loss))
    flags = SHORT_RUN | {"num_inference_steps": 1, "output_dir": tmp_path, "max_train_steps": 50, "num_puppets": 3}
    with run_of_its_own(
        "train_divid.py", "--cuda_graph", "--from_scratch", *(f"--{name}={value}" for name, value in flags.items())
    ):
        main(parse_args())
    pipe = DiViDPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    clips = torch.stack([Puppets(3, num_frames=3)[i]["frames"] for i in range(3)]) / 255
    error = (pipe.reconstruct(clips, output_type="pt").frames - clips).square().mean()
    assert error < 0.7 * clips.var()
    assert "50 steps of 2 clips of 3 frames" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "flags, device, processes, named",
    [
        ("--max_train_minutes=1", "cpu", 1, "needs an NVIDIA GPU"),
        ("", "cuda", 1, "give --max_train_minutes"),
        ("--max_train_minutes=1", "cuda", 2, "excludes more than one process"),
        ("--max_train_minutes=1 --pair_by=identity", "cuda", 1, "excludes --pair_by"),
        ("--max_train_minutes=1 --gradient_accumulation_steps=2", "cuda", 1, "--gradient_accumulation_steps"),
        ("--max_train_minutes=1 --mixed_precision=fp16", "cuda", 1, "excludes --mixed_precision fp16"),
        ("--max_train_minutes=1 --frame_sampling=uniform", "cuda", 1, "excludes --frame_sampling uniform"),
    ],
)
def test_what_cannot_be_recorded_is_refused(flags, device, processes, named):
    accelerator = SimpleNamespace(device=torch.device(device), num_processes=processes)
    with pytest.raises(SystemExit, match=named):
        graph_loop.check(accelerator, parse_args(["--cuda_graph", *flags.split()]))


def test_a_run_on_a_gpu_passes():
    accelerator = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
    graph_loop.check(accelerator, parse_args(["--cuda_graph", "--max_train_minutes=1", "--mixed_precision=bf16"]))


def test_it_is_refused_before_anything_is_read(tmp_path):
    words = ["--cuda_graph", "--dataset=gone", "--frame_sampling=uniform", f"--output_dir={tmp_path / 'run'}"]
    with run_of_its_own("train_divid.py", *words), pytest.raises(SystemExit, match="excludes --frame_sampling"):
        main(parse_args())
