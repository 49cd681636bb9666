"""Fine-tune a checkpoint on a folder of videos: `python examples/fine_tune.py my_videos outputs/mine`.

Prepares the clips and trains on them, as the two commands it prints would. Needs `divid_diffusers[data,training]`.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path


HERE = Path(__file__).parent
parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
parser.add_argument("videos", help="A folder of videos, of one person, animal or thing each.")
parser.add_argument("output_dir")
parser.add_argument("--model", default=str(HERE / "divid-puppets-reference"), help="Where training starts.")
parser.add_argument("--max_train_minutes", default="20")
parser.add_argument("--hub_token", help="Default: the token of `hf auth login`. Never printed.")
args, training_flags = parser.parse_known_args()  # others go to train_divid.py
environment = os.environ | ({"HF_TOKEN": args.hub_token} if args.hub_token else {})

dataset = str(Path(args.output_dir) / "clips")
commands = [
    [sys.executable, HERE.parent / "training" / "prepare/videos.py", "--input", args.videos, "--output_dir", dataset],
    [
        *("accelerate", "launch", HERE.parent / "training" / "train_divid.py"),
        *("--dataset", dataset, "--pretrained_model_name_or_path", args.model, "--output_dir", args.output_dir),
        *("--max_train_minutes", args.max_train_minutes),
        *training_flags,
    ],
]
for command in (list(map(str, words)) for words in commands):
    print("$", shlex.join(command), flush=True)
    with subprocess.Popen(command, env=environment) as running:
        try:
            running.wait()
        except KeyboardInterrupt:  # the trainer hears it, too, and saves what it learned
            running.wait()
    if running.returncode:
        raise SystemExit(running.returncode)
