"""How far a run is."""

import torch
from accelerate import Accelerator


class Progress:
    """
    How far training is; saved with the checkpoint. `cpu_seconds` are those of the main process, which other work does
    not stretch.
    """

    def __init__(self):
        self.step, self.seconds, self.cpu_seconds = 0, 0.0, 0.0

    def state_dict(self) -> dict:
        return vars(self).copy()

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)

    def out_of_time(self, minutes: float | None, accelerator: Accelerator) -> bool:
        if minutes is None:
            return False
        over = torch.tensor(float(self.seconds > 60 * minutes), device=accelerator.device)
        return accelerator.reduce(over, "max").item() > 0  # clocks differ: all processes must stop at the same step
