"""The time-varying bottleneck of diffusion: how much of a frame is left at each t, and which token each t needs."""

import torch

from ..schedulers.scheduling_shared_noise_ddpm import sample_shared_noise
from ..training.losses import ddpm_loss, target
from .statistics import mean_interval


CLIPS_PER_BATCH = 16
PANELS = {"static": ("s", "#b2182b"), "dynamic": ("d", "#2166ac"), "both": ("s and d", "#404040")}


def marginal_kl(frames: torch.Tensor, alphas_cumprod: torch.Tensor) -> torch.Tensor:
    r"""
    What the noise leaves of a frame: the divergence of the forward process from pure noise, per channel of a pixel,
    averaged over pixels, frames and clips. With `q(x_t|x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)` it has a closed
    form in which the data appear by their second moment only:

        KL(q(x_t|x_0) || N(0, I)) = ( abar_t (E[x_0^2] - 1) - ln(1 - abar_t) ) / 2     nats

    It is marginal, of one frame: noise shared by the frames of a clip leaves each of them this much, but more of their
    differences. Source: the paper's diagnostic of the "time-varying KL bottleneck".

    Args:
        frames (`torch.Tensor` of any shape): clean pixels in [-1, 1].
        alphas_cumprod (`torch.Tensor` of shape `(T,)`): abar in [0, 1], at the t that are asked about.

    Returns:
        `torch.Tensor` of shape `(T,)`, float64: 0 at abar = 0, infinite at abar = 1.

    Raises:
        ValueError: pixels with NaN or infinity or outside [-1, 1], abar outside [0, 1].
    """
    if frames.numel() == 0 or not frames.abs().max() <= 1 + 1e-3:  # NaN is not below it either
        raise ValueError(
            "The frames must be pixels in [-1, 1], but there are none, or some are NaN or outside that range."
        )
    abar = alphas_cumprod.double()
    if not ((abar >= 0) & (abar <= 1)).all():
        raise ValueError("`alphas_cumprod` must lie in [0, 1], but has other values: pass the scheduler's own.")
    second_moment = frames.double().square().mean().to(abar.device)
    return (abar * (second_moment - 1) - torch.log1p(-abar)) / 2


@torch.no_grad()
def token_bottleneck(pipe, clips, timesteps: list[int], seed: int = 0) -> dict:
    r"""
    Which t needs which token, measured: the rise of the denoising loss when s, or d, or both are another clip's,

        rise_b(t) = l(x_t, t; s', d') - l(x_t, t; s_b, d_b),    l = (1/N) sum_i mean ||target_i - prediction_i||^2

    with x_t made of clip b and of a noise that is the same for the right and the wrong tokens, and for every t. `s'`
    and `d'` are those of one other clip, drawn for each, whatever its labels: where it happens to show the same
    person, s was not wrong, so the rise of s is if anything too small. The loss is that of the network's own
    prediction type, unweighted; the squared error in epsilon is `abar / (1 - abar)` times that in x_0. Source: our
    choice, for the paper's claim that diffusion "inherently imposes" a bottleneck; [`marginal_kl`] is the theoretical
    side of it.

    Args:
        pipe ([`DiViDPipeline`]): any scheduler with `alphas_cumprod`.
        clips: at least two clips of one length, held out; as in [`DiViDPipeline.encode`].
        timesteps (`list[int]`): the grid of t, 0 to T - 1.
        seed (`int`): of the noise and of who is exchanged with whom.

    Returns:
        `dict` of numbers and lists, ready for JSON: `n` clips, `seed`, `prediction_type`; along `timesteps`,
        `alphas_cumprod` and `marginal_kl`; and, each as lists `mean`, `low` and `high` of a 95 % interval over clips,
        `loss` with the right tokens and `rise` with `static`, `dynamic` and `both` exchanged.

    Raises:
        ValueError: fewer than two clips, clips of different lengths, a t outside the schedule, a scheduler without
            abar.
    """
    timesteps = [int(t) for t in timesteps]
    alphas_cumprod = _alphas_cumprod(pipe.scheduler, timesteps)
    frames = _frames(pipe, clips)
    generator = torch.Generator().manual_seed(seed)
    other = _another_clip(len(frames), generator)
    noise = sample_shared_noise(tuple(frames.shape), generator)
    tokens = [pipe.encoder(batch.to(pipe.encoder.dtype)) for batch in frames.split(CLIPS_PER_BATCH)]
    static = torch.cat([batch.static for batch in tokens])
    dynamic = torch.cat([batch.dynamic for batch in tokens])
    choices = {
        "none": (static, dynamic),
        "static": (static[other], dynamic),
        "dynamic": (static, dynamic[other]),
        "both": (static[other], dynamic[other]),
    }
    losses: dict[str, list[torch.Tensor]] = {name: [] for name in choices}
    for t, abar in zip(timesteps, alphas_cumprod):
        for name, chosen in choices.items():
            losses[name].append(_loss(pipe.unet, frames, noise, t, abar, *chosen))
    right = losses.pop("none")
    return {
        "n": len(frames),
        "seed": seed,
        "prediction_type": pipe.unet.config.prediction_type,
        "timesteps": timesteps,
        "alphas_cumprod": alphas_cumprod.tolist(),
        "marginal_kl": marginal_kl(frames, alphas_cumprod).tolist(),
        "loss": _intervals(right),
        "rise": {name: _intervals([w - r for w, r in zip(wrong, right)]) for name, wrong in losses.items()},
    }


