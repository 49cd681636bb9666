"""
The evaluators of MSD-Benchmark on checkpoints of this package, and on two tricks without a network: see docs/msd.md.

python examples/msd_benchmark.py --msd MSD-Benchmark --dataset data/sprites
"""

import argparse
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.ensemble import GradientBoostingClassifier

from divid_diffusers.data.prepared import load_clips
from divid_diffusers.data.sampling import draw_clips, evenly_spaced
from divid_diffusers.evaluation.floors import pixel_residual
from divid_diffusers.evaluation.protocol import load_model
from divid_diffusers.flags import SEED, whole
from divid_diffusers.models.judge import ClipJudge


HERE, BATCH = Path(__file__).parent, 32
SPRITES = ("divid-sprites-tiny", "baselines/dbse-sprites-tiny", "baselines/spyl-sprites-tiny")

parser = argparse.ArgumentParser(description=__doc__.splitlines()[1], allow_abbrev=False)
parser.add_argument("--msd", type=Path, required=True, help="A clone of github.com/azencot-group/MSD-Benchmark.")
parser.add_argument("--dataset", required=True, help="A prepared set with the labels that the judge names.")
parser.add_argument("--models", nargs="+", default=[str(HERE / name) for name in SPRITES], metavar="PATH")
parser.add_argument("--judge", default=str(HERE / "judge-sprites"), help="What train_judge.py saved.")
parser.add_argument("--num_clips", type=whole(2), default=200, help="Test clips, drawn with --seed.")
parser.add_argument("--seed", type=SEED, default=0, help="Of the clips, of who is swapped with whom, of the noise.")
args = parser.parse_args()

if not args.msd.is_dir():
    parser.error(f"--msd: there is no folder {args.msd}: clone https://github.com/azencot-group/MSD-Benchmark there.")
sys.path.insert(0, str(args.msd))
try:
    from msd.evaluations.judge.judge import Judge
    from msd.evaluations.latent_exploration.explorers.skd_predictor_latent_explorer import (
        PredictorLatentExplorerStaticDynamic,
    )
    from msd.evaluations.metrics.dci_evaluator import DCIEvaluator
    from msd.evaluations.metrics.intervention.multi_factor_intervention import MultiFactorSwap
    from msd.evaluations.metrics.intervention.two_factor_intervention import TwoFactorSample, TwoFactorSwap
    from msd.methods.abstract_model import AbstractModel
    from msd.utils.loggers.base_logger import CompositeLogger
except ImportError as error:
    name = error.name or str(error)
    if name.partition(".")[0] == "msd":
        parser.error(f"--msd: {args.msd} is not laid out as MSD-Benchmark was at commit da5ba28 ({error}).")
    parser.error(f"MSD-Benchmark needs {name}, which is not installed: its requirements.txt says which version.")


class Model(AbstractModel):
    """A [`Disentangler`] as MSD-Benchmark sees models: a clip is one row of channels, [s, d_1 .. d_N]."""

    def __init__(self, model, clips: torch.Tensor):
        super().__init__()
        self.model = model
        static, dynamic = model.encode(clips[:1])
        self.num_static, self.dynamic_shape = static.shape[1], dynamic.shape[1:]

    def latent_dim(self) -> int:
        return self.num_static + prod(self.dynamic_shape)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        codes = [self.model.encode(clips) for clips in x.split(BATCH)]
        return torch.cat([torch.cat([static, dynamic.flatten(1)], dim=1) for static, dynamic in codes])

    latent_vector = encode

    def latent_vector_splited_static_dynamic(self, x: torch.Tensor):
        """What their explorer for models with a known split asks for: both codes, and which channels they are."""
        codes, split = self.encode(x), self.num_static
        return codes[:, :split], codes[:, split:], range(split), range(split, codes.shape[1])

    def decode(self, Z: torch.Tensor) -> torch.Tensor:
        codes = [rows.tensor_split([self.num_static], dim=1) for rows in Z.split(BATCH)]
        return torch.cat([self.model.decode(s, d.unflatten(1, self.dynamic_shape)) for s, d in codes])

    def sample(self, Z: torch.Tensor) -> torch.Tensor:
        static, dynamic = self.model.sample_static(len(Z)), self.model.sample_dynamic(len(Z), self.dynamic_shape[0])
        return torch.cat([static, dynamic.flatten(1)], dim=1)

    def swap_channels(self, Z1: torch.Tensor, Z2: torch.Tensor, C) -> tuple[torch.Tensor, torch.Tensor]:
        one, other = Z1.clone(), Z2.clone()
        one[:, C], other[:, C] = Z2[:, C], Z1[:, C]
        return one, other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))


