"""The model card of a trained baseline."""

from pathlib import Path

from huggingface_hub import ModelCard

from .card import card_metadata


SOURCES = {
    "dbse": "[DBSE](https://arxiv.org/abs/2406.18131) (Berman et al., ICML 2024)",
    "spyl": "[SPYL](https://arxiv.org/abs/2305.15924) (Naiman et al., ICML 2023)",
}
FORMS = {
    "divid": "with DiViD's image encoder and a decoder that mirrors it, as the DiViD paper compares it (our reading)",
    "published": "in its own published size",
}
TEXT = """---
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


def write_baseline_card(output_dir: Path, args, facts: dict[str, str]) -> None:
    """`facts` are those of `run_facts`."""
    metadata = card_metadata(args.method, args, facts)
    with_vgg = args.form == "divid" and args.perceptual_weight
    figures = facts["figures"] and f"On {args.num_validation_clips} held-out clips:\n\n{facts['figures']}\n"
    text = TEXT.format(
        **facts | {"figures": figures},
        metadata=metadata.to_yaml(),
        method=SOURCES[args.method],
        form=FORMS[args.form],
        perceptual=f"VGG perceptual loss, weight {args.perceptual_weight:g}" if with_vgg else "no perceptual loss",
    )
    ModelCard(text).save(output_dir / "README.md")
