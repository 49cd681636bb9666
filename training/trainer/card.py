"""The model card of a trained checkpoint."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData


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

{steps} steps of {batch} clips of {frames} frames, {minutes} minutes ({cpu_minutes} of CPU time) on {processes} process(es) of {device}:

```bash
{command}
```

{figures}

## Limits

Frames are decoded one by one: nothing but the tokens and the shared noise keeps them consistent. Motion is encoded relative to
the clip's first frame, so a swap starts from the pose of the static clip. The model knows the domain it was trained on and
nothing else. Do not use identity swapping to pass a recording off as that of somebody else.
"""


def card_metadata(method: str, args, facts: dict[str, str]) -> ModelCardData:
    """What the Hub's search and filters see, and the run in numbers: time, machine, command. `facts` are those of `run_facts`."""
    numbers = {name: int(facts[name]) for name in ("steps", "minutes", "cpu_minutes", "processes")}
    return ModelCardData(
        # diffusers' own snippet on the Hub's page would not load us
        library_name="divid_diffusers",
        license="apache-2.0",
        pipeline_tag="video-to-video",
        tags=["diffusers", "video", "disentanglement", method],
        datasets=[Path(args.dataset).name if Path(args.dataset).exists() else args.dataset],
        training=numbers | {"device": facts["device"], "command": facts["command"]},
    )


def write_model_card(output_dir: Path, args, facts: dict[str, str]) -> None:
    """`facts` are those of `run_facts`."""
    metadata = card_metadata("divid", args, facts)
    clips, steps = args.num_validation_clips, args.num_inference_steps
    table = f"On {clips} held-out clips, decoded from pure noise in {steps} steps:\n\n{facts['figures']}"
    text = TEXT.format(**facts | {"figures": table if facts["figures"] else ""}, metadata=metadata.to_yaml())
    ModelCard(text).save(output_dir / "README.md")
