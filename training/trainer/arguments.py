"""Command line and config file of train_divid.py."""

import argparse
import inspect
from pathlib import Path

from diffusers import DiffusionPipeline

from divid_diffusers.models.sequence_encoder import FIRST_FRAME_TOKENS, STATIC_SOURCES, DiViDSequenceEncoder
from divid_diffusers.models.unet_static_dynamic import DiViDUNet2DConditionModel
from divid_diffusers.presets import PRESETS

from .base import base
from .flags import add_data_flags, add_optimisation_flags, add_output_flags, new_parser, parse


CONFIGS = Path(__file__).parents[1] / "configs"
# What the weights of a checkpoint to start from are made for, and which of its models says so.
OF_THE_WEIGHTS = {
    "prediction_type": "unet",
    "shrink_input": "unet",
    "pixel_shortcut": "encoder",
    "first_frame": "encoder",
    "static_source": "encoder",
    "shared_noise": "unet",
    "cross_attention": "unet",
    "token_modulation": "unet",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = new_parser(
        "DiViD",
        "training/configs/recipe.yaml (with --preset paper: paper.yaml), else from the defaults below, which are the "
        "paper's",
    )
    model = parser.add_argument_group("model")
    model.add_argument("--preset", default="tiny", choices=sorted(PRESETS), help="Model size.")
    model.add_argument(
        "--pretrained_model_name_or_path",
        help="Start from this pipeline. What it decides need not be given, and cannot be changed; its dropout of "
        "tokens and --residual can. Default, for clips of 64x64 in colour: "
        "examples/divid-puppets-reference (preset small: -small).",
    )
    model.add_argument(
        "--from_scratch",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Start from random weights, unless a checkpoint is named.",
    )
    model.add_argument(
        "--pretrained_vae",
        metavar="NAME_OR_PATH",
        help="Work on the latents of this autoencoder of diffusers' (docs/latents.md), of a folder or on the Hub.",
    )
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
        help="Read d from each frame less the static one, so that a swap starts in the static donor's pose. Without, "
        "d tells the pose "
        "itself: for clips that start in the middle of a movement. On in the paper.",
    )
    model.add_argument(
        "--static_source",
        default="first",
        choices=STATIC_SOURCES,
        help="Frames that s is read from; first in the paper.",
    )
    model.add_argument(
        "--shared_noise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="One noise for all frames of a clip. On in the paper.",
    )
    model.add_argument(
        "--cross_attention",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="Frames look at their two tokens. On in the paper.",
    )
    model.add_argument(
        "--token_modulation",
        action=argparse.BooleanOptionalAction,
        help="Both tokens also modulate every residual block. Default: the preset's; off in the paper.",
    )
    model.add_argument(
        "--reference_frame",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="The decoder also sees the static frame and may move its pixels. Off in the paper.",
    )
    model.add_argument("--static_dropout", type=float, default=0.0, help="How often s is replaced by its null token.")
    model.add_argument("--dynamic_dropout", type=float, default=0.0, help="How often d is replaced by its null token.")

    add_data_flags(parser)
    parser.add_argument(
        "--cache_latents",
        metavar="FOLDER",
        help="Compute the latents of the training clips once and keep them there, for other runs as well. Default: "
        "they are computed in every step.",
    )
    weak = parser.add_argument_group("weak supervision")
    weak.add_argument(
        "--pair_by",
        choices=["identity", "action"],
        help="Labels tell which clips show one person, or one action: s (or d) is read from another clip of it. For d "
        "only where an action is performed alike, frame by frame, as in Sprites.",
    )
    weak.add_argument("--labelled_share", type=float, default=1.0, help="Of the clips whose label is used.")
    loss = parser.add_argument_group("loss")
    loss.add_argument("--orthogonality_weight", type=float, default=0.1, help="lambda of L = L_DDPM + lambda L_orth.")
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
        help="c of the pseudo-Huber loss 2 (sqrt(e^2 + c^2) - c) in place of the squared error: small errors, as "
        "between two neighbouring "
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
        help="Training reads s from a mirrored frame half of the time, so s cannot tell left from right. Off in the "
        "paper.",
    )
    loss.add_argument(
        "--invariance_weight",
        type=float,
        default=0.0,
        help="Of L_inv: s read from a one-step swap, which shows the static donor in another clip's pose, must be the "
        "donor's. Off in the paper.",
    )
    loss.add_argument(
        "--dynamic_swaps",
        type=float,
        default=0.0,
        help="How often d is read from the model's own one-step swap, which shows the motion on another person, "
        "instead of the clip, so that d cannot tell who moves. Off in the paper.",
    )
    loss.add_argument(
        "--static_bottleneck",
        type=float,
        default=0.0,
        help="Price of a nat of s, which training then sends through noise: what d tells as well is not worth it, and "
        "the decoder "
        "hears it from d alone. Try 3e-6 to 1e-4. Off in the paper.",
    )
    add_optimisation_flags(parser)
    parser.add_argument(
        "--cuda_graph",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="Record a step once and play it back: several times as fast on an NVIDIA GPU, for runs in one go whose "
        "clips fit into its memory. --dataloader_num_workers read them.",
    )
    out = add_output_flags(parser, "outputs/divid")
    out.add_argument(
        "--num_inference_steps", type=int, default=10, help="DDIM steps: validation, and the saved default."
    )
    args = parse(parser, argv, inherit, recipe)
    check(parser, args)
    return args


