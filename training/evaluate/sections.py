"""
What `evaluate.py` measures, section by section: each takes a model and a [`Bench`] and gives a dict ready for JSON.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from divid_diffusers.data.sampling import draw_clips, evenly_spaced, sample_frame_indices
from divid_diffusers.evaluation.bottleneck import token_bottleneck
from divid_diffusers.evaluation.label_free import Features, score_label_free
from divid_diffusers.evaluation.leakage import LabelledCodes, measure_leakage
from divid_diffusers.evaluation.protocol import PipelineDisentangler
from divid_diffusers.evaluation.reconstruction import motion_error, perceptual_distance, psnr, ssim
from divid_diffusers.evaluation.routing_maps import routing_maps, routing_strip
from divid_diffusers.evaluation.sample_quality import sprites_protocol
from divid_diffusers.evaluation.statistics import mean_interval
from divid_diffusers.evaluation.swap_test import NearestClipJudge, check_labels, harder_pairs, swap_test
from divid_diffusers.evaluation.true_swap import TrueClips, score_true_swaps
from divid_diffusers.models.judge import ClipJudge


BATCH = 32  # clips decoded at once
SAMPLINGS = 4  # of the frames of a training clip, for the leakage probes
# Of what takes long, so many clips and pairs, drawn with the seed: `Bench.some`.
INVERTED_CLIPS, INVERSION_STEPS = 32, 20  # inversion takes two passes, of more steps than decoding
BOTTLENECK_CLIPS, BOTTLENECK_TIMES = 48, 11
ROUTED_CLIPS = 8
TRUE_SWAPS = 200
LABEL_FREE_SWAPS = 100
HARDER_PAIRS = 300
OF_FLOORS = ("swap", "true_swap")  # sections in which tricks are measured beside models


class NotMeasured(Exception):
    """Why a section cannot be measured for this model or this set: a sentence."""


@dataclass
class Bench:
    """
    Everything the models share.

    Attributes:
        train (`list[dict]`): whole training clips, drawn for the leakage probes and for retrieval.
        items (`list[dict]`): the held-out clips, and `clips` (`(B, N, C, H, W)` in [0, 1]) their evenly spaced frames.
        pairs: (static donor, dynamic donor) by place in `items`; none where there is one clip.
        judge: or None, which leaves the sections that need one out.
        other_judges: asked for swaps as well, by name.
        model_with_floors: beside whose leakage that of raw pixels is measured: it is the same for all, and slow.
        true_clip: gives the true clip of any pair, or why it cannot.
        label_free: features of identity and of motion, if they were asked for.
    """

    train: list[dict]
    items: list[dict]
    clips: torch.Tensor
    pairs: list[tuple[int, int]]
    static_factors: list[str]
    dynamic_factors: list[str]
    judge: ClipJudge | None
    other_judges: dict[str, ClipJudge]
    true_clip: TrueClips | NotMeasured
    label_free: tuple[Features, Features] | None
    model_with_floors: str
    seed: int
    out: Path
    factors: dict[str, list[int]] = field(init=False)

    def __post_init__(self):
        names = [*self.static_factors, *self.dynamic_factors]
        self.factors = {name: [item[name] for item in self.items] for name in names}

    def train_clips(self) -> torch.Tensor:
        """`(T, N, C, H, W)` in [0, 1], evenly spaced frames."""
        return evenly_spaced(self.train, self.clips.shape[1]).float() / 255

    def samplings(self) -> list[torch.Tensor]:
        """The training clips as `train_clips` and, where they have more frames than N, by other frames as well."""
        num_frames = self.clips.shape[1]
        samplings = [self.train_clips()]
        for number in range(1, SAMPLINGS if any(len(item["frames"]) > num_frames for item in self.train) else 1):
            parts = []
            for index, item in enumerate(self.train):
                rng = np.random.default_rng((self.seed, number, index))
                parts.append(item["frames"][sample_frame_indices(len(item["frames"]), num_frames, rng, "uniform")])
            samplings.append(torch.stack(parts).float() / 255)
        return samplings

    def some(self, things: Sequence, count: int) -> list:
        """
        `count` of them, the same for every model, at random: clips and pairs are sorted, and the first are of few
        people.
        """
        return draw_clips(things, count, self.seed)

    def some_clips(self, count: int) -> torch.Tensor:
        return self.clips[self.some(range(len(self.clips)), count)]

    def some_pairs(self, count: int) -> tuple[list[int], list[int]]:
        """Static and dynamic donors."""
        if not self.pairs:
            raise NotMeasured("There is a single test clip, and nothing to swap it with: keep more clips for test.")
        a, b = zip(*self.some(self.pairs, count), strict=True)
        return list(a), list(b)


def leakage(model: PipelineDisentangler, bench: Bench) -> dict:
    if not bench.static_factors or not bench.dynamic_factors:
        raise NotMeasured("The clips have no labels to probe for.")
    with_floors = model.name == bench.model_with_floors
    codes = []
    for items, samplings in ((bench.train, bench.samplings()), (bench.items, [bench.clips])):
        clips = torch.cat(samplings)
        static, dynamic = zip(*(model.tokens(batch) for batch in clips.split(BATCH)), strict=True)
        labels = [
            {name: np.array([item[name] for item in items] * len(samplings)) for name in names}
            for names in (bench.static_factors, bench.dynamic_factors)
        ]
        # Of people that test clips do not show, probes are validated on other people, too.
        same = [item.get("identity", i) if "identity" not in bench.factors else i for i, item in enumerate(items)]
        codes.append(
            LabelledCodes(
                torch.cat(static).numpy(),
                torch.cat(dynamic).numpy(),
                *labels,
                np.array(same * len(samplings)),
                clips if with_floors else None,
            )
        )
    try:
        return measure_leakage(*codes, seed=bench.seed)
    except ValueError as error:
        raise NotMeasured(str(error)) from error


def reconstruction(model: PipelineDisentangler, bench: Bench) -> dict:
    start = time.perf_counter()
    decoded = [model.decode(*model.encode(batch)) for batch in bench.clips.split(BATCH)]
    seconds = (time.perf_counter() - start) / len(bench.clips)
    result = {"from pure noise": closeness(bench, bench.clips, torch.cat(decoded)), "seconds_per_clip": seconds}
    if hasattr(model.pipe, "invert") and not model.tokens_alone:  # inversion looks where the decoder can
        chosen = bench.some(range(len(bench.clips)), INVERTED_CLIPS)
        truth = bench.clips[chosen]
        noise = model.pipe.invert(truth, num_inference_steps=INVERSION_STEPS)
        options = {"num_inference_steps": INVERSION_STEPS, "latents": noise, "output_type": "pt"}
        inverted = model.pipe.reconstruct(truth, **options).frames.float().cpu()
        if len(truth) < len(bench.clips):
            result["from pure noise, the same clips"] = closeness(bench, truth, torch.cat(decoded)[chosen])
        result["from inverted noise"] = closeness(bench, truth, inverted) | {"steps": INVERSION_STEPS}
    return result


def closeness(bench: Bench, truth: torch.Tensor, decoded: torch.Tensor) -> dict:
    """Means over clips as [mean, half width of the 95 % interval]."""
    measures = {"psnr": psnr, "ssim": ssim, "motion_error": motion_error}
    if bench.judge is not None:
        measures["perceptual_distance"] = lambda *pair: perceptual_distance(*pair, bench.judge.feature_maps)
    with torch.no_grad():
        values = {name: mean_interval(measure(truth, decoded).tolist()) for name, measure in measures.items()}
    return {"n": len(truth)} | {name: list(value) for name, value in values.items()}


def swap(model: PipelineDisentangler, bench: Bench) -> dict:
    if bench.judge is None:
        raise NotMeasured("There is no judge: train one with train_judge.py and give --judge.")
    bench.some_pairs(1)
    try:
        check_labels(bench.factors, len(bench.clips), bench.static_factors, bench.dynamic_factors)
    except ValueError as error:
        raise NotMeasured(str(error)) from error
    harder = harder_pairs(bench.clips, bench.factors, HARDER_PAIRS, bench.seed)
    labels = {name: [item[name] for item in bench.train] for name in bench.factors}
    return swap_test(
        model,
        bench.judge.predict,
        bench.clips,
        bench.factors,
        bench.static_factors,
        bench.dynamic_factors,
        bench.pairs,
        BATCH,
        lambda batches: tqdm(batches, total=-(-(len(bench.pairs) + len(harder)) // BATCH), desc="swaps", unit="batch"),
        harder,
        [item["identity"] for item in bench.items] if "identity" in bench.items[0] else None,
        {name: judge.predict for name, judge in bench.other_judges.items()}
        | {"nearest training clip": NearestClipJudge(bench.train_clips(), labels)},
        bench.judge.texture,
    )


def true_swap(model: PipelineDisentangler, bench: Bench) -> dict:
    if isinstance(bench.true_clip, NotMeasured):
        raise bench.true_clip
    a, b = bench.some_pairs(TRUE_SWAPS)
    swaps = decode_swaps(model, bench, a, b)
    donors = [bench.items[i] for i in a], [bench.items[j] for j in b]
    features = None if bench.judge is None else bench.judge.feature_maps
    return score_true_swaps(swaps, *donors, bench.true_clip, features)


def decode_swaps(model: PipelineDisentangler, bench: Bench, static_donors: list[int], dynamic_donors: list[int]):
    """Clips `(B, N, C, H, W)` in [0, 1], by the donors' places among the held-out clips."""
    static, dynamic = (torch.cat(parts) for parts in zip(*map(model.encode, bench.clips.split(BATCH)), strict=True))
    parts = zip(static[static_donors].split(BATCH), dynamic[dynamic_donors].split(BATCH), strict=True)
    return torch.cat([model.decode(*part) for part in parts])


