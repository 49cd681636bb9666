"""
The training loop for one GPU, its whole step recorded as a CUDA graph and played back (`--cuda_graph`).

A step of these small networks is thousands of small kernels, and a GPU waits for the host that launches them one by
one: docs/speed.md has figures. A recorded step launches itself. For that the clips lie in the GPU's memory, everything
random is drawn there, and nothing in a step may depend on a value that the host would have to see: no resume, no
logs or pictures on the way, no second process. Such a run is minutes long.
"""

import math
import time
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from divid_diffusers.training import step_noise
from divid_diffusers.training.objective import objective

from .checkpoints import all_finite
from .clips import to_model_range
from .first_lines import first_lines
from .progress import Progress
from .saving import save_pipeline
from .schedule import rate_factor, share_done, warm_up_share


logger = get_logger(__name__)
WARM_UP = 3  # steps before one is recorded, in which kernels are chosen and moments made
PLAYED = 20  # steps between two looks at loss, clock and learning rate


def check(accelerator: Accelerator, args) -> None:
    """What a recorded step cannot do."""
    wrong = [
        f"--{name}"
        for name in ("pair_by", "pretrained_vae", "resume_from_checkpoint", "gradient_checkpointing")
        if getattr(args, name)
    ]
    if args.gradient_accumulation_steps > 1:
        wrong.append("--gradient_accumulation_steps")
    if args.mixed_precision == "fp16":
        wrong.append("--mixed_precision fp16")
    if accelerator.num_processes > 1:
        wrong.append("more than one process")
    if args.frame_sampling != "random":
        wrong.append(f"--frame_sampling {args.frame_sampling}")
    if wrong:
        raise SystemExit(
            f"--cuda_graph records a step once, which excludes {', '.join(wrong)}: leave one of them out."
        )
    if not (args.max_train_steps or args.max_train_minutes):
        raise SystemExit("--cuda_graph proposes no length: give --max_train_minutes or --max_train_steps.")
    if accelerator.device.type != "cuda":
        raise SystemExit("--cuda_graph needs an NVIDIA GPU, and torch sees none: leave it out.")


class ClipsOnDevice:
    """All clips `(F, C, H, W)` uint8 of a set in one tensor, of which batches are drawn where it lies."""

    def __init__(self, clips: Sequence[dict], device: torch.device, num_workers: int = 0):
        loader = DataLoader(clips, batch_size=None, num_workers=num_workers)  # clips are unlike in length
        whole = [torch.as_tensor(clip["frames"]) for clip in loader]
        self.lengths = torch.tensor([len(clip) for clip in whole], device=device)
        self.starts = self.lengths.cumsum(0) - self.lengths
        try:
            self.frames = torch.cat(whole).to(device)
        except torch.OutOfMemoryError as error:
            raise SystemExit(
                f"--cuda_graph keeps the clips in the GPU's memory, and {sum(map(len, whole)):,} frames do not fit: "
                "leave it out, or prepare fewer or smaller ones."
            ) from error
        self.longest = max(len(clip) for clip in whole)

    def draw(self, batch: int, num_frames: int) -> torch.Tensor:
        """
        `(B, N, C, H, W)` in [-1, 1]: clips with replacement, of each N frames in order, without replacement where it
        has as many.
        """
        device = self.frames.device
        chosen = (torch.rand(batch, device=device) * len(self.lengths)).long().clamp(max=len(self.lengths) - 1)
        length = self.lengths[chosen][:, None]
        # of all frames that are there the first in a random order, then those that are not, which become the last
        places = torch.rand(batch, max(self.longest, num_frames), device=device)
        beyond = torch.arange(places.shape[1], device=device)[None] >= length
        order = (places + 2 * beyond).argsort(dim=1)[:, :num_frames]
        frames = torch.minimum(order, length - 1).sort(dim=1).values
        return to_model_range(self.frames[self.starts[chosen][:, None] + frames])


