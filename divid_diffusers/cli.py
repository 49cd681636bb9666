"""The command line: `divid swap identity.mp4 motion.mp4 -o out.mp4 --model MODEL`. Thin over [`DiViDPipeline`]."""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from . import DiViDPipeline, TokenDirections, __version__, export_clip
from .clips.reading import DEFAULT_FPS, ClipFile, frame_rate
from .clips.writing import check_export, check_writable, nearest_rate, written_whole
from .flags import SEED, whole


EPILOG = """\
examples:
  divid swap ann.mp4 wave.mp4 -o ann_waves.mp4 --model org/divid-mead     this person, that motion
  divid animate photo.png wave.mp4 -o moving.gif                          a still image in place of a clip
  divid reconstruct clip.mp4 -o again.mp4                                 what the tokens hold of a clip
  divid interpolate a.mp4 b.mp4 -o between.gif --factor static            from one person to another, side by side
  divid edit clip.mp4 --by "static 1=2" -o edited.mp4                     along a direction, see `divid info`
  divid generate -o nobody.mp4 --motion wave.mp4                          somebody who does not exist, waving
  divid encode clips/*.mp4 -o tokens.safetensors                          features: static (B, S), dynamic (B, N, D)
  divid info --model org/divid-mead                                       what a checkpoint is

A clip is a video, a GIF, an image, a folder of frames, or a URL of any of them but the last. The name after
-o says what is written: .mp4, .gif or .png (a strip of frames). Without --model, the environment variable
DIVID_MODEL names it.
"""


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="divid",
        description="Static/dynamic disentanglement of video.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"divid_diffusers {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, *clips: tuple[str, str], writes: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        for clip, what in clips:
            sub.add_argument(clip, help=what)
        sub.add_argument("--model", default=os.environ.get("DIVID_MODEL"), help="A folder or a name on the Hub.")
        if writes:
            sub.add_argument("-o", "--output", type=Path, required=True, help=writes)
        return sub

    def decoding(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--steps", type=int, help="Denoising steps; default: the checkpoint's own.")
        sub.add_argument("--seed", type=SEED, default=0, help="Of the start noise.")
        sub.add_argument(
            "--fps", type=float, help="Frames per second of what is written; default: the motion clip's, or 10."
        )
        sub.add_argument("--static-guidance", type=float, default=1.0, help="Above 1: more of the identity.")
        sub.add_argument("--dynamic-guidance", type=float, default=1.0, help="Above 1: more of the motion.")
        return sub

    clip = "A .mp4, .gif or .png to write."
    decoding(command("swap", "This person, that motion.", ("identity", "Who."), ("motion", "What."), writes=clip))
    decoding(command("animate", "Move an image.", ("image", "Who."), ("motion", "What."), writes=clip))
    decoding(command("reconstruct", "Encode a clip and decode it.", ("clip", "The clip."), writes=clip))
    between = decoding(command("interpolate", "Clips between two clips.", ("a", "From."), ("b", "To."), writes=clip))
    between.add_argument("--factor", choices=["static", "dynamic"], default="static", help="What changes.")
    between.add_argument("--num-clips", type=int, default=5, help="How many, both ends included.")
    edit = decoding(command("edit", "Move a clip along directions of its tokens.", ("clip", "The clip."), writes=clip))
    edit.add_argument(
        "--by",
        type=direction_and_amount,
        action="append",
        required=True,
        metavar="DIRECTION=AMOUNT",
        help='Standard deviations, such as "static 1=2"; as often as you like. `divid info` names the directions.',
    )
    new = decoding(command("generate", "Make up what is not given: who, how they move, or both.", writes=clip))
    new.add_argument("--identity", help="Who.")
    new.add_argument("--motion", help="What.")
    new.add_argument("--frames", type=whole(1), help="Of the clip; a --motion that has fewer is continued.")
    encode = command("encode", "Clips to tokens.", writes="A .safetensors or .npz to write.")
    encode.add_argument("clips", nargs="+", help="Clips of equal length.")
    command("info", "What a checkpoint is.")
    args = parser.parse_args(argv)
    if not args.model:
        parser.error("which model? Give --model, or set DIVID_MODEL, to a folder or a name on the Hub.")
    suffixes = (".safetensors", ".npz") if args.command == "encode" else (".mp4", ".gif", ".png")
    if args.command != "info" and args.output.suffix.lower() not in suffixes:
        parser.error(f"-o {args.output} must end in one of {', '.join(suffixes)}.")
    try:
        if args.command == "encode":
            args.output = args.output.expanduser()
            check_writable(args.output)
        elif args.command != "info":
            args.output = check_export(args.output, DEFAULT_FPS if args.fps is None else args.fps)
    except (ValueError, OSError) as error:
        parser.error(f"-o {args.output}: {error}")
    return args


def direction_and_amount(text: str) -> tuple[str, float]:
    name, _, amount = text.rpartition("=")
    try:
        return name.strip(), float(amount)
    except ValueError:
        sentence = f'{text!r} is no DIRECTION=AMOUNT: write it as in "static 1=2".'
        raise argparse.ArgumentTypeError(sentence) from None


def decode(pipe: DiViDPipeline, args) -> None:
    options = {
        "num_inference_steps": args.steps,
        "generator": torch.Generator().manual_seed(args.seed),
        "static_guidance_scale": args.static_guidance,
        "dynamic_guidance_scale": args.dynamic_guidance,
    }
    if args.command == "generate":
        motion = None if args.motion is None else ClipFile(args.motion)
        new = pipe.generate(1, args.frames, args.identity, motion, **options).frames[0]
        rate = args.fps or (DEFAULT_FPS if motion is None else rate_to_write(motion, args.output))
        export_clip(new, args.output, rate)
        return
    # One object, so that a URL is fetched once for its frames and their time.
    motion = ClipFile(
        getattr(args, {"reconstruct": "clip", "edit": "clip", "interpolate": "a"}.get(args.command, "motion"))
    )
    if args.command == "swap":
        clips = pipe.swap(args.identity, motion, **options).frames
    elif args.command == "animate":
        clips = pipe.animate(args.image, motion, **options).frames
    elif args.command == "reconstruct":
        clips = pipe.reconstruct(motion, **options).frames
    elif args.command == "edit":
        clips = pipe.edit(motion, dict(args.by), **options).frames
    else:
        clips = pipe.interpolate(motion, args.b, factor=args.factor, num_clips=args.num_clips, **options).frames
    export_clip(side_by_side(clips), args.output, rate_to_write(motion, args.output) if args.fps is None else args.fps)


def rate_to_write(motion: ClipFile, output: Path) -> float:
    """The motion clip's own, or the nearest that the file takes, which is said."""
    own = frame_rate(motion)
    rate = nearest_rate(own, output)
    if rate != own:
        print(
            f"divid: {motion.name} has {own} frames a second; {output.name} is written with {rate}.", file=sys.stderr
        )
    return rate


def side_by_side(clips: list[list[Image.Image]]) -> list[Image.Image]:
    return [Image.fromarray(np.concatenate([np.asarray(image) for image in images], axis=1)) for images in zip(*clips)]


def encode(pipe: DiViDPipeline, args) -> None:
    with torch.no_grad():
        tokens = pipe.encode(list(args.clips))
    if isinstance(tokens.dynamic, list):
        lengths = ", ".join(str(len(clip)) for clip in tokens.dynamic)
        raise ValueError(f"The clips have {lengths} frames: encode clips of equal length together, others one by one.")
    arrays = {"static": tokens.static.float().cpu(), "dynamic": tokens.dynamic.float().cpu().contiguous()}
    if tokens.reference is not None:
        arrays["reference"] = tokens.reference.float().cpu()
    with written_whole(args.output) as partial:
        if args.output.suffix.lower() == ".npz":
            np.savez(partial, clips=np.array(args.clips), **{name: array.numpy() for name, array in arrays.items()})
        else:
            save_file(arrays, partial)
    print(f"static {tuple(arrays['static'].shape)}, dynamic {tuple(arrays['dynamic'].shape)}: {args.output}")


def info(pipe: DiViDPipeline, args) -> None:
    encoder, unet = pipe.encoder.config, pipe.unet.config
    channels, size = pipe.frame_shape
    for name, value in {
        "model": args.model,
        "frames": f"{size} x {size}, {'grey' if channels == 1 else 'RGB'}",
        "tokens": f"static {encoder.static_dim}, dynamic {encoder.dynamic_dim} per frame",
        "parameters": f"encoder {pipe.encoder.num_parameters() / 1e6:.2f} M, unet "
        f"{pipe.unet.num_parameters() / 1e6:.2f} M",
        "autoencoder": autoencoder_in_words(pipe),
        "prior": "none" if pipe.prior is None else f"makes up clips of up to {pipe.prior.config.max_frames} frames",
        "prediction": unet.prediction_type,
        "static": "the decoder looks at the frame itself"
        if unet.get("reference_frame")
        else "known by its token alone",
        "sampler": f"{type(pipe.scheduler).__name__}, {pipe.config.num_inference_steps} steps",
        "directions": directions_in_words(pipe.directions),
        "guidance": "yes" if unet.static_dropout or unet.dynamic_dropout else "not trained for it",
    }.items():
        print(f"{name:11} {value}")


def autoencoder_in_words(pipe: DiViDPipeline) -> str:
    if pipe.vae is None:
        return "none"
    channels, side = pipe.encoder.config.in_channels, pipe.encoder.config.sample_size
    millions = pipe.vae.num_parameters() / 1e6
    return f"{type(pipe.vae).__name__}, {millions:.2f} M, {channels} channels of {side} x {side}"


def directions_in_words(directions: TokenDirections | None) -> str:
    if directions is None:
        return "none, so `divid edit` has nothing to move a clip along"
    labels = {name: directions.label(name) for name in directions.names}
    return ", ".join(f"{name} ({label})" if label else name for name, label in labels.items())


def main(argv=None) -> int:
    """
    0: done. 1: it could not be done, and a sentence on stderr says why. 2: the command line makes no sense. 130:
    Ctrl-C.
    """
    args = parse_args(argv)
    try:
        pipe = DiViDPipeline.from_pretrained(args.model)
        pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        {"encode": encode, "info": info}.get(args.command, decode)(pipe, args)
    except (ValueError, TypeError, OSError) as error:
        print(f"divid: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("divid: stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