def prior(model: PipelineDisentangler, bench: Bench) -> dict:
    if bench.judge is None:
        raise NotMeasured("There is no judge: train one with train_judge.py and give --judge.")
    if not hasattr(model, "sample_static"):
        raise NotMeasured("This model has no prior to draw the other code from; its swaps are scored instead.")
    return asdict(sprites_protocol(model, bench.judge.predict, bench.clips, bench.factors, 3, BATCH, bench.seed))


def bottleneck(model: PipelineDisentangler, bench: Bench) -> dict:
    if not hasattr(model.pipe, "unet"):
        raise NotMeasured("This model decodes in one pass: there is no t.")
    last = model.pipe.scheduler.config.num_train_timesteps - 1
    times = np.linspace(0, last, BOTTLENECK_TIMES).round().astype(int).tolist()
    if len(bench.clips) < 2:
        raise NotMeasured(
            "Tokens must come from another clip, but there is a single test clip: keep more clips for test."
        )
    return token_bottleneck(model.pipe, bench.some_clips(BOTTLENECK_CLIPS), times, bench.seed)


def routing(model: PipelineDisentangler, bench: Bench) -> dict:
    """Mean weight on s by resolution and step; and a picture, which JSON cannot hold."""
    if not hasattr(model.pipe, "unet") or not model.pipe.unet.config.cross_attention:
        raise NotMeasured("This model has no attention between tokens to look at.")
    clips = bench.some_clips(ROUTED_CLIPS)
    with torch.no_grad():
        tokens = model.pipe.encode(clips)
    generator = torch.Generator().manual_seed(bench.seed)
    options = {"reference": tokens.reference, "generator": generator, "output_type": "pil"}
    output, maps = routing_maps(model.pipe, tokens.static, tokens.dynamic, **options)
    steps = len(next(iter(maps.values())))
    middle = clips.shape[1] // 2
    pictures = {}
    for side, weights in maps.items():
        strip = routing_strip(output.frames[0][middle], weights[:, middle], [0, steps // 2, steps - 1])
        pictures[str(side)] = f"routing_{model.name}_{side}.png"
        strip.resize((strip.width * 3, strip.height * 3), 0).save(bench.out / pictures[str(side)])
    return {
        "n": len(clips),
        "weight_on_static": {str(side): w.mean(dim=(1, 2, 3)).tolist() for side, w in maps.items()},
        "pictures": pictures,
    }


def label_free(model: PipelineDisentangler, bench: Bench) -> dict:
    if bench.label_free is None:
        raise NotMeasured("Asked for with --identity_model or --motion_model only: the models are downloaded.")
    a, b = bench.some_pairs(LABEL_FREE_SWAPS)
    swaps = decode_swaps(model, bench, a, b)
    return asdict(score_label_free(bench.clips[a], bench.clips[b], swaps, *bench.label_free))


# In this order: what fails on bad labels or codes fails before hours of decoding.
SECTIONS = {
    each.__name__: each for each in (leakage, reconstruction, bottleneck, routing, swap, true_swap, prior, label_free)
}