def lstm_of_operators(lstm: nn.LSTM) -> Callable:
    """
    The forward pass of a one-layer bidirectional LSTM, batch first, in torch's operators, which can be recorded
    whatever cuDNN's does with its weights.
    """

    def forward(inputs: torch.Tensor):
        outputs = []
        for suffix in ("", "_reverse"):
            names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
            weight_ih, weight_hh, bias_ih, bias_hh = (getattr(lstm, f"{name}_l0{suffix}") for name in names)
            gates = F.linear(inputs, weight_ih, bias_ih + bias_hh)
            hidden = cell = gates.new_zeros(len(inputs), lstm.hidden_size)
            steps = range(inputs.shape[1])
            shown = {}
            for i in reversed(steps) if suffix else steps:
                gate_in, forget, new, out = (gates[:, i] + F.linear(hidden, weight_hh)).chunk(4, dim=-1)
                cell = forget.sigmoid() * cell + gate_in.sigmoid() * new.tanh()
                hidden = out.sigmoid() * cell.tanh()
                shown[i] = hidden
            outputs.append(torch.stack([shown[i] for i in steps], dim=1))
        return torch.cat(outputs, dim=-1), None

    return forward


def record(step: Callable[[], torch.Tensor], optimizer) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    """The graph of a step, and its loss, which every replay writes anew."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            optimizer.zero_grad(set_to_none=True)
            step()
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad(set_to_none=True)  # the recorded step makes gradients of its own, and writes over them
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    return graph, loss


def train(accelerator: Accelerator, recipe, train_clips: Sequence, held_out_clips: Sequence, args) -> None:
    """Train, and leave a pipeline with its card in `--output_dir`."""
    args.validation_steps = 0
    device, module = accelerator.device, recipe.module.to(accelerator.device).train()
    channels, size = recipe.frame_shape
    timesteps = recipe.noise_scheduler.config.num_train_timesteps
    torch.manual_seed(args.seed)
    clips = ClipsOnDevice(train_clips, device, args.dataloader_num_workers)
    # what changes from step to step of what is recorded once
    rate, swaps = torch.zeros((), device=device), torch.zeros((), device=device)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=rate,
        betas=(args.adam_beta1, args.adam_beta2),
        weight_decay=args.adam_weight_decay,
        fused=True,
        capturable=True,
    )
    lstm = module.encoder.lstm
    lstm.forward = lstm_of_operators(lstm)

    def step() -> torch.Tensor:
        batch = args.train_batch_size
        noise = step_noise.draw_on(device, args, batch, channels, size, recipe.static_dim, timesteps, swaps)
        bf16 = accelerator.mixed_precision == "bf16"
        # casts that are kept would be freed behind the graph's back
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
            drawn = clips.draw(batch, args.num_frames)
            result = objective(module, drawn, noise, recipe.noise_scheduler, args)
        result.loss.backward()
        nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
        optimizer.step()
        return result.loss.detach()

    for line in first_lines(accelerator, module, train_clips, held_out_clips, args):
        logger.info(line)
    graph, loss = record(step, optimizer)  # at a rate of zero, so that nothing is learned yet
    time_counts, progress = args.max_train_minutes is not None, Progress()
    ema = EMAModel(parameters, decay=args.ema_max_decay, use_ema_warmup=not time_counts, power=0.75, foreach=True)
    last_time, last_cpu_time = time.monotonic(), time.process_time()
    bar = tqdm(total=args.max_train_steps)
    while (share := share_done(args, progress)) < 1:
        rate.fill_(args.learning_rate * rate_factor(args.lr_scheduler, share, warm_up_share(args)))
        swaps.fill_(step_noise.swap_share(args, progress.step))
        steps = min(PLAYED, (args.max_train_steps or math.inf) - progress.step)
        for _ in range(steps):
            graph.replay()
            ema.step(parameters)
        value, done = loss.item(), progress.step + steps
        if not math.isfinite(value):
            raise SystemExit(f"The loss is {value} at step {done}: lower --learning_rate. Nothing was saved.")
        now, cpu_now = time.monotonic(), time.process_time()
        progress.advance(now - last_time, cpu_now - last_cpu_time, None)
        progress.step, last_time, last_cpu_time = done, now, cpu_now
        bar.total = round(done / max(share_done(args, progress), 1e-9))
        bar.update(steps)
        bar.set_postfix(loss=f"{value:.4f}")
    bar.close()
    ema.copy_to(parameters)
    del lstm.forward
    if not all_finite(parameters):
        raise SystemExit("The averaged weights are not finite: lower --learning_rate. Nothing was saved.")
    save_pipeline(recipe, module, args, progress, 1, {})
    args.interruption.stop_listening()
