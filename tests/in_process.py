"""Training runs in the process of the tests: importing what a process of its own needs takes longer than the run."""

import sys
from contextlib import contextmanager
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, GradientState


@contextmanager
def run_of_its_own(*command_line):
    """What a run finds in a new process, its command line if any is given; it leaves nothing behind."""
    forget_accelerator()
    try:
        with patch.object(sys, "argv", [str(word) for word in command_line] or sys.argv):
            yield
    finally:
        forget_accelerator()
        torch.set_flush_denormal(False)


def forget_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
