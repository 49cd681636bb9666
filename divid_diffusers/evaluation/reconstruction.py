"""How close a decoded clip is to the true one. Temporal consistency is [`motion_error`]."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F


def psnr(truth: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each clip, shape `(B,)`; clips `(B, N, C, H, W)` in [0, 1]."""
    error = (truth - decoded).square().mean(dim=(1, 2, 3, 4))
    return -10 * error.clamp(min=1e-10).log10()


def motion_error(truth: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    r"""
    Do the frame differences follow the true ones? For each clip, shape `(B,)`, with `D_i = x_i - x_1`:

        sqrt( sum ||D_i(truth) - D_i(decoded)||^2 / sum ||D_i(truth)||^2 )

    0 is perfect motion, 1 what a motionless clip gets, more is worse than not moving (our choice of measure). Clips
    `(B, N, C, H, W)` in [0, 1].
    """
    true_motion, motion = truth[:, 1:] - truth[:, :1], decoded[:, 1:] - decoded[:, :1]
    error = (true_motion - motion).square().sum(dim=(1, 2, 3, 4))
    return (error / true_motion.square().sum(dim=(1, 2, 3, 4)).clamp(min=1e-10)).sqrt()


def ssim(truth: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    r"""
    Structural similarity of each clip, shape `(B,)`: 1 for equal clips, about 0 for unrelated ones, at worst -1.

        (2 m_x m_y + C1) (2 s_xy + C2) / ((m_x^2 + m_y^2 + C1) (s_x^2 + s_y^2 + C2)),  C1 = 0.01^2, C2 = 0.03^2

    with local means m, variances s^2 and covariance s_xy under an 11x11 Gaussian window of sigma 1.5, averaged over
    all places where the window lies inside the frame, over channels and over frames (Wang et al. 2004, "Image quality
    assessment: from error visibility to structural similarity").

    Args:
        truth, decoded (`torch.Tensor` of shape `(B, N, C, H, W)`): clips in [0, 1], hence a data range of 1.

    Raises:
        ValueError: frames smaller than the window.
    """
    if min(truth.shape[-2:]) < 11:
        height, width = truth.shape[-2:]
        raise ValueError(f"SSIM looks through an 11x11 window; frames of {height}x{width} are too small for it.")

    def local_mean(clips: torch.Tensor) -> torch.Tensor:
        frames = clips.reshape(-1, 1, *clips.shape[-2:])
        return F.conv2d(F.conv2d(frames, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    distance = torch.arange(-5, 6, device=truth.device, dtype=truth.dtype)
    window = torch.exp(-distance.square() / (2 * 1.5**2))
    window = window / window.sum()  # along one axis, then the other: 22 products instead of 121

    true_mean, mean = local_mean(truth), local_mean(decoded)
    true_variance = local_mean(truth.square()) - true_mean.square()
    variance = local_mean(decoded.square()) - mean.square()
    covariance = local_mean(truth * decoded) - true_mean * mean
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * true_mean * mean + c1) * (2 * covariance + c2)
    similarity = similarity / ((true_mean.square() + mean.square() + c1) * (true_variance + variance + c2))
    return similarity.reshape(len(truth), -1).mean(dim=1)


def perceptual_distance(
    truth: torch.Tensor, decoded: torch.Tensor, features: Callable[[torch.Tensor], Sequence[torch.Tensor]]
) -> torch.Tensor:
    r"""
    Distance of each clip in the layers l of a network, at places p, shape `(B,)`; 0 for equal clips, at most 4:

        mean over l, p and frames of || f_l(truth)_p / |f_l(truth)_p| - f_l(decoded)_p / |f_l(decoded)_p| ||^2

    LPIPS (Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric") without its
    learned weights per channel, and with layers averaged, not summed, so that networks of different depth share a
    scale. Values depend on the network: name it beside them, and compare them with no published LPIPS.

    Args:
        truth, decoded (`torch.Tensor` of shape `(B, N, C, H, W)`): clips in [0, 1].
        features (`Callable`): maps frames `(F, C, H, W)` in [0, 1] to a list of feature maps `(F, C_l, H_l, W_l)`, one
            per layer, after normalising frames as the network wants them. Called with one clip at a time.

    Raises:
        ValueError: `features` gives anything but a list of feature maps.
    """
    return torch.stack([_frame_distances(*pair, features).mean() for pair in zip(truth, decoded, strict=True)])


def _frame_distances(truth: torch.Tensor, decoded: torch.Tensor, features: Callable) -> torch.Tensor:
    per_layer = []
    for true_map, decoded_map in zip(_feature_maps(features, truth), _feature_maps(features, decoded), strict=True):
        difference = F.normalize(true_map, dim=1, eps=1e-10) - F.normalize(decoded_map, dim=1, eps=1e-10)
        per_layer.append(difference.square().sum(dim=1).mean(dim=(1, 2)))
    return torch.stack(per_layer).mean(dim=0)


def _feature_maps(features: Callable, frames: torch.Tensor) -> list[torch.Tensor]:
    maps = features(frames)
    # A bare tensor would be read as a list of layers, frame by frame.
    if isinstance(maps, torch.Tensor) or not maps or any(layer.ndim != 4 for layer in maps):
        raise ValueError(
            "The features of a perceptual distance are a list of maps (frames, channels, height, width), one per "
            "layer; the "
            "given function returned something else. For a single layer return a list of one."
        )
    return list(maps)