class Trick:
    """A rule from static and dynamic donors to clips. Its codes are only the places of the donors among `clips`."""

    def __init__(self, name: str, rule, clips: torch.Tensor):
        self.name, self.rule, self.clips = name, rule, clips
        self.places = {clip.numpy().tobytes(): place for place, clip in enumerate(clips)}

    def encode(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        static = torch.tensor([[float(self.places[clip.numpy().tobytes()])] for clip in clips])
        return static, static[:, None].expand(-1, clips.shape[1], -1)

    def decode(self, static: torch.Tensor, dynamic: torch.Tensor) -> torch.Tensor:
        return self.rule(self.clips[static[:, 0].long()], self.clips[dynamic[:, 0, 0].long()])


class OurJudge(Judge):
    """Class numbers `(B,)` of every factor; its names are of whole clips, so that Consistency cannot be measured."""

    def __init__(self, judge: ClipJudge):
        self.judge = judge

    def __call__(self, clips: torch.Tensor, frame_level: bool = False) -> dict[str, torch.Tensor]:
        if frame_level:
            raise ValueError("The judge names whole clips: evaluators of single frames cannot be run with it.")
        return {factor: each.argmax(dim=1) for factor, each in self.judge.predict(clips).items()}


class Labelled:
    """What evaluators ask of a data set: which factors it has, of what kind, with how many classes."""

    def __init__(self, factors: dict[str, list[str]], num_clips: int):
        kinds = {factor: "dynamic" if factor == "action" else "static" for factor in factors}
        self.classes = {factor: {"type": kind} for factor, kind in kinds.items()}
        self.class_dims = {factor: len(names) for factor, names in factors.items()}
        self.static_factors = [factor for factor, kind in kinds.items() if kind == "static"]
        self.num_clips = num_clips

    def __len__(self) -> int:
        return self.num_clips


torch.set_flush_denormal(True)
try:
    test, judge = load_clips(args.dataset, "test"), ClipJudge.from_pretrained(args.judge)
    models = [load_model(Path(path).name, path, args.seed) for path in args.models]
except (OSError, ValueError) as error:
    parser.error(str(error))
factors = judge.config.factors
for factor in ("action", *factors):
    if test.labels.get(factor, ()) != factors.get(factor):
        parser.error(f"{args.dataset} and {args.judge} must have the same labels, action among them: see {factor!r}.")
items = draw_clips(test, args.num_clips, args.seed)
clips = evenly_spaced(items, judge.config.num_frames).float() / 255
labels = {factor: torch.tensor([item[factor] for item in items]) for factor in factors}
named = OurJudge(judge)
print(judge.describe())
right = ((factor, (told == labels[factor]).float().mean()) for factor, told in named(clips).items())
print(f"Named right of {len(clips)} real clips:", *(f"{factor} {share:.3f}" for factor, share in right))

# One batch of all clips: their explorer looks at the last one only.
dataset = Labelled(factors, len(clips))
static_labels = {factor: labels[factor] for factor in dataset.static_factors}
batches = [(clips, static_labels, {"action": labels["action"]})]
tricks = [
    Trick("copy of the static donor", lambda static, dynamic: static, clips),
    Trick("pixel residual", pixel_residual, clips),
]
config = SimpleNamespace(device="cpu")
initializer = SimpleNamespace(config=config, get_dataset=lambda split, **options: (dataset, batches))
for model in (*tricks, *models):
    manager = SimpleNamespace(
        model=Model(model, clips),
        logger=CompositeLogger([]),
        testing=True,
        get_judge=lambda: named,
        create_predictor=lambda: GradientBoostingClassifier(max_depth=3),  # as in their configurations
    )
    explorer = PredictorLatentExplorerStaticDynamic(initializer, "test", manager, batch_exploration=False)
    manager.get_latent_explorer = lambda: explorer
    runs = [(TwoFactorSwap, {})]
    if hasattr(model, "sample_static"):  # it has a prior
        runs += [(TwoFactorSample, {})]
    if model in models:  # a trick's codes, which are places, have no parts
        runs += [(MultiFactorSwap, {}), (DCIEvaluator, {"test_size": 0.2, "random_state": 42})]
    for evaluator, options in runs:
        torch.manual_seed(args.seed)  # the same swaps for every model
        np.random.seed(args.seed)
        scores, table = evaluator(initializer, "test", manager, **options).eval(epoch=0)
        print(f"\n{model.name}, {evaluator.__name__}:", *(f"{name} {score:.3f}" for name, score in scores.items()))
        print(table.drop(columns="subset").to_string(float_format="%.3f"), flush=True)
