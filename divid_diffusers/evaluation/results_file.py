"""The file of figures that `evaluate.py` keeps, and what makes two figures comparable."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from ..clips.writing import written_whole


OPTIONAL = ("recordings", "identity_model", "motion_model", "label_free_features")  # asked for, or not, in any run
FOLLOWING = ("clips", "training_clips")  # other ones with another seed or number: worth a word only where those agree
YOUNGER = ("reference_frame",)  # than figures that are kept: options that, left off, change nothing of them


def fingerprint(*things) -> str:
    """
    16 hexadecimal digits of all that is passed: of pipelines every component, of networks and schedulers the
    configuration and the weights, as they were loaded, so that it is one whether they came from a folder or from
    whatever revision of the Hub; of tensors, arrays and plain values what they hold. Names of folders and versions of
    libraries are no part of it.
    """
    digest = hashlib.sha256()

    def add(thing) -> None:
        if isinstance(thing, torch.Tensor):
            thing = thing.detach().cpu().contiguous()
            digest.update(f"{thing.dtype} {tuple(thing.shape)}".encode())
            digest.update(thing.reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(thing, np.ndarray):
            digest.update(f"{thing.dtype} {thing.shape}".encode() + np.ascontiguousarray(thing).tobytes())
        elif isinstance(thing, Mapping):
            for name in sorted(thing, key=str):
                add([str(name), thing[name]])
        elif isinstance(thing, str | int | float | bool | Path | None):
            digest.update(f"{type(thing).__name__} {thing};".encode())
        elif isinstance(thing, DiffusionPipeline):
            own = {name: value for name, value in thing.config.items() if name not in thing.components}
            # Sliders and a prior change nothing of encoding and decoding, and a part that is not there neither.
            beside = ("directions", "prior")
            parts = {name: part for name, part in thing.components.items() if part is not None and name not in beside}
            add([type(thing).__name__, _plain(own), parts])
        elif isinstance(thing, Iterable) and not isinstance(thing, torch.nn.Module):
            digest.update(b"[")
            for each in thing:
                add(each)
            digest.update(b"]")
        else:
            config = getattr(thing, "config", thing)
            config = config.to_dict() if hasattr(config, "to_dict") else config
            add([type(thing).__name__, _plain(config) if isinstance(config, Mapping) else None])
            if isinstance(thing, torch.nn.Module):
                add(thing.state_dict())

    for thing in things:
        add(thing)
    return digest.hexdigest()[:16]


def _plain(config: Mapping) -> dict:
    """A configuration without the place it came from and the versions it was written by; also in what it holds."""
    return {
        name: _plain(value) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if not str(name).startswith("_") and not str(name).endswith("_version") and not (name in YOUNGER and not value)
    }


def open_results(path: Path, shared: dict, environment: dict[str, str]) -> dict:
    """
    What was measured before, if it was under the same settings. Settings of sections that are measured on request only
    are added where the file lacks them, and kept where this run does not ask. Raises ValueError, in a sentence, for
    any other file.
    """
    if not path.exists():
        return {"settings": shared, "environment": environment, "models": {}}
    try:
        results = json.loads(path.read_text())
        before = results["settings"]
        if not all(isinstance(results[part], dict) for part in ("settings", "environment", "models")):
            raise TypeError("it holds something else")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not what this script writes ({error}): delete it, or choose another --out."
        ) from error
    before.setdefault("split", "test")  # in files from before there were validation clips
    for name in OPTIONAL:
        if shared.get(name) is None or before.get(name) is None:
            before[name] = shared[name] = before.get(name) or shared.get(name)
    differing = [name for name in shared if before.get(name) != shared[name]]
    if differing:
        differing = [name for name in differing if name not in FOLLOWING] or differing
        raise ValueError(
            f"{path} was measured with other settings ({', '.join(differing)}), and one table cannot hold both: "
            "choose another "
            "--out, or delete that file."
        )
    return results


def finite(value):
    """The same with None in place of every number that is not finite: JSON has no NaN and no infinity."""
    if isinstance(value, Mapping):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_results(results: dict, path: Path) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(finite(results), indent=1, allow_nan=False) + "\n")
