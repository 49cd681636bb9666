"""Command line and config file of train_divid.py."""

import argparse

from divid_diffusers.models.sequence_encoder import FIRST_FRAME_TOKENS

from .flags import add_data_flags, add_optimisation_flags, add_output_flags, new_parser, parse


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser("DiViD")
    model = parser.add_argument_group("model")
    model.add_argument("--preset", default="tiny", choices=["paper", "tiny"], help="Model size.")
    model.add_argument("--pretrained_model_name_or_path", help="Start from this pipeline instead of random weights.")
    model.add_argument("--prediction_type", default="epsilon", choices=["epsilon", "v_prediction", "sample"])
    model.add_argument(
        "--pixel_shortcut",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Show the image embedding the frame itself, averaged down. Off in the paper.",
    )
    model.add_argument(
        "--shrink_input",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Scale the noisy frame down at high noise, where it says nothing. Off in the paper.",
    )
    model.add_argument(
        "--calibrate_tokens",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Start with tokens of mean 0 and variance 1 over a batch. Off in the paper.",
    )
    model.add_argument(
        "--first_frame", default="context", choices=FIRST_FRAME_TOKENS, help="Its token: see DiViDSequenceEncoder."
    )
    model.add_argument(
        "--residual",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Read d from each frame less the static one, so that a swap starts in the static donor's pose. Without, d tells the pose "
        "itself: for clips that start in the middle of a movement. On in the paper.",
    )
    model.add_argument("--static_dropout", type=float, default=0.0, help="How often s is replaced by its null token.")
    model.add_argument("--dynamic_dropout", type=float, default=0.0, help="How often d is replaced by its null token.")

    add_data_flags(parser)
    loss = parser.add_argument_group("loss")
    loss.add_argument("--orthogonality_weight", type=float, default=0.1, help="lambda of L = L_DDPM + lambda L_orth.")
    loss.add_argument("--snr_gamma", type=float, help="Min-SNR weight of L_DDPM; 5.0 is usual. Off in the paper.")
    loss.add_argument(
        "--frames_per_clip",
        type=int,
        help="Frames of each clip that are denoised per step, drawn at random; default: all.",
    )
    loss.add_argument(
        "--timestep_bias",
        type=float,
        default=1.0,
        help="t = T (1 - u^bias) with u uniform: above 1, high noise is seen more often. 1, uniform, in the paper.",
    )
    loss.add_argument(
        "--motion_weight",
        type=float,
        default=0.0,
        help="How much more an error counts where a frame differs from the first. Off in the paper.",
    )
    loss.add_argument(
        "--huber_scale",
        type=float,
        help="c of the pseudo-Huber loss 2 (sqrt(e^2 + c^2) - c) in place of the squared error: small errors, as between two neighbouring "
        "tones, count more. 0.03 is a value to try. Off in the paper.",
    )
    loss.add_argument(
        "--dynamic_recolour",
        type=float,
        default=0.0,
        help="How strongly the copy of the clip that d is read from is recoloured. Off in the paper.",
    )
    loss.add_argument(
        "--dynamic_stretch",
        type=float,
        default=0.0,
        help="Standard deviation of the factors that copy is stretched by. Off in the paper.",
    )
    loss.add_argument(
        "--static_mirror",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Training reads s from a mirrored frame half of the time, so s cannot tell left from right. Off in the paper.",
    )
    loss.add_argument(
        "--invariance_weight",
        type=float,
        default=0.0,
        help="Of L_inv: s read from a one-step swap, which shows the static donor in another clip's pose, must be the donor's. 0.05 is a "
        "value to try. Off in the paper.",
    )
    loss.add_argument(
        "--static_bottleneck",
        type=float,
        default=0.0,
        help="Price of a nat of s, which training then sends through noise: what d tells as well is not worth it, and the decoder "
        "hears it from d alone. Try 3e-6 to 1e-4. Off in the paper.",
    )
    add_optimisation_flags(parser)
    out = add_output_flags(parser, "outputs/divid")
    out.add_argument(
        "--num_inference_steps", type=int, default=10, help="DDIM steps: validation, and the saved default."
    )
    args = parse(parser, argv)
    check(parser, args)
    return args


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse what would fail hours later."""
    if args.frames_per_clip is None:
        args.frames_per_clip = args.num_frames
    if not 1 <= args.frames_per_clip <= args.num_frames:
        parser.error(f"--frames_per_clip is {args.frames_per_clip}: choose 1 to --num_frames ({args.num_frames}).")
    if args.static_bottleneck < 0:
        parser.error(f"--static_bottleneck is {args.static_bottleneck}: it is a price, so at least 0, which is none.")
    if args.huber_scale is not None and not args.huber_scale > 0:
        parser.error(f"--huber_scale is {args.huber_scale}: it must be positive; leave it out for the squared error.")
    if args.timestep_bias <= 0:
        parser.error(f"--timestep_bias is {args.timestep_bias}: it must be positive; 1 draws t uniformly.")
    if not args.invariance_weight >= 0:
        parser.error(
            f"--invariance_weight is {args.invariance_weight}: it must be at least 0, which leaves the loss out."
        )
    if args.invariance_weight and (args.prediction_type != "sample" or args.train_batch_size < 2):
        parser.error(
            "--invariance_weight needs --prediction_type sample, since other predictions say nothing of a frame in one step, and a "
            "--train_batch_size of at least 2, since a swap has two donors."
        )
    for name in ("static_dropout", "dynamic_dropout"):
        if not 0 <= getattr(args, name) < 1:
            parser.error(f"--{name} is {getattr(args, name)}: it is a probability below 1.")