def recipe(given: argparse.Namespace) -> Path:
    """One recipe for everybody's clips; the paper's model has the paper's loss."""
    return CONFIGS / ("paper.yaml" if given.preset == "paper" else "recipe.yaml")


def inherit(args: argparse.Namespace, given: dict) -> dict:
    """
    What the checkpoint to start from decides, in place of defaults: its own settings, the dropout without which its
    guidance would be forgotten, what its d is read from, and that its tokens are not calibrated anew. Stops where a
    flag or the config file says otherwise.
    """
    path, way_out = args.pretrained_model_name_or_path, "Leave these out."
    if not path:
        path, way_out = base(args, given), "Leave these out, or give --from_scratch."
    if not path:
        return {}
    classes = {"encoder": DiViDSequenceEncoder, "unet": DiViDUNet2DConditionModel}
    try:
        index = DiffusionPipeline.load_config(path)
        configs = {name: kind.load_config(path, subfolder=name) for name, kind in classes.items()}
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SystemExit(f"--pretrained_model_name_or_path: {path} is no pipeline of DiViD: {reason}") from error
    for name, kind in classes.items():
        defaults = {key: each.default for key, each in inspect.signature(kind.__init__).parameters.items()}
        configs[name] = defaults | configs[name]
    own = {"pretrained_model_name_or_path": path}
    own |= {name: configs[model][name] for name, model in OF_THE_WEIGHTS.items()}
    conflicts = [
        f"--{name} is {given[name]}, where the checkpoint has {value}"
        for name, value in own.items()
        if name in OF_THE_WEIGHTS and given.get(name, value) != value
    ]
    if configs["unet"]["reference_frame"] and given.get("reference_frame") is False:
        conflicts.append("--no-reference_frame is given, where the checkpoint's decoder looks at the static frame")
    own["preset"] = next((name for name, preset in PRESETS.items() if has_size(configs, preset)), None)
    if given.get("preset") not in (None, own["preset"]):
        conflicts.append(f"--preset is {given['preset']}, and the checkpoint is not of that size")
    if conflicts:
        raise SystemExit(
            f"--pretrained_model_name_or_path {path} decides what its weights are made for: {'; '.join(conflicts)}. "
            f"{way_out}"
        )
    own |= {name: configs["unet"][name] for name in ("static_dropout", "dynamic_dropout")}
    if args.pretrained_model_name_or_path or configs["unet"]["reference_frame"]:
        # what own clips start from learns it by the recipe
        own["reference_frame"] = configs["unet"]["reference_frame"]
    own["residual"] = configs["encoder"]["residual"]
    if index.get("num_inference_steps"):
        own["num_inference_steps"] = index["num_inference_steps"]
    return {name: value for name, value in own.items() if name not in given} | {"calibrate_tokens": False}


def has_size(configs: dict[str, dict], preset: dict[str, dict]) -> bool:
    """Whether a checkpoint has the values of a preset, and the classes' own where the preset has none."""

    def plain(value):
        return list(value) if isinstance(value, tuple) else value

    sized = {name: {key for each in PRESETS.values() for key in each[name]} for name in configs}
    classes = {"encoder": DiViDSequenceEncoder, "unet": DiViDUNet2DConditionModel}
    for model, config in configs.items():
        for key in sized[model]:
            default = inspect.signature(classes[model].__init__).parameters[key].default
            if plain(config.get(key)) != plain(preset[model].get(key, default)):
                return False
    return True


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse flags that cannot work together."""
    if args.frames_per_clip is None or (
        args.frames_per_clip > args.num_frames and "frames_per_clip" not in args.given
    ):
        args.frames_per_clip = args.num_frames
    if args.frames_per_clip > args.num_frames:
        parser.error(f"--frames_per_clip is {args.frames_per_clip}: choose 1 to --num_frames ({args.num_frames}).")
    if args.pretrained_model_name_or_path and args.calibrate_tokens:
        parser.error(
            "--calibrate_tokens is for a start with random weights: it would undo what "
            "--pretrained_model_name_or_path learned, so "
            "leave it out."
        )
    if not args.residual and args.first_frame == "null":
        parser.error("--no-residual leaves no residual for --first_frame null to take the place of: choose context.")
    if args.reference_frame and args.prediction_type != "sample":
        if "reference_frame" in args.given:
            parser.error("--reference_frame moves pixels of a clean frame: it needs --prediction_type sample.")
        args.reference_frame = False  # the recipe's
    for name in ("invariance_weight", "dynamic_swaps"):
        if getattr(args, name) and (args.prediction_type != "sample" or args.train_batch_size < 2):
            parser.error(
                f"--{name} needs --prediction_type sample, since other predictions say nothing of a frame in one "
                "step, and a --train_batch_size of at least 2, since a swap has two donors."
            )
