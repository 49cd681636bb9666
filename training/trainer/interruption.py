"""
Ctrl-C, or the signal by which a cluster takes its machine back: the step is finished, its checkpoint written, and then
the run ends.
"""

import signal
import sys
import threading

import torch
from accelerate import Accelerator


class Interruption:
    """
    Listens from when it is made until `stop_listening`, but for a signal that this process was started to ignore, as
    those in the background of a script are. Before training begins there is nothing to save, and a second signal does
    not wait.
    """

    def __init__(self):
        self.number, self.training, self.before = 0, False, {}
        if threading.current_thread() is threading.main_thread():  # no other may listen
            for kind in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(kind) is not signal.SIG_IGN:
                    self.before[kind] = signal.signal(kind, self.receive) or signal.SIG_DFL

    def receive(self, number: int, frame) -> None:
        if not self.training or self.number:
            self.stop_listening()
            print("Interrupted.", file=sys.stderr)
            raise SystemExit(128 + number)
        self.number = number
        print("Interrupted: saving a checkpoint after this step. Once more ends at once.", file=sys.stderr)

    def asked(self, accelerator: Accelerator) -> bool:
        """Whether any process was: all must stop at the same step."""
        number = torch.tensor(float(self.number), device=accelerator.device)
        self.number = int(accelerator.reduce(number, "sum").item()) and (self.number or signal.SIGINT)
        return bool(self.number)

    def stop_listening(self) -> None:
        while self.before:
            signal.signal(*self.before.popitem())
