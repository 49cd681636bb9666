"""A number without a meaning is refused before any work, by every program, in a sentence that names the flag."""

import subprocess
import sys
from pathlib import Path

import pytest

from divid_diffusers.flags import SEED, whole


TRAINING = Path(__file__).parents[1] / "training"
PROGRAMS = [
    path
    for folder in ("prepare", "evaluate", "publish")
    for path in sorted((TRAINING / folder).glob("*.py"))
    if "add_argument" in path.read_text()
]


@pytest.mark.parametrize(
    "read, text, value", [(whole(1), "1", 1), (whole(0, 3), "3", 3), (SEED, "4294967295", 2**32 - 1)]
)
def test_a_number_within_the_limits_is_taken(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    "read, text, sentence",
    [
        (whole(1), "0", "'0' is not a whole number of at least 1."),
        (whole(0, 3), "4", "'4' is not a whole number from 0 to 3."),
        (SEED, "-1", "'-1' is not a whole number from 0 to 4294967295."),
        (SEED, "4294967296", "'4294967296' is not"),
        (whole(1), "nan", "'nan' is not"),
        (whole(1), "2.5", "'2.5' is not"),
        (whole(1), "", "'' is not"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(read, text, sentence):
    with pytest.raises(Exception) as refused:
        read(text)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_no_program_takes_just_any_number(path):
    assert "type=int" not in path.read_text()


def test_a_program_ends_with_one_sentence_and_no_traceback(tmp_path):
    program = TRAINING / "prepare" / "contact_sheet.py"
    command = [sys.executable, str(program), "nowhere", f"--output={tmp_path / 'a.png'}", "--seed=-1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == (
        "contact_sheet.py: error: argument --seed: '-1' is not a whole number from 0 to 4294967295."
    )
