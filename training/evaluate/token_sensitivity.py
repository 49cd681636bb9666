"""How much an untrained decoder's output depends on each token, before and after `--calibrate_tokens`.

python training/evaluate/token_sensitivity.py
"""

import torch

from divid_diffusers import build_models
from divid_diffusers.data.puppets import Puppets
from divid_diffusers.training.calibration import calibrate


@torch.no_grad()
def report(name: str, encoder, unet, clips: torch.Tensor) -> None:
    tokens = encoder(clips)
    static, dynamic = tokens.static[:8], tokens.dynamic[:8, 5:6]
    noise = torch.randn(1, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).expand(8, 1, 3, 64, 64)
    over_static = unet(noise, 999, static=static, dynamic=dynamic[:1].expand_as(dynamic)).sample
    over_dynamic = unet(noise, 999, static=static[:1].expand_as(static), dynamic=dynamic).sample
    print(
        f"| {name} | {tokens.static.std(dim=0).mean():.3f} | {tokens.dynamic.flatten(0, 1).std(dim=0).mean():.3f} "
        f"| {over_static.std(dim=0).mean():.4f} | {over_dynamic.std(dim=0).mean():.4f} |"
    )


def main() -> None:
    torch.manual_seed(0)
    encoder, unet = build_models("tiny", pixel_shortcut=True, prediction_type="sample")
    data = Puppets(48)
    clips = torch.stack([data[i]["frames"] for i in range(len(data))]).float() / 127.5 - 1
    print("48 Puppets clips, untrained `tiny`, seed 0; standard deviations, means over dimensions or pixels\n")
    print("| start | of s over clips | of d | of the output at t = 999 over s | over d |\n|---|---|---|---|---|")
    report("torch's default", encoder, unet, clips)
    calibrate(encoder, clips)
    report("calibrated", encoder, unet, clips)


if __name__ == "__main__":
    main()
