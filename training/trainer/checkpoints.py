"""Training checkpoints that are whole or absent."""

import re
import shutil
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError


NAME = re.compile(r"checkpoint-(\d+)")


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoint folders, oldest first. One that was cut off still has its temporary name and is not among them."""
    found = [(int(match[1]), path) for path in output_dir.glob("checkpoint-*") if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(accelerator: Accelerator, output_dir: Path, step: int, total_limit: int | None) -> None:
    """Write the training state beside its final name, then rename; only then drop the oldest."""
    final = output_dir / f"checkpoint-{step}"
    partial = output_dir / f".partial-checkpoint-{step}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors have their own words for a full disk
        raise SystemExit(
            f"Checkpoint {step} could not be written to {output_dir}: {error}. The earlier checkpoints are untouched: make "
            "room and go on with --resume_from_checkpoint latest."
        ) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        if total_limit is not None:
            for old in complete_checkpoints(output_dir)[:-total_limit]:
                shutil.rmtree(old)


def find_checkpoint(resume_from: str, output_dir: Path) -> Path | None:
    """The folder to resume from, or None where `latest` finds none."""
    if resume_from == "latest":
        found = complete_checkpoints(output_dir)
        return found[-1] if found else None
    for path in (Path(resume_from), output_dir / resume_from):
        if NAME.fullmatch(path.name) and path.is_dir():
            return path
    raise SystemExit(
        f"There is no checkpoint at {resume_from}: pass the path of a folder named checkpoint-STEP, or latest."
    )
