"""The model card of a trained checkpoint."""

import shlex
import sys
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData


DRAWN = "Puppets (drawn by `divid_diffusers.data.puppets`)"

TEXT = """---
{metadata}
---

# {name}

[DiViD](https://arxiv.org/abs/2507.13934) (static/dynamic disentanglement of video), trained with
`divid_diffusers` on {source}.

```python
from divid_diffusers import DiViDPipeline, export_clip

pipe = DiViDPipeline.from_pretrained("{name}")
clip = pipe.swap("this_person.mp4", "that_motion.mp4").frames[0]
export_clip(clip, "swap.gif")
```

## Training

{steps} steps of {batch} clips of {frames} frames, {minutes:.0f} minutes on {processes} process(es) of {device}:

```bash
{command}
```

{figures}

## Limits

Frames are decoded one by one: nothing but the tokens and the shared noise keeps them consistent. Motion is encoded relative to
the clip's first frame, so a swap starts from the pose of the static clip. The model knows the domain it was trained on and
nothing else. Do not use identity swapping to pass a recording off as that of somebody else.
"""


def write_model_card(
    output_dir: Path, args, steps: int, seconds: float, processes: int, figures: dict[str, float]
) -> None:
    import torch

    metadata = ModelCardData(
        # diffusers' own snippet on the Hub's page would not load us
        library_name="divid_diffusers",
        license="apache-2.0",
        tags=["diffusers", "video", "disentanglement", "divid"],
    )
    rows = "".join(f"| {name} | {value:.3f} |\n" for name, value in figures.items())
    table = f"On {args.num_validation_clips} held-out clips, decoded from pure noise in {args.num_inference_steps} steps:\n\n"
    text = TEXT.format(
        metadata=metadata.to_yaml(),
        name=args.hub_model_id or output_dir.name,
        source=DRAWN if args.dataset == "puppets" else f"`{Path(args.dataset).name}`",
        steps=steps,
        batch=args.train_batch_size * args.gradient_accumulation_steps * processes,
        frames=args.num_frames,
        minutes=seconds / 60,
        processes=processes,
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        command="accelerate launch training/train_divid.py " + shlex.join(sys.argv[1:]),
        figures=f"{table}| figure | value |\n|---|---|\n{rows}" if figures else "",
    )
    ModelCard(text).save(output_dir / "README.md")
