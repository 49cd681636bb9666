"""Train a prior over the tokens of a checkpoint, so that it can make up people and motions, and add it to its folder.

    python training/train_prior.py --model outputs/mine --dataset data/mine

Every training clip is encoded several times, by other frames, and the prior learns from those tokens alone: minutes on
a CPU. What is kept is the step with the lowest loss on validation clips; then the prior draws as many clips as there
are of those, and it is said how near both come to training clips. A stopped run changes nothing and starts anew.
"""

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers.training_utils import EMAModel
from tqdm.auto import tqdm
from trainer.checkpoints import all_finite
from trainer.clips import open_clips

from divid_diffusers import DiViDPipeline, DiViDTokenPrior, DiViDTokens
from divid_diffusers.data.puppets import SETS
from divid_diffusers.data.sampling import SampledClips, evenly_spaced
from divid_diffusers.flags import SEED, whole
from divid_diffusers.models.encoder_signature import encoder_signature
from divid_diffusers.pipelines.saving import add_component


BATCH, LEARNING_RATE, WARM_UP, EVERY = 64, 1e-3, 200, 200
FULL_LENGTH = 0.7  # of the sequences; the rest are cut short
KINDS = (0.4, 0.2, 0.2, 0.2)  # nothing given, s, all d, the first few d (half of them with s)
VALIDATIONS = 8  # passes over the validation clips, with the same draws every time


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", type=Path, required=True, help="A folder with a DiViDPipeline.")
    parser.add_argument("--dataset", required=True, help=f"The set that it was trained on, or {', '.join(SETS)}.")
    parser.add_argument("--num_frames", type=whole(1), default=10, help="Of a clip: the most that can be drawn.")
    parser.add_argument("--num_puppets", type=whole(1), default=2000, help="Clips, where the set is drawn.")
    parser.add_argument("--samplings", type=whole(1), default=4, help="How often a clip is encoded.")
    parser.add_argument("--max_train_steps", type=whole(1), default=3000, help=f"Of {BATCH} sequences.")
    parser.add_argument("--seed", type=SEED, default=0)
    return parser.parse_args(argv)


@torch.no_grad()
def encoded(pipe: DiViDPipeline, batches) -> DiViDTokens:
    tokens = [pipe.encode(batch) for batch in batches]
    return DiViDTokens(
        static=torch.cat([each.static for each in tokens]), dynamic=torch.cat([each.dynamic for each in tokens])
    )


def tokens_of(pipe: DiViDPipeline, args) -> tuple[DiViDTokens, DiViDTokens, DiViDTokens]:
    """Of training clips by random frames, of the same by evenly spaced ones, of validation clips."""
    sets = SimpleNamespace(**vars(args), num_validation_clips=200, puppet_size=pipe.frame_shape[1])
    train, validation, shape = open_clips(sets)
    if shape != pipe.frame_shape:
        raise SystemExit(
            f"{args.model} takes frames of (channels, size) {pipe.frame_shape}, and {args.dataset} has {shape}."
        )
    sampled = SampledClips(train, args.num_frames, args.seed)
    number = len(train) * args.samplings

    def at_random():
        for first in tqdm(range(0, number, 64), desc="encoding", unit="batch"):
            yield torch.stack([sampled[position] for position in range(first, min(first + 64, number))])

    def evenly(clips):
        for first in range(0, len(clips), 64):
            some = [clips[index] for index in range(first, min(first + 64, len(clips)))]
            yield evenly_spaced(some, args.num_frames)

    return encoded(pipe, at_random()), encoded(pipe, evenly(train)), encoded(pipe, evenly(validation))


def draw(num_clips: int, num_frames: int, prior: DiViDTokenPrior, generator) -> dict:
    """Everything random in a batch: which tokens are given `(B, N + 1)`, t `(B,)`, the noise."""

    def uniform(*shape):
        return torch.rand(shape, generator=generator)

    kind = torch.multinomial(torch.tensor(KINDS), num_clips, replacement=True, generator=generator)
    known = (uniform(num_clips) * num_frames).long()  # of d, fewer than all
    known = torch.where(kind == 3, known, torch.where(kind == 2, num_frames, 0))
    with_static = (kind == 1) | ((kind == 3) & (uniform(num_clips) < 0.5))
    noise = DiViDTokens(
        static=torch.randn(num_clips, prior.config.static_dim, generator=generator),
        dynamic=torch.randn(num_clips, num_frames, prior.config.dynamic_dim, generator=generator),
    )
    return {
        "given": torch.cat([with_static[:, None], torch.arange(num_frames) < known[:, None]], dim=1),
        "timesteps": torch.randint(len(prior.noise_scheduler.alphas_cumprod), (num_clips,), generator=generator),
        "noise": noise,
    }


def some(tokens: DiViDTokens, chosen: torch.Tensor, num_frames: int) -> DiViDTokens:
    return DiViDTokens(static=tokens.static[chosen], dynamic=tokens.dynamic[chosen, :num_frames])


