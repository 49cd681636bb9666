"""Training checkpoints that are whole or absent, and of numbers that are finite."""

import json
import re
import shutil
import zlib
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils.constants import SAFE_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file


NAME = re.compile(r"checkpoint-(\d+)")
REPLACED = ".replaced-"  # in front of the name while a checkpoint of the same step takes its place
MANIFEST = "flags.json"  # the run's flags, and what the other files must be


class NoRoom(SystemExit):
    """A checkpoint could not be written."""


def complete_checkpoints(output_dir: Path) -> list[Path]:
    """Checkpoint folders, oldest first. One that was cut off still has its temporary name and is not among them."""
    found = {}
    for prefix in (REPLACED, ""):  # one that was being replaced counts until the new one has its name
        for path in output_dir.glob(f"{prefix}checkpoint-*"):
            if match := NAME.fullmatch(path.name.removeprefix(prefix)):
                found[int(match[1])] = path
    return [path for _, path in sorted(found.items())]


def step_of(checkpoint: Path) -> int:
    return int(NAME.fullmatch(checkpoint.name.removeprefix(REPLACED))[1])


def keep_recurrent_weights(accelerator: Accelerator) -> None:
    """
    On a GPU the weights of a recurrent layer lie in one piece of memory. accelerate takes them for one tensor under
    many names and saves a single one of them, and safetensors then refuses to load it. So checkpoints are written from
    copies, and read by name.
    """

    def save(models: list, states: list[dict], folder: str) -> None:
        for state in states:
            state.update({name: tensor.clone() for name, tensor in state.items()})

    def load(models: list, folder: str) -> None:
        (model,) = models
        model.load_state_dict(load_file(Path(folder) / SAFE_WEIGHTS_NAME))
        models.clear()  # for accelerate nothing is left to load

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def save_checkpoint(
    accelerator: Accelerator, output_dir: Path, step: int, total_limit: int | None, about: dict | None = None
) -> None:
    """
    Write the training state, and what there is to say `about` its run, beside its final name, then rename; only then
    drop the oldest.
    """
    final = output_dir / f"checkpoint-{step}"
    partial = output_dir / f".partial-checkpoint-{step}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (partial / MANIFEST).write_text(json.dumps((about or {}) | {"files": checksums(partial)}, indent=2) + "\n")
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors have their own words for a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise NoRoom(
            f"Checkpoint {step} could not be written to {output_dir}: {error}. The earlier checkpoints are untouched: "
            "make "
            "room and go on with --resume_from_checkpoint latest."
        ) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        replaced = output_dir / f"{REPLACED}{final.name}"
        if final.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            final.rename(replaced)
        partial.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
        if total_limit is not None:
            others = [path for path in complete_checkpoints(output_dir) if path != final]
            for old in others[: max(0, len(others) + 1 - total_limit)]:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def checksums(folder: Path) -> dict[str, list[int]]:
    """Size and CRC-32 of each file but the manifest."""
    sums = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST):
        crc = 0
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                crc = zlib.crc32(block, crc)
        sums[path.relative_to(folder).as_posix()] = [path.stat().st_size, crc]
    return sums


def damage(checkpoint: Path) -> str | None:
    """
    What is wrong with the files of a checkpoint; None where nothing is, or an older version left nothing to compare
    with.
    """
    file = checkpoint / MANIFEST
    try:
        written = json.loads(file.read_text())["files"] if file.is_file() else {}
        found = checksums(checkpoint) if written else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{MANIFEST} cannot be read: {error}"
    wrong = [name for name, value in written.items() if found.get(name) != value]
    return f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not as written" if wrong else None


def damaged(checkpoint: Path, output_dir: Path, reason: str) -> str:
    """The sentence about a checkpoint that does not load."""
    folder = output_dir if checkpoint.parent.resolve() == output_dir.resolve() else checkpoint.parent
    others = [each for each in reversed(complete_checkpoints(folder)) if each.name != checkpoint.name]
    whole = next((each for each in others if damage(each) is None), None)
    way_out = (
        f"go on with --resume_from_checkpoint {whole}" if whole else "there is no other to go on from: start anew"
    )
    return f"{checkpoint} is damaged ({reason}): {way_out}."


def refuse_damaged(checkpoint: Path, output_dir: Path) -> None:
    if reason := damage(checkpoint):
        raise SystemExit(damaged(checkpoint, output_dir, reason))


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


def set_aside_later(output_dir: Path, checkpoint: Path | None) -> list[Path]:
    """
    Checkpoints after the one that is resumed are of a future that will not be: renamed, so that `latest` never finds
    them.
    """
    later = [path for path in complete_checkpoints(output_dir) if checkpoint and step_of(path) > step_of(checkpoint)]
    for number, path in enumerate(later):
        name = f"abandoned-{path.name.removeprefix(REPLACED)}"
        while (output_dir / name).exists():
            name += "-again"
        later[number] = path.rename(output_dir / name)
    return later


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())