def _loss(unet, frames, noise, t: int, abar: torch.Tensor, static, dynamic) -> torch.Tensor:
    """
    The denoising loss of every clip at t, shape `(B,)`, float64, on the CPU; frames `(B, N, C, H, W)` in [-1, 1].
    """
    losses = []
    for batch in torch.arange(len(frames)).split(CLIPS_PER_BATCH):
        clean, eps = frames[batch], noise[batch].to(frames)
        noisy = abar.sqrt() * clean + (1 - abar).sqrt() * eps
        prediction = unet(noisy.to(unet.dtype), t, static=static[batch], dynamic=dynamic[batch]).sample
        abars = abar.to(clean).expand(len(batch))
        losses.append(ddpm_loss(prediction, target(unet.config.prediction_type, clean, eps, abars)))
    return torch.cat(losses).double().cpu()


def _frames(pipe, clips) -> torch.Tensor:
    """Clips as the networks take them, `(B, N, C, H, W)`."""
    frames = pipe.prepare_frames(clips)
    if len(frames) < 2:
        raise ValueError("The tokens must come from another clip, but only one clip was passed: pass at least two.")
    if len({len(clip) for clip in frames}) > 1:
        raise ValueError(
            "The clips differ in length: cut them to one, so that each can take another's dynamic tokens."
        )
    return torch.stack(frames)


def _alphas_cumprod(scheduler, timesteps: list[int]) -> torch.Tensor:
    """abar at the given t, float64, shape `(T,)`."""
    if getattr(scheduler, "alphas_cumprod", None) is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no `alphas_cumprod`, so its noise cannot be added at a given t: put the "
            "scheduler that the checkpoint came with back."
        )
    last = len(scheduler.alphas_cumprod) - 1
    if not timesteps or not all(0 <= t <= last for t in timesteps):
        raise ValueError(f"`timesteps` is {timesteps}: choose at least one from 0 to {last}.")
    return scheduler.alphas_cumprod.cpu().double()[timesteps]


def _another_clip(count: int, generator: torch.Generator) -> torch.Tensor:
    """For each of `count` clips another one, each clip taken once: a ring in random order."""
    order = torch.randperm(count, generator=generator)
    other = torch.empty_like(order)
    other[order] = order.roll(-1)
    return other


def _intervals(values: list[torch.Tensor]) -> dict[str, list[float]]:
    """Mean over clips and its 95 % interval along t, of one `(B,)` per t."""
    means, halves = zip(*(mean_interval(each.tolist()) for each in values))
    return {
        "mean": list(means),
        "low": [mean - half for mean, half in zip(means, halves)],
        "high": [mean + half for mean, half in zip(means, halves)],
    }


def plot_bottleneck(bottleneck: dict):
    """
    Four panels against t: the marginal KL, and the rise of the loss with a wrong s, a wrong d, and both, with 95 %
    bands. Each has a scale of its own: the question is at which t, and motion is few pixels.

    Args:
        bottleneck (`dict`): what [`token_bottleneck`] returned, or the same read back from JSON.

    Returns:
        `matplotlib.figure.Figure`, to be saved with `.savefig(path)`; it needs no display.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The plot needs matplotlib: pip install 'divid_diffusers[eval]'.") from error

    figure = Figure(figsize=(14, 3.2), layout="constrained")
    axes = figure.subplots(1, 1 + len(PANELS))
    t = bottleneck["timesteps"]
    axes[0].plot(t, bottleneck["marginal_kl"], color="#404040")
    axes[0].set(
        xlabel="t", yscale="log", ylabel="KL(q(x_t|x_0) || N(0, I)), nats per value", title="left by the noise"
    )
    for panel, (name, (title, colour)) in zip(axes[1:], PANELS.items()):
        rise = bottleneck["rise"][name]
        panel.plot(t, rise["mean"], color=colour)
        panel.fill_between(t, rise["low"], rise["high"], color=colour, alpha=0.2, linewidth=0)
        panel.axhline(0, color="#b0b0b0", linewidth=0.8, zorder=0)
        panel.set(xlabel="t", title=f"{title} of another clip, n = {bottleneck['n']}")
    axes[1].set_ylabel(f"rise of the loss ({bottleneck['prediction_type']})")
    return figure
