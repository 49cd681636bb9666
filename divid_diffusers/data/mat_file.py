"""One variable of a MATLAB file."""

import io

import numpy as np


def read_mat(content: bytes, variable: str, name: str) -> np.ndarray:
    """The array `variable` of a `.mat` file's content. Raises ValueError, naming the file, where it cannot be had."""
    from scipy.io import loadmat

    if not content:
        raise ValueError(f"{name} is an empty file.")
    try:
        found = loadmat(io.BytesIO(content), variable_names=[variable])
    except Exception as error:  # scipy raises whatever a damaged byte happens to break
        raise ValueError(f"{name} is not a MATLAB file that can be read, or it is damaged: copy it again.") from error
    if variable not in found:
        raise ValueError(f"{name} has no variable `{variable}`: is it a file of this modality?")
    return np.asarray(found[variable])
