"""How long a frame of a rendered person takes, in processor time of one core.

python benchmarks/people.py --sizes 64 128
"""

import argparse
import os
import platform
import time
from importlib.metadata import version

import numpy as np
import torch

from divid_diffusers.data.people import EXPRESSIONS, Person, render
from divid_diffusers.flags import whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--sizes", type=whole(16), nargs="+", default=[64, 128])
    parser.add_argument("--num_clips", type=whole(2), default=16, help="Of 15 frames, each of another person.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("LP_NUM_THREADS", "0")  # as training/prepare/people.py has it
    print(f"{platform.machine()}, torch {torch.__version__}, anny {version('anny')}, moderngl {version('moderngl')}\n")
    print("| size | ms a frame, median | frames/s a core |\n|---|---|---|")
    for size in args.sizes:
        taken = []
        for clip in range(-1, args.num_clips):  # the first starts OpenGL
            person, expression = Person.sample(max(clip, 0)), EXPRESSIONS[clip % len(EXPRESSIONS)]
            start = time.process_time()  # other programs take the machine's time, and not the frame's
            frames = render(person, expression, "3", seed=clip, size=size)
            taken.append((time.process_time() - start) / len(frames))
        frame = np.median(taken[1:])
        print(f"| {size} | {frame * 1e3:.1f} | {1 / frame:.1f} |")


if __name__ == "__main__":
    main()
