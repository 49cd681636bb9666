"""The paper's swap figure: source, target, and what every model makes of them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from sections import Bench


NUM_PAIRS, LABEL_HEIGHT, SCALE = 4, 12, 2


def draw_swap_figure(models: dict, bench: Bench, folder: Path) -> None:
    """
    swaps.png, frames from left to right, and swaps.gif, pair by pair from left to right. Of the evaluated pairs whose
    donors differ in every label those whose donors are new, in an order drawn with the seed.
    """
    pairs = distinct_pairs(bench)
    if not pairs:  # of a single clip
        return
    a, b = map(list, zip(*pairs, strict=True))
    rows = {"static donor": bench.clips[a], "dynamic donor": bench.clips[b]}
    for name, model in models.items():
        static, dynamic = model.encode(torch.cat([bench.clips[a], bench.clips[b]]))
        rows[name] = model.decode(static[: len(a)], dynamic[len(a) :])
    still = [strip(name, clips[k]) for k in range(len(pairs)) for name, clips in rows.items()]
    stack(still, 0).save(folder / "swaps.png", optimize=True)
    frames = []
    for i in range(bench.clips.shape[1]):
        columns = [
            stack([strip(name, clips[k, i : i + 1]) for name, clips in rows.items()], 0) for k in range(len(pairs))
        ]
        frames.append(stack(columns, 1))
    frames[0].save(folder / "swaps.gif", save_all=True, append_images=frames[1:], duration=150, loop=0)


def distinct_pairs(bench: Bench) -> list[tuple[int, int]]:
    chosen: list[tuple[int, int]] = []
    order = np.random.default_rng(bench.seed).permutation(len(bench.pairs))
    for pair in (bench.pairs[i] for i in order):
        differ = all(bench.factors[name][pair[0]] != bench.factors[name][pair[1]] for name in bench.factors)
        if differ and not set(pair) & {index for each in chosen for index in each}:
            chosen.append(pair)
        if len(chosen) == NUM_PAIRS:
            break
    return chosen or [bench.pairs[i] for i in order[:NUM_PAIRS]]


def strip(name: str, frames: torch.Tensor) -> Image.Image:
    """Frames `(N, C, H, W)` in [0, 1] side by side, enlarged, under the name."""
    array = (torch.cat(list(frames), dim=-1).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(array.squeeze(-1) if array.shape[-1] == 1 else array).convert("RGB")
    picture = picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.NEAREST)
    canvas = Image.new("RGB", (picture.width, picture.height + LABEL_HEIGHT), "white")
    canvas.paste(picture, (0, LABEL_HEIGHT))
    ImageDraw.Draw(canvas).text((2, 0), name, fill="black")
    return canvas


def stack(pictures: list[Image.Image], axis: int) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], axis=axis))
