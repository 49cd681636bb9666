"""
Swaps of clips without labels: how far is the output from its static donor in identity, from its motion donor in
motion?

In the manner of AED and AKD (Siarohin et al. 2019, "First order motion model"), on features of any model in
`transformers`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import torch
import torch.nn.functional as F

from .statistics import mean_interval


IDENTITY_MODEL = "facebook/dinov2-small"
"""
Self-supervised: it tells apart what a model trained on captions (CLIP) calls the same, such as two people in like
clothes. It knows any subject, not faces alone, and is small. For faces, give [`score_label_free`] a face recogniser's
embedding instead."""

MOTION_MODEL = "MCG-NJU/videomae-small-finetuned-ssv2"
"""
Features of a supervised video classifier follow looks more than motion (Ge et al. 2024, "On the content bias in
Fréchet video distance"); this one is pre-trained without labels and fine-tuned on Something-Something v2, whose
classes differ in motion rather than in what is seen. Its licence, CC BY-NC 4.0, forbids commercial use."""

Features = Callable[[torch.Tensor], torch.Tensor]
"""
Clips `(B, N, C, H, W)` in [0, 1] to features of each frame, `(B, N, F)`, or of each clip, `(B, F)`; a row of NaN where
nothing can be told, such as a frame in which a detector finds no face."""


class PretrainedFeatures:
    """
    Features of an image model (`(B, N, F)`) or a video model (`(B, F)`) in `transformers`; which it is, its config
    says.

    They are the model's image embedding where it has one (CLIP, SigLIP), else its pooled output if that is trained,
    else the mean of its last hidden states. Clips `(B, N, C, H, W)` in [0, 1], grey or coloured, are resized and
    cropped by the model's own processor; for a video model N frames are first repeated or thinned evenly to as many as
    it was trained with.

    Args:
        name (`str`): a model on the Hub or a local folder.
        device (`str`): where the model runs; features come back to the CPU.

    Raises:
        ImportError: `transformers` is missing.
        OSError: the model or its processor cannot be loaded.
        ValueError: the checkpoint lacks weights of the model.
    """

    def __init__(self, name: str, device: str = "cpu"):
        try:
            import transformers
        except ImportError as error:
            raise ImportError("Label-free scores need transformers: pip install 'divid_diffusers[eval]'.") from error
        try:
            model, loading = transformers.AutoModel.from_pretrained(name, output_loading_info=True)
            self.num_frames = getattr(model.config, "num_frames", getattr(model.config, "frames_per_clip", None))
            self.processor = _load_processor(transformers, name, is_video_model=self.num_frames is not None)
        except (ImportError, OSError, ValueError) as error:
            raise OSError(
                f"The feature model {name!r} cannot be loaded. Give the name of an image or video model on the Hub "
                "(and be "
                "online, or have it in the cache), or a folder saved by save_pretrained, processor included. "
                f"transformers says: {error}"
            ) from error
        untrained = list(loading["missing_keys"])
        # Many checkpoints were saved without a pooler, and transformers then makes up a random one.
        self.pooler_is_trained = not any("pooler" in key for key in untrained)
        if untrained := [key for key in untrained if "pooler" not in key]:
            raise ValueError(f"The checkpoint {name!r} lacks weights of its own model: {', '.join(untrained[:5])}.")
        self.model, self.device = model.float().eval().to(device), device

    @torch.no_grad()
    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        clips = clips.expand(-1, -1, 3, -1, -1) if clips.shape[2] == 1 else clips
        images = (clips * 255).round().clamp(0, 255).byte().permute(0, 1, 3, 4, 2).cpu().numpy()
        if self.num_frames is not None:
            places = torch.linspace(0, images.shape[1] - 1, self.num_frames).round().long()
            videos = [list(video) for video in images[:, places.numpy()]]
            return self._features(self.processor(videos, return_tensors="pt"))
        frames = self.processor(list(images.reshape(-1, *images.shape[2:])), return_tensors="pt")
        return self._features(frames).unflatten(0, images.shape[:2])

    def _features(self, inputs) -> torch.Tensor:
        embed = getattr(self.model, "get_image_features", self.model)
        output = embed(**inputs.to(self.device))
        if isinstance(output, torch.Tensor):  # get_image_features of transformers 4
            return output.float().cpu()
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None and self.pooler_is_trained:
            return pooled.flatten(1).float().cpu()
        states = output.last_hidden_state
        places = (2, 3) if states.ndim == 4 else 1  # a convolutional network's map, or a transformer's tokens
        return states.mean(dim=places).float().cpu()


def _load_processor(transformers, name: str, is_video_model: bool):
    # An image processor first, for video models too: every video processor needs torchvision.
    try:
        return transformers.AutoImageProcessor.from_pretrained(name)
    except (ImportError, OSError, ValueError):
        if not (is_video_model and hasattr(transformers, "AutoVideoProcessor")):
            raise
        return transformers.AutoVideoProcessor.from_pretrained(name)


def scorable_features(
    features: Features, clips: torch.Tensor, batch_size: int = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Features of clips `(B, N, C, H, W)`, NaN where there is nothing to score, and which frames those are, `(B, N)`.

    Nothing to score: a blank frame (one colour all over), pixels that are not finite, or no features. Features of a
    whole clip cannot leave a frame out, so there one such frame makes NaN of the clip.
    """
    span = clips.amax(dim=(3, 4)) - clips.amin(dim=(3, 4))
    unscored = ~(span.amax(dim=2) >= 1 / 255) | ~clips.isfinite().all(dim=4).all(dim=3).all(dim=2)
    values = torch.cat([features(batch) for batch in clips.nan_to_num(0).split(batch_size)])
    unscored = unscored.to(values.device)
    untold = ~values.isfinite().all(dim=-1)
    if values.ndim == 2:
        return values.masked_fill((untold | unscored.any(dim=1))[:, None], nan), unscored | untold[:, None]
    unscored = unscored | untold
    return values.masked_fill(unscored[:, :, None], nan), unscored


def identity_distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """
    1 - cos of the features averaged over frames, shape `(B,)`: 0 for the same looks, up to 2; NaN where nothing can be
    scored.

    Features `(B, N, F)` or `(B, F)`, rows of NaN left out. The cosine, not AED's Euclidean distance, because it is
    bounded and features of every model share its scale, whatever their length; on unit vectors both put clips in the
    same order.
    """
    return _cosine_distance(*(x.nanmean(dim=1) if x.ndim == 3 else x for x in (one, other)))


def motion_distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """
    1 - cos of the clips' features `(B, F)`, or of the differences of consecutive frames' features `(B, N, F)` as one
    vector.

    Shape `(B,)`: 0 for the same motion, 1 for an unrelated one, up to 2; NaN where it cannot be scored. Differences
    that are NaN in either clip are left out of both. A video model's features keep some of the looks: read the
    distance between its floor and its ceiling.
    """
    if one.ndim == 2:
        return _cosine_distance(one, other)
    one, other = one.diff(dim=1), other.diff(dim=1)
    scorable = (one + other).isfinite().all(dim=2)
    distance = _cosine_distance(*(x.masked_fill(~scorable[:, :, None], 0).flatten(1) for x in (one, other)))
    return distance.masked_fill(~scorable.any(dim=1), nan)


def _cosine_distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (1 - F.cosine_similarity(one, other, dim=1)).clamp(min=0)


@dataclass
class ReferencedDistance:
    """
    Attributes:
        mean, half_width (`float`): mean over the scored clips, and half of its 95 % normal interval.
        floor (`float`): mean distance of a donor to itself: for identity between the first and the second half of the
            static donor, for motion between the even and the odd frames of the motion donor, whose halves move
            differently.
        ceiling (`float`): mean distance between the two donors of each swap: what copying the wrong one earns, and how
            far apart random clips are, if donors were paired at random.
        num_scored, num_clips (`int`): clips that the mean is over, and all.
        unscored_donor_frames, unscored_output_frames, num_frames (`int`): frames with nothing to score, of
            `num_frames` each.
    """

    mean: float
    half_width: float
    floor: float
    ceiling: float
    num_scored: int
    num_clips: int
    unscored_donor_frames: int
    unscored_output_frames: int
    num_frames: int


@dataclass
class LabelFreeScores:
    """`identity`: outputs against their static donors; `motion`: outputs against their motion donors."""

    identity: ReferencedDistance
    motion: ReferencedDistance


def score_label_free(
    static_donors: torch.Tensor,
    motion_donors: torch.Tensor,
    outputs: torch.Tensor,
    identity: Features | None = None,
    motion: Features | None = None,
    batch_size: int = 8,
) -> LabelFreeScores:
    """
    How far outputs are from their static donors in identity and from their motion donors in motion.

    Frames with nothing to score (see [`scorable_features`]) are counted, never scored as 0. Read the counts beside the
    means: a model that shows nothing where a swap is hard is not scored there. A motion donor that stands still has no
    motion to follow: all its frames count as unscored.

    Args:
        static_donors, motion_donors, outputs (`torch.Tensor` of shape `(B, N, C, H, W)`): clips in [0, 1] of at least
            4 frames; output b should look like static donor b and move like motion donor b.
        identity, motion (`Features`): default [`PretrainedFeatures`] of `IDENTITY_MODEL` and of `MOTION_MODEL`.

    Raises:
        ValueError: clips that differ in shape or have under 4 frames; not one clip can be scored.
    """
    if not static_donors.shape == motion_donors.shape == outputs.shape or outputs.shape[1] < 4:
        shapes = ", ".join(str(tuple(clips.shape)) for clips in (static_donors, motion_donors, outputs))
        raise ValueError(f"Donors and outputs must be alike in shape and have at least 4 frames, but are {shapes}.")
    identity = PretrainedFeatures(IDENTITY_MODEL) if identity is None else identity
    motion = PretrainedFeatures(MOTION_MODEL) if motion is None else motion
    still = motion_donors.diff(dim=1).abs().amax(dim=(1, 2, 3, 4), keepdim=True) < 1 / 255
    moving = motion_donors.masked_fill(still, nan)
    half = outputs.shape[1] // 2
    halves = static_donors[:, :half], static_donors[:, -half:]
    turns = moving[:, : 2 * half : 2], moving[:, 1 : 2 * half : 2]

    def compare(distance, features, donors, others, cuts) -> ReferencedDistance:
        donor, donor_unscored = scorable_features(features, donors, batch_size)
        output, output_unscored = scorable_features(features, outputs, batch_size)
        other, one, another = (scorable_features(features, clips, batch_size)[0] for clips in (others, *cuts))
        scores = distance(donor, output)
        scored = scores[scores.isfinite()].tolist()
        if not scored:
            raise ValueError(
                f"{distance.__name__}: none of {len(scores)} clips can be scored. {int(donor_unscored.sum())} frames "
                "of donors "
                f"and {int(output_unscored.sum())} of outputs, of {donor_unscored.numel()} each, are blank, not "
                "finite, still or "
                "without features: look at the clips, and at the range of their values, which should be [0, 1]."
            )
        mean, half_width = mean_interval(scored)
        return ReferencedDistance(
            mean=mean,
            half_width=half_width,
            floor=distance(one, another).nanmean().item(),
            ceiling=distance(donor, other).nanmean().item(),
            num_scored=len(scored),
            num_clips=len(scores),
            unscored_donor_frames=int(donor_unscored.sum()),
            unscored_output_frames=int(output_unscored.sum()),
            num_frames=donor_unscored.numel(),
        )

    return LabelFreeScores(
        identity=compare(identity_distance, identity, static_donors, motion_donors, halves),
        motion=compare(motion_distance, motion, moving, static_donors, turns),
    )
