"""The file of figures that `evaluate.py` keeps."""

import hashlib
import json
from pathlib import Path

from ..clips.writing import written_whole


def fingerprint(path: str | Path) -> str:
    """Of the weights, where they are files here."""
    files = sorted(Path(path).glob("*/*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16] if files else str(path)


def open_results(path: Path, shared: dict, environment: dict[str, str]) -> dict:
    """What was measured before, if it was under the same settings."""
    if not path.exists():
        return {"settings": shared, "environment": environment, "models": {}}
    try:
        results = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is not what this script writes ({error}): delete it, or choose another --out."
        ) from error
    differing = [name for name in shared if results["settings"].get(name) != shared[name]]
    if differing:
        raise ValueError(
            f"{path} was measured with other settings ({', '.join(differing)}), and one table cannot hold both: choose another "
            "--out, or delete that file."
        )
    return results


def save_results(results: dict, path: Path) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n")
