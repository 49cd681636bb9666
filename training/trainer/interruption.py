"""Ctrl-C, or the signal by which a cluster takes its machine back: the step is finished, its checkpoint written, and then the run ends."""

import signal
import sys
import threading

import torch
from accelerate import Accelerator


class Interruption:
    """Listens from when it is made. Before training begins there is nothing to save, and a second signal does not wait."""

    def __init__(self):
        self.number, self.training = 0, False
        if threading.current_thread() is threading.main_thread():  # no other may listen
            for kind in (signal.SIGINT, signal.SIGTERM):
                signal.signal(kind, self.receive)

    def receive(self, number: int, frame) -> None:
        if not self.training or self.number:
            stop_listening()
            print("Interrupted.", file=sys.stderr)
            raise SystemExit(128 + number)
        self.number = number
        print("Interrupted: saving a checkpoint after this step. Once more ends at once.", file=sys.stderr)

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether any process was: all must stop at the same step."""
        number = torch.tensor(float(self.number), device=accelerator.device)
        self.number = int(accelerator.reduce(number, "sum").item()) and (self.number or signal.SIGINT)
        return bool(self.number)


def stop_listening() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
