"""A run ends with a state to go on from, however it ends, and never keeps numbers that are not finite."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stand_in import figures_without_a_model, run
from trainer import checkpoints, loop, saving
from trainer.batch_norm import NUM_BATCHES
from trainer.flags import flags_of


def steps(folder):
    return [checkpoints.step_of(path) for path in checkpoints.complete_checkpoints(folder)]


def weights(folder):
    return torch.load(folder / "weights.pt")["weight"]


# --- how a run ends ------------------------------------------------------------------------------------------------


def test_the_last_step_leaves_a_checkpoint_and_so_does_the_end_of_the_time(tmp_path):
    run(tmp_path / "steps", max_train_steps=3)
    assert steps(tmp_path / "steps") == [3]
    run(tmp_path / "minutes", max_train_steps=1000, max_train_minutes=1e-9)
    assert steps(tmp_path / "minutes") == [1] and (tmp_path / "minutes/model_index.json").is_file()


class Clock:
    """In place of the machine's: every step takes six seconds."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(loop, "time", self)

    def monotonic(self):
        return self.now

    process_time = monotonic

    def tick(self, loss, position):
        self.now += 6 if torch.is_grad_enabled() else 0
        return loss


MINUTE = {"max_train_steps": None, "max_train_minutes": 1, "lr_scheduler": "linear", "learning_rate": 1.0}


