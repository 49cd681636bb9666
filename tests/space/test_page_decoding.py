"""The page decodes as the pipeline does, also where the decoder looks at the static frame."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_directions, tiny_pipeline


SPACE = Path(__file__).parents[2] / "examples" / "space"

# `decoding` loads its checkpoint when it is imported, so each checkpoint needs a process.
ANSWERS = """
import sys
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
import decoding
a, b = np.load("clips.npy")
settings = decoding.Settings("DDIM", 2, 0, 1.0, 1.0)
quiet = lambda *_, **__: None
pipe = decoding.PIPE
pipe.scheduler = decoding.DDIMScheduler.from_config(pipe.scheduler.config)
pipe.set_progress_bar_config(disable=True)

def by_pipeline(make, *arguments, **options):
    generator = torch.Generator().manual_seed(0)
    clips = make(*arguments, num_inference_steps=2, generator=generator, **options).frames
    return decoding.to_array(clips[0])

asked = {"dynamic 1": 2.0}
pairs = {
    "swap": (decoding.swap([a], [b], settings, quiet)[0], by_pipeline(pipe.swap, a, b)),
    "motion": (decoding.interpolate(a, b, "motion", 1.0, settings, quiet), by_pipeline(pipe.swap, a, b)),
    "identity": (
        decoding.interpolate(a, b, "identity", 1.0, settings, quiet), by_pipeline(pipe.swap, b, a, reference=None)
    ),
    "route": (decoding.route(a, b, settings, quiet)[0], by_pipeline(pipe.swap, a, b)),
    "edit": (decoding.edit(a, asked, settings, quiet), by_pipeline(pipe.edit, a, asked)),
    "edit of s": (
        decoding.edit(a, {"static 1": 2.0}, settings, quiet), by_pipeline(pipe.edit, a, {"static 1": 2.0})
    ),
    "alone": (decoding.swap([a], [b], settings, quiet)[0], by_pipeline(pipe.swap, a, b, reference=None)),
}
for name, (page, pipeline) in pairs.items():
    print("ANSWER", name, np.abs(page.astype(int) - pipeline).max())
"""


def test_the_page_shows_what_the_pipeline_makes_of_a_frame_that_it_looks_at(tmp_path):
    pytest.importorskip("gradio", reason="The Space needs gradio: pip install -r examples/space/requirements.txt")
    torch.manual_seed(0)
    pipe = tiny_pipeline(prediction_type="sample", reference_frame=True, static_dropout=0.1)
    for parameter in (pipe.unet.conv_in.weight, pipe.unet.conv_out.weight, pipe.unet.conv_out.bias):
        torch.nn.init.normal_(parameter, std=0.3)  # so that the frame, the flow and the mask all matter
    pipe.register_modules(directions=tiny_directions(pipe.encoder))
    pipe.save_pretrained(tmp_path / "model")
    np.save(tmp_path / "clips.npy", np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16, 3), dtype=np.uint8))
    out = subprocess.run(
        [sys.executable, "-c", ANSWERS, str(SPACE)], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"DIVID_MODEL": str(tmp_path / "model"), "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    found = dict(line.removeprefix("ANSWER ").rsplit(" ", 1) for line in out.stdout.splitlines() if "ANSWER" in line)
    differences = {name: int(value) for name, value in found.items()}
    assert differences.pop("alone") > 20  # what the frame changes
    assert differences == dict.fromkeys(("swap", "motion", "identity", "route", "edit", "edit of s"), 0)
