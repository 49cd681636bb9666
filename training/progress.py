"""How far a run is, and how it is doing."""

import torch
from accelerate import Accelerator
from objective import Objective


NUM_BUCKETS = 4  # of timesteps: the loss at high noise and at low noise are different things


class Progress:
    """How far training is; saved with the checkpoint."""

    def __init__(self):
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict:
        return vars(self).copy()

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)

    def out_of_time(self, minutes: float | None, accelerator: Accelerator) -> bool:
        if minutes is None:
            return False
        over = torch.tensor(float(self.seconds > 60 * minutes), device=accelerator.device)
        return accelerator.reduce(over, "max").item() > 0  # clocks differ: all processes must stop at the same step


class Meter:
    """Means of the losses since the last log, over all processes."""

    def __init__(self, accelerator: Accelerator, num_train_timesteps: int):
        self.accelerator, self.num_train_timesteps = accelerator, num_train_timesteps
        self.reset()

    def reset(self) -> None:
        self.sums = torch.zeros(3 + NUM_BUCKETS, 2, device=self.accelerator.device)

    def add(self, result: Objective, timesteps: torch.Tensor) -> None:
        per_clip = result.per_clip.detach()
        bucket = timesteps * NUM_BUCKETS // self.num_train_timesteps
        self.sums[:3, 0] += torch.stack([result.loss, result.loss_ddpm, result.loss_orth]).detach()
        self.sums[:3, 1] += 1
        self.sums[3:, 0].index_add_(0, bucket, per_clip)
        self.sums[3:, 1].index_add_(0, bucket, torch.ones_like(per_clip))

    def result(self) -> dict[str, float]:
        total, count = self.accelerator.reduce(self.sums, "sum").unbind(dim=1)
        self.reset()
        width = self.num_train_timesteps // NUM_BUCKETS
        names = [
            "loss",
            "loss_ddpm",
            "loss_orth",
            *(f"loss_t/{i * width}-{(i + 1) * width - 1}" for i in range(NUM_BUCKETS)),
        ]
        return {name: (t / c).item() for name, t, c in zip(names, total, count) if c > 0}
