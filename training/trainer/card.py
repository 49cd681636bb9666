"""The model card of a trained checkpoint, DiViD's or a baseline's, and what it says of the run."""

from pathlib import Path

import torch
from huggingface_hub import ModelCard, ModelCardData

from divid_diffusers.data.puppets import SETS

from .clips import set_names


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

{steps} steps of {batch} clips of {frames} frames, {minutes} minutes ({cpu_minutes} of CPU time) on {processes} process(es) of {device}:

```bash
{command}
```

{labels}{figures}

## Limits

Frames are decoded one by one: nothing but the tokens and the shared noise keeps them consistent. {start}The model
knows the domain it was trained on and nothing else. Do not use identity swapping to pass a recording off as that of somebody else.
"""
RELATIVE = "Motion is encoded relative to the clip's first frame, so a swap starts from the pose of the static clip. "
LABELS = "**Weakly supervised**: the {label} of {share:.0%} of the clips was used.\n\n"
SOURCES = {
    "dbse": "[DBSE](https://arxiv.org/abs/2406.18131) (Berman et al., ICML 2024)",
    "spyl": "[SPYL](https://arxiv.org/abs/2305.15924) (Naiman et al., ICML 2023)",
}
FORMS = {
    "divid": "with DiViD's image encoder and a decoder that mirrors it, as the DiViD paper compares it (our reading)",
    "published": "in its own published size",
}
BASELINE_TEXT = """---
{metadata}
---

# {name}

{method}, a baseline of [DiViD](https://arxiv.org/abs/2507.13934), {form}, trained with `divid_diffusers` on {source}. An independent
implementation, written from descriptions of the method; it is not the authors' code or checkpoint.

```python
from divid_diffusers import SequentialVAEPipeline, export_clip

pipe = SequentialVAEPipeline.from_pretrained("{name}")
clip = pipe.swap("this_person.mp4", "that_motion.mp4").frames[0]
export_clip(clip, "swap.gif")
```

## Training

{steps} steps of {batch} clips of {frames} frames, {minutes} minutes ({cpu_minutes} of CPU time) on {processes} process(es) of {device}; {perceptual}:

```bash
{command}
```

{figures}
## Limits

Frames are decoded one by one. The model knows the domain it was trained on and nothing else. Do not use identity swapping to pass
a recording off as that of somebody else.
"""


def run_facts(args, progress, processes: int, figures: dict[str, float]) -> dict[str, str]:
    """
    `name`, `source` and `dataset` (of the clips), `steps`, `batch`, `frames`, `minutes` (by the clock), `cpu_minutes`
    (of the main process), `processes`, `device`, the `command` without its token (cards are published), and a table of
    the validation `figures` with the number of `held_out` clips (empty without any of the last step: those of other
    weights say nothing of these), to be filled into a card's text.
    """
    measured = {} if figures.get("step") != progress.step else figures
    rows = "".join(f"| {name} | {value:.3f} |\n" for name, value in measured.items() if name not in ("step", "clips"))
    clips = measured.get("clips", 0)
    return {
        "name": args.hub_model_id or Path(args.output_dir).resolve().name,
        "source": " and ".join(DRAWN if name in SETS else f"`{public(name)}`" for name in set_names(args.dataset)),
        "dataset": dataset_name(args),
        "steps": str(progress.step),
        "batch": str(args.train_batch_size * args.gradient_accumulation_steps * processes),
        "frames": str(args.num_frames),
        "minutes": f"{progress.seconds / 60:.0f}",
        "cpu_minutes": f"{progress.cpu_seconds / 60:.0f}",
        "processes": str(processes),
        "device": device_name(),
        "command": args.command,
        "held_out": f"{clips} held-out clip{'s' * (clips != 1)}",
        "figures": f"| figure | value |\n|---|---|\n{rows}" if rows else "",
    }


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def is_local(name: str) -> bool:
    return name in SETS or Path(name).exists()


def dataset_name(args) -> str:
    return "+".join(public(name) for name in set_names(args.dataset))


def public(name: str) -> str:
    """Of a folder its name, and not where it lies on this machine; of a set on the Hub all of it."""
    return Path(name).resolve().name if Path(name).exists() else name


def card_metadata(method: str, args, facts: dict[str, str]) -> ModelCardData:
    """
    What the Hub's search and filters see, and the run in numbers: time, machine, command. `facts` are those of
    `run_facts`. No licence but the one that was given: whose the clips were we cannot know. No `datasets` but one that
    the Hub has.
    """
    numbers = {name: int(facts[name]) for name in ("steps", "minutes", "cpu_minutes", "processes")}
    told = {name: facts[name] for name in ("device", "command", "dataset")}
    return ModelCardData(
        # diffusers' own snippet on the Hub's page would not load us
        library_name="divid_diffusers",
        license=args.license or None,
        pipeline_tag="video-to-video",
        tags=["diffusers", "video", "disentanglement", method],
        datasets=[name for name in set_names(args.dataset) if not is_local(name)] or None,
        training=numbers | told,
    )


def write_model_card(output_dir: Path, args, facts: dict[str, str]) -> None:
    """`facts` are those of `run_facts`."""
    metadata = card_metadata("divid", args, facts)
    table = (
        f"On {facts['held_out']}, decoded from pure noise in {args.num_inference_steps} steps:\n\n{facts['figures']}"
    )
    labels = LABELS.format(label=args.pair_by, share=args.labelled_share) if args.pair_by else ""
    own = {"figures": table if facts["figures"] else "", "labels": labels, "start": RELATIVE if args.residual else ""}
    text = TEXT.format(**facts | own, metadata=metadata.to_yaml())
    save_card(text, output_dir)


def save_card(text: str, output_dir: Path) -> None:
    ModelCard(text).save(output_dir / ".partial-README.md")
    (output_dir / ".partial-README.md").replace(output_dir / "README.md")


def write_baseline_card(output_dir: Path, args, facts: dict[str, str]) -> None:
    """`facts` are those of `run_facts`."""
    metadata = card_metadata(args.method, args, facts)
    with_vgg = args.form == "divid" and args.perceptual_weight
    figures = facts["figures"] and f"On {facts['held_out']}:\n\n{facts['figures']}\n"
    text = BASELINE_TEXT.format(
        **facts | {"figures": figures},
        metadata=metadata.to_yaml(),
        method=SOURCES[args.method],
        form=FORMS[args.form],
        perceptual=f"VGG perceptual loss, weight {args.perceptual_weight:g}" if with_vgg else "no perceptual loss",
    )
    save_card(text, output_dir)
