"""What a model card says of the run, whatever was trained."""

from pathlib import Path

import torch


DRAWN = "Puppets (drawn by `divid_diffusers.data.puppets`)"


def run_facts(args, progress, processes: int, figures: dict[str, float]) -> dict[str, str]:
    """
    `name`, `source` (of the clips), `steps`, `batch`, `frames`, `minutes` (by the clock), `cpu_minutes` (of the main process),
    `processes`, `device`, the `command` without its token (cards are published), and a table of the validation `figures` (empty
    without any), to be filled into a card's text.
    """
    rows = "".join(f"| {name} | {value:.3f} |\n" for name, value in figures.items())
    return {
        "name": args.hub_model_id or Path(args.output_dir).name,
        "source": DRAWN if args.dataset == "puppets" else f"`{Path(args.dataset).name}`",
        "steps": str(progress.step),
        "batch": str(args.train_batch_size * args.gradient_accumulation_steps * processes),
        "frames": str(args.num_frames),
        "minutes": f"{progress.seconds / 60:.0f}",
        "cpu_minutes": f"{progress.cpu_seconds / 60:.0f}",
        "processes": str(processes),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "command": args.command,
        "figures": f"| figure | value |\n|---|---|\n{rows}" if figures else "",
    }
