"""Going on from a checkpoint."""

from pathlib import Path

from accelerate import Accelerator
from accelerate.logging import get_logger

from . import checkpoints
from .progress import Progress


logger = get_logger(__name__)


def resume(accelerator: Accelerator, resume_from: str, output_dir: Path, progress: Progress) -> None:
    checkpoint = checkpoints.find_checkpoint(resume_from, output_dir)
    if checkpoint is None:
        logger.info(f"No checkpoint in {output_dir} yet: training starts at step 0.")
    else:
        accelerator.load_state(str(checkpoint))
        logger.info(f"Resumed {checkpoint.name}, {progress.seconds / 60:.1f} minutes into training.")