def test_a_run_of_a_minute_is_a_whole_run_of_a_minute(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    recipe = run(tmp_path, loss=clock.tick, checkpointing_steps=4, checkpoints_total_limit=9, **MINUTE)
    assert recipe.steps[-1] == 9 and steps(tmp_path) == [4, 8, 10]
    assert [optimizer(tmp_path, step)["lr"] for step in (4, 8, 10)] == pytest.approx([0.6, 0.2, 0])


def test_a_run_of_a_minute_that_is_cut_goes_on_where_its_time_was(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def interrupt(loss, position):
        if position.step == 3 and torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return clock.tick(loss, position)

    with pytest.raises(SystemExit):
        run(tmp_path / "cut", loss=interrupt, **MINUTE)
    clock.now = 7.0  # the machine was started anew
    again = {"learning_rate": None, "max_train_minutes": None, "lr_scheduler": None, "max_train_steps": None}
    recipe = run(tmp_path / "cut", loss=clock.tick, resume_from_checkpoint="latest", **again)
    assert set(recipe.steps) == set(range(4, 10)) and steps(tmp_path / "cut") == [4, 10]
    run(tmp_path / "whole", loss=clock.tick, **MINUTE)
    assert torch.equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    longer = run(
        tmp_path / "cut", loss=clock.tick, resume_from_checkpoint="latest", max_train_minutes=2, max_train_steps=None
    )
    assert longer.steps[0] == 10 and steps(tmp_path / "cut")[-1] == 20


def test_pictures_are_drawn_by_the_clock_where_no_steps_are_given(tmp_path, monkeypatch):
    figures_without_a_model(monkeypatch)
    clock = Clock(monkeypatch)
    run(tmp_path, loss=clock.tick, max_train_steps=45, validation_steps=None)
    lines = (tmp_path / "validation/figures.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 40, 45]


def test_the_first_loss_is_told_at_once_and_the_time_that_is_left_with_it(tmp_path, monkeypatch, capsys):
    clock = Clock(monkeypatch)
    run(tmp_path, loss=clock.tick, logging_steps=50, **MINUTE)
    printed = capsys.readouterr().err
    assert "1/10 [" in printed and "loss=" in printed.split("2/10")[0]


def test_a_run_without_a_length_is_given_one_and_keeps_it_when_it_goes_on(tmp_path, monkeypatch, caplog):
    clock = Clock(monkeypatch)
    monkeypatch.setattr("trainer.length.LONGEST", 1)
    caplog.set_level("INFO")

    def interrupt(loss, position):
        if position.step == 7 and torch.is_grad_enabled():
            os.kill(os.getpid(), signal.SIGTERM)
        return clock.tick(loss, position)

    with pytest.raises(SystemExit):
        run(tmp_path, loss=interrupt, max_train_steps=None)
    assert "10 steps of 6 s, about 1 min, which --max_train_minutes" in caplog.text
    recipe = run(tmp_path, loss=clock.tick, max_train_steps=None, resume_from_checkpoint="latest")
    assert recipe.args.max_train_steps == 10 and steps(tmp_path)[-1] == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_the_run_goes_on_from_there(tmp_path, capsys, number):
    def interrupt(loss, position):
        if position.step == 2 and torch.is_grad_enabled():
            os.kill(os.getpid(), number)
        return loss

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as at a terminal, wherever these tests run
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "cut", loss=interrupt, max_train_steps=5)
    assert stop.value.code == 128 + number and steps(tmp_path / "cut") == [3]
    assert (
        "Stopped at step 3. Go on with the same command and --resume_from_checkpoint latest" in capsys.readouterr().err
    )
    assert not (tmp_path / "cut/model_index.json").exists()
    run(tmp_path / "cut", max_train_steps=5, resume_from_checkpoint="latest")
    run(tmp_path / "whole", max_train_steps=5)
    assert torch.equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_signal_that_the_process_was_started_to_ignore_is_ignored(tmp_path):
    def interrupt(loss, position):
        os.kill(os.getpid(), signal.SIGINT)
        return loss

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(tmp_path, loss=interrupt, max_train_steps=2)
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN and (tmp_path / "model_index.json").is_file()


def test_no_room_for_the_last_checkpoint_still_leaves_the_pipeline(tmp_path, monkeypatch):
    def no_room(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("accelerate.Accelerator.save_state", no_room)
    with pytest.raises(SystemExit, match="Checkpoint 2 could not be written .*No space left"):
        run(tmp_path, max_train_steps=2)
    assert (tmp_path / "model_index.json").is_file() and steps(tmp_path) == []


def test_no_room_for_a_picture_loses_nothing_that_was_learned(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("trainer.reporting.validate", lambda *args: open("/dev/full", "w").write("x" * 10**6))
    run(tmp_path, max_train_steps=2, validation_steps=1)
    assert steps(tmp_path) == [2] and (tmp_path / "model_index.json").is_file()
    assert "There is no picture of step 2: [Errno 28] No space left on device" in caplog.text


def test_no_room_for_the_pipeline_names_the_checkpoint_that_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr("stand_in.Pipeline.save_pretrained", lambda *args: open("/dev/full", "w").write("x" * 10**6))
    with pytest.raises(
        SystemExit, match="could not be saved .*No space left.*--resume_from_checkpoint .*checkpoint-2"
    ):
        run(tmp_path, max_train_steps=2)
    assert steps(tmp_path) == [2]


def test_a_finished_run_that_is_resumed_trains_nothing_and_keeps_the_figures_of_its_card(tmp_path, monkeypatch):
    figures_without_a_model(monkeypatch, psnr=17.25)
    run(tmp_path, max_train_steps=2, validation_steps=2)
    card = (tmp_path / "README.md").read_text()
    assert "| psnr | 17.250 |" in card and "On 2 held-out clips" in card
    figures_without_a_model(monkeypatch, psnr=99.0)
    recipe = run(tmp_path, max_train_steps=2, validation_steps=0, resume_from_checkpoint="latest")
    assert recipe.steps == [] and "| psnr | 17.250 |" in (tmp_path / "README.md").read_text()


def test_figures_of_an_earlier_step_are_not_those_of_the_card(tmp_path, monkeypatch):
    figures_without_a_model(monkeypatch)
    run(tmp_path, max_train_steps=2, validation_steps=2)
    run(tmp_path, max_train_steps=3, validation_steps=0, resume_from_checkpoint="latest")
    assert "psnr" not in (tmp_path / "README.md").read_text()


def test_a_card_counts_the_clips_that_there_were(tmp_path, monkeypatch):
    figures_without_a_model(monkeypatch)
    run(tmp_path, validation_steps=1, num_validation_clips=1)
    assert "On 1 held-out clip:" in (tmp_path / "README.md").read_text()


# --- what is not finite --------------------------------------------------------------------------------------------


def test_weights_that_are_ruined_but_finite_are_not_saved(tmp_path):
    """The loss is finite until the step after: the checkpoint between them would be one to resume from."""
    with pytest.raises(SystemExit, match="loss of the weights after step 1 is not finite.*there is no checkpoint yet"):
        run(tmp_path, learning_rate=1e30, max_train_steps=3, checkpointing_steps=1)
    assert steps(tmp_path) == [] and not (tmp_path / "model_index.json").exists()


def test_a_loss_that_is_not_finite_names_the_last_whole_checkpoint(tmp_path):
    def explode(loss, position):
        return loss * float("nan") if position.step == 2 else loss

    with pytest.raises(
        SystemExit, match="The loss is nan at step 3: lower --learning_rate and resume from .*checkpoint-2"
    ):
        run(tmp_path, loss=explode, max_train_steps=4, checkpointing_steps=2)
    assert steps(tmp_path) == [2]


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(tmp_path):
    def explode(loss, position):
        return loss + (loss - loss.detach()).clamp(min=0).sqrt()  # a slope of infinity at 0

    with pytest.raises(SystemExit, match="The gradient is (nan|inf) at step 1"):
        run(tmp_path, loss=explode, max_train_steps=2)
    assert steps(tmp_path) == []


# --- what a resumed run goes on with -------------------------------------------------------------------------------


def optimizer(folder, step):
    state = torch.load(folder / f"checkpoint-{step}/optimizer.bin", weights_only=False)
    return state["param_groups"][0]


def test_flags_that_may_change_are_applied_and_not_taken_from_the_checkpoint(tmp_path):
    run(tmp_path, max_train_steps=2)
    changed = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_weight_decay": 0.5, "ema_max_decay": 0.5}
    run(tmp_path, max_train_steps=3, learning_rate=1e-5, resume_from_checkpoint="latest", **changed)
    group = optimizer(tmp_path, 3)
    assert group["lr"] == pytest.approx(1e-5) and group["betas"] == (0.8, 0.95) and group["weight_decay"] == 0.5
    ema = torch.load(tmp_path / "checkpoint-3/custom_checkpoint_1.pkl", weights_only=False)
    assert ema["decay"] == 0.5


def test_a_lower_rate_applies_where_the_schedule_is(tmp_path):
    run(tmp_path, max_train_steps=2, lr_scheduler="linear")
    run(
        tmp_path,
        max_train_steps=4,
        learning_rate=1e-4,
        lr_scheduler="linear",
        resume_from_checkpoint="latest",
        checkpointing_steps=3,
    )
    assert optimizer(tmp_path, 3)["lr"] == pytest.approx(1e-4 / 4)


def test_what_is_not_given_is_as_it_was(tmp_path):
    run(tmp_path, max_train_steps=2, seed=5, learning_rate=3e-4)
    left_out = {"seed": None, "learning_rate": None, "num_puppets": None, "num_frames": None, "lr_warmup_steps": None}
    recipe = run(tmp_path, max_train_steps=3, resume_from_checkpoint="latest", **left_out)
    assert (recipe.args.seed, recipe.args.learning_rate, recipe.args.num_puppets) == (5, 3e-4, 7)
    assert "hub_token" not in flags_of(recipe.args)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("seed", 1), ("num_frames", 3), ("num_puppets", 8), ("method", "spyl"), ("gradient_accumulation_steps", 2)],
)
def test_flags_that_decide_what_is_trained_are_refused_by_name(tmp_path, capsys, flag, value):
    run(tmp_path)
    with pytest.raises(SystemExit):
        run(tmp_path, max_train_steps=2, resume_from_checkpoint="latest", **{flag: value})
    assert f"--{flag} was " in capsys.readouterr().err


def test_another_batch_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(SystemExit, match="--train_batch_size, of all processes together, was 2 and is 3"):
        run(tmp_path, max_train_steps=2, train_batch_size=3, resume_from_checkpoint="latest")


def test_other_clips_are_refused_and_the_same_ones_elsewhere_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "fingerprint", lambda clips: "these")
    run(tmp_path)
    run(tmp_path, max_train_steps=2, resume_from_checkpoint="latest")
    monkeypatch.setattr(loop, "fingerprint", lambda clips: "those")
    with pytest.raises(SystemExit, match="--dataset was puppets and is puppets, and they do not hold the same"):
        run(tmp_path, max_train_steps=3, resume_from_checkpoint="latest")


def test_a_checkpoint_of_another_trainer_is_refused(tmp_path, monkeypatch, capsys):
    run(tmp_path)
    monkeypatch.setattr("sys.argv", ["train_divid.py"])
    with pytest.raises(SystemExit):
        run(tmp_path, max_train_steps=2, resume_from_checkpoint="latest")
    assert "was written by " in capsys.readouterr().err


def test_an_earlier_checkpoint_sets_later_ones_aside_and_the_one_just_written_stays(tmp_path):
    run(tmp_path, max_train_steps=6, checkpointing_steps=2, checkpoints_total_limit=3)
    run(tmp_path, max_train_steps=3, resume_from_checkpoint="checkpoint-2", checkpoints_total_limit=1)
    assert steps(tmp_path) == [3]
    assert sorted(path.name for path in tmp_path.glob("abandoned-*")) == [
        "abandoned-checkpoint-4",
        "abandoned-checkpoint-6",
    ]


def test_layers_that_draw_for_themselves_draw_the_same_when_resumed(tmp_path):
    drawn = {}

    def draw(loss, position):
        if torch.is_grad_enabled():
            drawn.setdefault(position.step, []).append(torch.rand(()).item())
        return loss

    run(tmp_path / "whole", loss=draw, max_train_steps=4, checkpointing_steps=2, dataloader_num_workers=0)
    torch.manual_seed(123)
    run(tmp_path / "cut", loss=draw, max_train_steps=2)
    run(tmp_path / "cut", loss=draw, max_train_steps=4, resume_from_checkpoint="latest")
    assert all(one == other for one, other in drawn.values()) and len({one for one, _ in drawn.values()}) == 4


def test_what_a_killed_run_wrote_after_its_checkpoint_is_forgotten(tmp_path, monkeypatch):
    figures_without_a_model(monkeypatch)
    run(tmp_path, max_train_steps=2, validation_steps=1)
    file = tmp_path / "validation/figures.jsonl"
    file.write_text(file.read_text() + '{"step": 3, "psnr": 1.0}\n{"step": 4, "ps')
    run(tmp_path, max_train_steps=3, validation_steps=0, resume_from_checkpoint="latest")
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [1, 2]


# --- one run, one folder -------------------------------------------------------------------------------------------


def test_a_fresh_start_beside_another_run_is_refused(tmp_path):
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != ".run.lock"}
    with pytest.raises(
        SystemExit, match="holds an earlier run .checkpoint-1, model_index.json.: give another folder, or go on"
    ):
        run(tmp_path)
    assert all(path.read_bytes() == content for path, content in before.items())
    run(tmp_path / "other")
    with pytest.raises(SystemExit, match="holds a run .* is of another"):
        run(tmp_path, resume_from_checkpoint=tmp_path / "other" / "checkpoint-1")


