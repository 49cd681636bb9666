"""The training objective, L = L_DDPM + lambda L_orth (the paper's equation 5), as pure functions of tensors."""

import torch
from torch.nn import functional as F


def target(
    prediction_type: str, frames: torch.Tensor, noise: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    r"""
    What the network is asked for. `"epsilon"`: the noise (the paper). `"sample"`: x_0. `"v_prediction"`:
    `v = sqrt(abar) eps - sqrt(1 - abar) x_0` (Salimans and Ho 2022).

    Args:
        frames, noise (`torch.Tensor` of shape `(B, N, C, H, W)`): x_0 and eps.
        alphas_cumprod (`torch.Tensor` of shape `(B,)`): abar at each clip's t.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return frames
    if prediction_type == "v_prediction":
        abar = alphas_cumprod.view(-1, 1, 1, 1, 1)
        return abar.sqrt() * noise - (1 - abar).sqrt() * frames
    raise ValueError(f"`prediction_type` is {prediction_type!r}: choose 'epsilon', 'v_prediction' or 'sample'.")


def ddpm_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    pixel_weight: torch.Tensor | float = 1.0,
    huber_scale: float | None = None,
) -> torch.Tensor:
    r"""
    `(1/N) sum_i mean ||target_i - prediction_i||^2` for each clip, shape `(B,)`; equation 3 is its mean over clips.

    Args:
        prediction, target (`torch.Tensor` of shape `(B, N, C, H, W)`): as [`target`] defines.
        pixel_weight: 1 in the paper; or what [`motion_weight`] gives.
        huber_scale: c of the pseudo-Huber loss `2 (sqrt(e^2 + c^2) - c)`, which takes the place of each value's `e^2`:
            `e^2 / c` well below c, `2 |e|` well above it (Charbonnier et al. 1997; in diffusers' scripts,
            `smooth_l1`). Between two neighbouring tones lies a small e, which a square all but forgets (our choice,
            off in the paper).
    """
    error = F.mse_loss(prediction.float(), target.float(), reduction="none")
    if huber_scale is not None:
        error = 2 * ((error + huber_scale**2).sqrt() - huber_scale)
    return (pixel_weight * error).mean(dim=(1, 2, 3, 4))


def motion_weight(frames: torch.Tensor, static_frame: torch.Tensor, strength: float) -> torch.Tensor:
    r"""
    `1 + strength * min(|x_i - x_1|, 1)`, channels averaged, shape `(B, N, 1, H, W)`: an error counts more where the
    frame differs from the static one. A limb is few pixels, so without it a model long does well to draw everybody
    standing still (our choice, off in the paper).

    Args:
        frames (`torch.Tensor` of shape `(B, N, C, H, W)`), static_frame (`(B, 1, C, H, W)`): clean, in [-1, 1].
    """
    return 1 + strength * (frames - static_frame).abs().mean(dim=2, keepdim=True).clamp(max=1)


def orthogonality_loss(static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
    r"""
    `L_orth = mean_i cos^2(s, d_i)` (equation 4; this form is our reading). Random directions give `1 / dim`, so a
    small value alone is no evidence of disentanglement: probe the tokens.

    Args:
        static (`torch.Tensor` of shape `(B, S)`), dynamic (`(B, N, D)`): tokens; S must equal D.
    """
    if static.shape[-1] != dynamic.shape[-1]:
        raise ValueError(
            f"The orthogonality term needs tokens of one width, but s has {static.shape[-1]} and d "
            f"{dynamic.shape[-1]} dimensions: set its weight (`--orthogonality_weight`) to 0, or make the widths "
            "equal."
        )
    return torch.cosine_similarity(static[:, None].float(), dynamic.float(), dim=-1).square().mean()


def static_rate(static: torch.Tensor) -> torch.Tensor:
    r"""
    What s costs in nats once noise N(0, I) is added to it:

        R = mean_b KL( N(s_b, I) || N(0, I) ) = mean_b |s_b|^2 / 2

    It bounds the information of s about the clip (the variational information bottleneck, Alemi et al. 2017, of fixed
    variance; our choice, off in the paper). d is free, so whatever both tell is cheapest left to d.

    Args:
        static (`torch.Tensor` of shape `(B, S)`): static tokens before the noise.
    """
    return static.float().square().sum(dim=-1).mean() / 2


def invariance_loss(static_of_swaps: torch.Tensor, static: torch.Tensor) -> torch.Tensor:
    r"""
    How much s changes with the pose it is read from, shape `()`:

        L_inv = mean_b |s(x_b) - s_b|^2 / mean_{b != c} |s_b - s_c|^2

    with `x_b` a frame of a swap whose static donor is clip b: the same person in a pose that b does not show. 0: s is
    read from both alike; 1: it changes as much as between two people. The ratio leaves the length of s free (our
    choice, off in the paper).

    Args:
        static_of_swaps (`torch.Tensor` of shape `(B, S)`): what the encoder reads from the swaps.
        static (`torch.Tensor` of shape `(B, S)`): of their static donors, B >= 2.
    """
    static_of_swaps, static = static_of_swaps.float(), static.float()
    distance = (static_of_swaps - static).square().sum(dim=-1).mean()
    return distance / (2 * static.var(dim=0).sum())
