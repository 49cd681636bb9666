"""Pictures and figures of held-out clips during training."""

import torch
from PIL import Image

from divid_diffusers import DiViDPipeline
from divid_diffusers.evaluation.reconstruction import motion_error, psnr


def validate(pipeline: DiViDPipeline, clips: torch.Tensor, seed: int) -> tuple[dict[str, float], Image.Image]:
    """
    Reconstruct every clip and swap each one's motion into the next one's identity.

    Args:
        pipeline: with the weights to look at.
        clips (`torch.Tensor` of shape `(B, N, C, H, W)`): held-out, in [-1, 1].
        seed (`int`): of the start noise.

    Returns:
        PSNR in dB and motion error of the reconstructions, and a picture whose rows are, clip by clip: the clip, its
        reconstruction from pure noise, and its motion performed by the next clip's person.
    """
    pipeline.set_progress_bar_config(disable=True)
    tokens = pipeline.encode(clips)
    static, dynamic = tokens.static.detach(), tokens.dynamic.detach()

    def decode(shift: int) -> torch.Tensor:
        options = {"generator": torch.Generator().manual_seed(seed), "output_type": "pt"}
        if tokens.reference is not None:
            options["reference"] = tokens.reference.roll(-shift, dims=0)
        return pipeline(static.roll(-shift, dims=0), dynamic, **options).frames.cpu()

    reconstructed, swapped = decode(0), decode(1)
    truth = (clips.cpu() / 2 + 0.5).expand_as(reconstructed)  # grey, where an autoencoder gives RGB
    figures = {
        "psnr": psnr(truth, reconstructed).mean().item(),
        "motion_error": motion_error(truth, reconstructed).mean().item(),
    }
    rows = [row for clip in zip(truth, reconstructed, swapped) for row in clip]
    picture = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    array = (picture * 255).round().byte().permute(1, 2, 0).numpy()
    return figures, Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array)
