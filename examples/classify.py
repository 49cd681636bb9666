"""Name motions and hair from frozen tokens, with scikit-learn: which token tells what? Needs the extra `eval`."""

import argparse
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from divid_diffusers import DiViDPipeline
from divid_diffusers.data.puppets import Appearance, Puppets


parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
parser.add_argument("--model", default=str(Path(__file__).parent / "divid-puppets-tiny"))
parser.add_argument("--num_clips", type=int, default=600, help="For training; a third as many are named.")
args = parser.parse_args()

pipe = DiViDPipeline.from_pretrained(args.model)
codes, labels = {}, {}
for split, count in (("train", args.num_clips), ("test", args.num_clips // 3)):
    clips = list(Puppets(count, split=split))
    with torch.no_grad():
        batches = [pipe.encode([clip["frames"] for clip in clips[i : i + 32]]) for i in range(0, count, 32)]
    static = torch.cat([tokens.static for tokens in batches])
    dynamic = torch.cat([tokens.dynamic for tokens in batches]).flatten(1)
    codes[split] = {"s": static.numpy(), "d": dynamic.numpy()}
    long_hair = [Appearance.sample(clip["identity"]).long_hair for clip in clips]
    labels[split] = {"motion": [clip["action"] for clip in clips], "long hair": long_hair}

for label in labels["train"]:
    for token in ("s", "d"):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
        classifier.fit(codes["train"][token], labels["train"][label])
        accuracy = classifier.score(codes["test"][token], labels["test"][label])
        print(f"{label} from {token}: {accuracy:.0%} of {args.num_clips // 3}")
