"""Every clip of a folder as a row of features: `python examples/encode_folder.py my_videos features.parquet`.

A row per clip: its file or folder of frames, s as the columns s0, s1, ..., and the mean of d over time as d0, d1, ....
Clips are found as `training/prepare/videos.py` finds them. Needs `divid_diffusers[data]`.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm.auto import tqdm

from divid_diffusers import DiViDPipeline
from divid_diffusers.clips.folder import find_clips
from divid_diffusers.clips.writing import check_writable, written_whole


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
parser.add_argument("folder", type=Path)
parser.add_argument("output", type=Path, help="A Parquet file; pandas.read_parquet reads it.")
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-tiny"))
args = parser.parse_args()
try:
    check_writable(args.output.absolute())
    clips, skipped = find_clips(args.folder)
except OSError as error:
    raise SystemExit(str(error)) from None
for name, reason in skipped.items():
    print(f"Skipped: {name}: {reason}")
if not clips:
    raise SystemExit(f"{args.folder} holds no video, GIF or folder of frame images.")

pipe = DiViDPipeline.from_pretrained(args.model)
names, rows = [], []
for name in tqdm(clips, unit="clip"):
    try:
        with torch.no_grad():
            tokens = pipe.encode(str(args.folder / name))
    except (ValueError, TypeError, OSError) as error:  # damaged: the others are still read
        print(f"Skipped: {error}")
        continue
    names.append(name)
    rows.append(torch.cat([tokens.static[0], tokens.dynamic[0].mean(dim=0)]).cpu())
if not rows:
    raise SystemExit(f"None of the {len(clips)} clips of {args.folder} can be read.")

width = pipe.encoder.config.static_dim
table = torch.stack(rows).float().numpy()
columns = {"file": names} | {(f"s{i}" if i < width else f"d{i - width}"): table[:, i] for i in range(table.shape[1])}
with written_whole(args.output) as partial:
    pq.write_table(pa.table(columns), partial)
print(f"Wrote {len(rows)} clips to {args.output}.")
