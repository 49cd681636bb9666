"""One variable of a MATLAB file."""

import io
import struct
import zlib

import numpy as np


HEADER = 128  # bytes
HDF5, HDF5_PLACES = b"\x89HDF\r\n\x1a\n", (0, 512)
FLAGS, MATRIX, COMPRESSED = 6, 14, 15
HOLDING_MATRICES = {1, 2, 3}  # the classes cell, struct and object
ELEMENT_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, MATRIX, COMPRESSED, 16, 17, 18}  # of the level 5 MAT-file format


def read_mat(content: bytes, variable: str, name: str) -> np.ndarray:
    """The array `variable` of a `.mat` file's content. Raises ValueError, naming the file, where it cannot be had."""
    from scipy.io import loadmat

    if not content:
        raise ValueError(f"{name} is an empty file.")
    if content.startswith(b"MATLAB 7.3") or any(content[at : at + len(HDF5)] == HDF5 for at in HDF5_PLACES):
        raise ValueError(
            f"{name} is a MATLAB 7.3 file (HDF5), which SciPy does not read: in MATLAB, load it and save(file, "
            f"'{variable}', '-v7')."
        )
    try:
        check_elements(content[HEADER:], byte_order="<" if content[126:HEADER] == b"IM" else ">")
        found = loadmat(io.BytesIO(content), variable_names=[variable])
    except Exception as error:  # scipy raises whatever a damaged byte happens to break
        raise ValueError(f"{name} is not a MATLAB file that can be read, or it is damaged: copy it again.") from error
    if variable not in found:
        raise ValueError(f"{name} has no variable `{variable}`: is it a file of this modality?")
    return np.asarray(found[variable])


def check_elements(content: bytes, byte_order: str, inside_matrix: bool = False, of_class: int | None = None) -> None:
    """
    Raises ValueError for what would crash the process in scipy's reader, which looks types up beyond the end of its
    table: an element of a type that does not exist, longer than what is left, or a matrix among the numbers of
    another, whose class `of_class` is. An element is a tag (type and size, four bytes each) and its content; in a
    matrix elements begin at multiples of eight bytes, and one of up to four bytes shares its tag's eight.
    """
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(byte_order + "II", content, place)
        is_small = inside_matrix and kind >> 16
        if is_small:
            kind, size = kind & 0xFFFF, 0
        if kind not in ELEMENT_TYPES or (inside_matrix and kind == COMPRESSED):
            raise ValueError(f"There is no element type {kind} here.")
        if inside_matrix and kind == MATRIX and of_class not in HOLDING_MATRICES:
            raise ValueError(f"A matrix of class {of_class} holds no matrices.")
        if place + 8 + size > len(content):
            raise ValueError("An element goes on beyond the end.")
        inner = content[place + 8 : place + 8 + size]
        if kind == COMPRESSED:
            check_elements(zlib.decompressobj().decompress(inner), byte_order)
        elif kind == MATRIX and inner:
            first, length, flags = struct.unpack_from(byte_order + "III", inner.ljust(12, b"\0"))
            if (first, length) != (FLAGS, 8):
                raise ValueError("A matrix does not begin with its flags.")
            check_elements(inner, byte_order, inside_matrix=True, of_class=flags & 0xFF)
        place += 8 + size + (-size % 8 if inside_matrix else 0)