def fit(prior: DiViDTokenPrior, train: DiViDTokens, validation: DiViDTokens, args) -> dict:
    """Trains the prior on standardised tokens, leaves it with the best averaged weights, and says how it went."""
    optimizer = torch.optim.AdamW(prior.parameters(), LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, args.max_train_steps + 1, pct_start=min(WARM_UP / args.max_train_steps, 0.3)
    )
    ema = EMAModel(prior.parameters(), decay=0.999, use_ema_warmup=True, power=0.75)
    generator = torch.Generator().manual_seed(args.seed)
    best = {"step": 0, "validation_loss": float("inf")}
    weights, bar = None, tqdm(range(1, args.max_train_steps + 1), unit="step")
    for step in bar:
        chosen = torch.randint(len(train.static), (BATCH,), generator=generator)
        length = args.num_frames
        if torch.rand((), generator=generator) > FULL_LENGTH:
            length = int(torch.randint(1, args.num_frames + 1, (), generator=generator))
        loss = prior.loss(some(train, chosen, length), **draw(BATCH, length, prior, generator))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        ema.step(prior.parameters())
        if step % EVERY and step != args.max_train_steps:
            continue
        ema.store(prior.parameters())
        ema.copy_to(prior.parameters())
        found = validate(prior, validation, args)
        if not all_finite(prior.state_dict().values()):
            raise SystemExit(f"The weights are not finite after {step} steps: nothing was saved.")
        if found < best["validation_loss"]:
            best = {"step": step, "validation_loss": found}
            weights = {name: value.clone() for name, value in prior.state_dict().items()}
        ema.restore(prior.parameters())
        bar.set_postfix(loss=f"{loss.item():.3f}", validation=f"{found:.3f}")
    if weights is None:
        raise SystemExit("The loss was never finite: nothing was saved.")
    prior.load_state_dict(weights)
    return best


@torch.no_grad()
def validate(prior: DiViDTokenPrior, tokens: DiViDTokens, args) -> float:
    prior.eval()
    generator, count = torch.Generator().manual_seed(args.seed), len(tokens.static)
    losses = [prior.loss(tokens, **draw(count, args.num_frames, prior, generator)).item() for _ in range(VALIDATIONS)]
    prior.train()
    return sum(losses) / len(losses)


def flat(tokens: DiViDTokens) -> torch.Tensor:
    return torch.cat([tokens.static, tokens.dynamic.flatten(1)], dim=1)


def nearest(tokens: DiViDTokens, train: DiViDTokens) -> torch.Tensor:
    """Root mean square difference `(B,)` to the nearest training clip, in standard deviations."""
    offered = flat(train)
    return torch.cdist(flat(tokens), offered).amin(1) / offered.shape[1] ** 0.5


def copies(prior: DiViDTokenPrior, train: DiViDTokens, validation: DiViDTokens, seed: int) -> dict:
    """Whether drawn clips are copies: how far they and validation clips are from the nearest training clip."""
    drawn = prior.standardise(prior.sample(len(validation.static), generator=torch.Generator().manual_seed(seed)))
    ours, real = nearest(drawn, train), nearest(validation, train)
    return {
        "num_clips": len(real),
        "drawn_to_training": ours.median().item(),
        "validation_to_training": real.median().item(),
        "drawn_nearer_than_twentieth_of_validation": (ours < real.quantile(0.05)).double().mean().item(),
    }


def main(argv=None) -> None:
    args = parse_args(argv)
    if not (args.model / "model_index.json").is_file():
        raise SystemExit(f"--model {args.model} is no folder with a pipeline: the prior is put into it.")
    try:
        pipe = DiViDPipeline.from_pretrained(args.model, unet=None, prior=None)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--model: {error}") from error
    torch.manual_seed(args.seed)
    start = time.monotonic()
    random, even, validation = tokens_of(pipe, args)
    config = pipe.encoder.config
    prior = DiViDTokenPrior(
        config.static_dim,
        config.dynamic_dim,
        args.num_frames,
        encoder_signature=encoder_signature(pipe.encoder),
    ).train()
    prior.fit_statistics(random)
    random, even, validation = map(prior.standardise, (random, even, validation))
    try:
        best = fit(prior, random, validation, args)
    except KeyboardInterrupt:
        raise SystemExit("Interrupted: a prior is not resumed, and the checkpoint is as it was.") from None
    prior.half().float().eval()  # as it is saved
    report = best | copies(prior, even, validation, args.seed) | {"seconds": round(time.monotonic() - start, 1)}
    report["arguments"] = vars(args) | {"model": args.model.name, "dataset": Path(args.dataset).name}
    try:
        add_component(args.model, "prior", prior.half())
        (args.model / "prior" / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    except OSError as error:
        raise SystemExit(str(error)) from error
    print(
        f"Kept step {best['step']}, with the lowest loss on {report['num_clips']} validation clips "
        f"({best['validation_loss']:.3f}). Distance to the nearest training clip, median: drawn clips "
        f"{report['drawn_to_training']:.3f}, validation clips {report['validation_to_training']:.3f}; "
        f"{report['drawn_nearer_than_twentieth_of_validation']:.1%} of the drawn are nearer than the nearest "
        "twentieth of those."
    )


if __name__ == "__main__":
    main()