HOLD = """
import sys, time
from pathlib import Path
from trainer.start import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


def test_a_second_run_in_a_folder_is_refused_and_a_killed_one_blocks_nothing(tmp_path):
    training = Path(saving.__file__).parents[1]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=training, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SystemExit, match=f"Another run .process {holder.pid} of .* is writing to"):
            run(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    run(tmp_path)


def test_an_output_folder_that_cannot_be_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="--output_dir .*file cannot be written to"):
        run(tmp_path / "file")


# --- averaged weights ----------------------------------------------------------------------------------------------


def test_batch_norm_is_measured_with_the_weights_that_are_saved(tmp_path):
    run(tmp_path / "averaged", norm=True, max_train_steps=3, learning_rate=0.3, ema_max_decay=0.9)
    saved = torch.load(tmp_path / "averaged/weights.pt")
    ratio = saved["norm.running_mean"].item() / saved["weight"][0].item()  # the mean of the clips themselves
    run(tmp_path / "other", norm=True, max_train_steps=1, learning_rate=0.0)
    other = torch.load(tmp_path / "other/weights.pt")
    assert ratio == pytest.approx(other["norm.running_mean"].item() / other["weight"][0].item(), rel=1e-4)
    checkpoint = torch.load(tmp_path / "averaged/weights.pt")
    assert checkpoint["norm.num_batches_tracked"] == NUM_BATCHES


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    "path", sorted(EXAMPLES.rglob("*.safetensors")), ids=lambda path: str(path.relative_to(EXAMPLES))
)
def test_what_is_shipped_has_no_statistics_or_those_of_its_averaged_weights(path):
    counts = {int(each) for name, each in load_file(path).items() if name.endswith("num_batches_tracked")}
    assert counts <= {NUM_BATCHES}
