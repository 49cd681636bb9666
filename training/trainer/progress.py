"""How far a run is."""

import torch
from accelerate import Accelerator


class Progress:
    """
    How far training is; saved with the checkpoint. `seconds` are those between steps, over all resumes; `cpu_seconds`
    are those of the main process, which other work does not stretch.
    """

    def __init__(self):
        self.step, self.seconds, self.cpu_seconds = 0, 0.0, 0.0

    def state_dict(self) -> dict:
        return vars(self).copy()

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)

    def advance(self, seconds: float, cpu_seconds: float, accelerator: Accelerator | None) -> None:
        """
        A step is done. Where the time decides anything `accelerator` is given: clocks differ, and all processes must
        have the same learning rate and stop at the same step.
        """
        if accelerator is not None:
            seconds = accelerator.reduce(torch.tensor(seconds, device=accelerator.device), "mean").item()
        self.step += 1
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds
