"""Swaps scored against the true clip, where a set can give that of any pair: this person, performing that motion.

    true_clip = true_clips(held_out, num_frames=10)
    scores = score_true_swaps(swaps, static_donors, dynamic_donors, true_clip)["swaps"]

Puppets are rendered. Skeletons of UTD-MHAD are drawn from the recording once more, on the other person. In Sprites
every character performs every action, so that the true clip is in the set. Rendered people are rendered.
"""

import functools
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ..data.mhad import Recording
from ..data.mhad_skeleton import read_skeleton, retarget
from ..data.people_body import render_body
from ..data.people_person import Person
from ..data.puppets import MOTIONS, Appearance, Puppets, draw, render
from ..data.sampling import sample_frame_indices
from .people_truth import PEOPLE_LABELS, PeopleTruth
from .reconstruction import motion_error, perceptual_distance, psnr, ssim
from .statistics import mean_interval
from .swap_test import share


if TYPE_CHECKING:  # it needs the extra `data`, and Puppets do not
    from ..data.prepared import PreparedClips


SHOWN = ("swaps", "copy of the static donor", "copy of the dynamic donor")
SKELETON_LABELS = {"identity", "performer", "action"}
SPRITES_LABELS = {"identity", "action", "body", "bottom", "top", "hair"}


class TrueClips(Protocol):
    """
    What a set must give to have its swaps scored. Donors are items of the set, as [`Puppets`] and [`PreparedClips`]
    give them.

    Called with a static and a dynamic donor: the true clip `(N, C, H, W)` in [0, 1], for any two donors; for the same
    clip twice it is that clip. `other_motions`: a dynamic donor for each other action, as near to the given one as the
    set has it. `most_others`, where there is one: of the other people too, a swap is compared with so many.
    `tolerance`, where there is one: how far a clip of the set may be from its true clip, in the mean.
    """

    def __call__(self, static_donor: dict, dynamic_donor: dict) -> torch.Tensor: ...

    def other_motions(self, dynamic_donor: dict) -> list[dict]: ...


@torch.no_grad()
def score_true_swaps(
    swaps: torch.Tensor,
    static_donors: Sequence[dict],
    dynamic_donors: Sequence[dict],
    true_clip: TrueClips,
    features: Callable[[torch.Tensor], Sequence[torch.Tensor]] | None = None,
) -> dict:
    """
    Args:
        swaps (`torch.Tensor` of shape `(B, N, C, H, W)`): decoded clips in [0, 1].
        static_donors, dynamic_donors (`Sequence[dict]` of length B): the items whose identity, and whose motion, clip
            b should show. A pair of the same clip twice is a reconstruction, and may be among them.
        true_clip (`TrueClips`): see [`true_clips`].
        features: see [`perceptual_distance`].

    Returns:
        A dict ready for JSON of three scores: `swaps` and, for the scale, what a copy of either donor's clip would
        get. Each holds `n`; `psnr` (dB, at most 100), `ssim`, `motion_error` and, with `features`,
        `perceptual_distance`, as [mean, half width of its 95 % interval or, of a single swap, None]; and three shares
        as [share, low, high] with a 95 % Wilson interval:

        - `identity_kept`: swaps nearer (mean squared error) to the true clip than to that of any other person among
          the static donors, or of some others where the set says how many; None where there is one person;
        - `static_donor_shown`: swaps nearer to the static donor's own clip than to the true one, of those whose donors
          perform different actions; None where none do. A token that tells both who and what, as the first frame may,
          shows here;
        - `motion_kept`: swaps nearer to the true clip than to that person's performance of any other motion of the
          set, or None where there is one motion.

        Nearness is of pixels, so that a clip of the wrong person may well be nearest to the wrong motion: the copies
        tell.

    Raises:
        ValueError: swaps that are not finite or not as many as the donors, a swap that is not shaped like its true
            clip.
    """
    if not len(swaps) == len(static_donors) == len(dynamic_donors) > 0:
        numbers = f"{len(static_donors)} static and {len(dynamic_donors)} dynamic donors for {len(swaps)} swaps"
        raise ValueError(f"There are {numbers}: pass one of each for every swap, and at least one swap.")
    if not swaps.isfinite().all():
        raise ValueError("The swaps hold NaN or infinity: was the model's training broken?")
    measures = {"psnr": psnr, "ssim": ssim, "motion_error": motion_error}
    if features is not None:
        measures["perceptual_distance"] = functools.partial(perceptual_distance, features=features)
    people = {donor["identity"]: donor for donor in static_donors}

    values: dict[str, list[list[float]]] = {name: [] for name in measures}
    identity_kept, motion_kept, static_donor_shown = [], [], []
    for swap, static, dynamic in zip(swaps.float().cpu(), static_donors, dynamic_donors):
        truth = true_clip(static, dynamic)
        if swap.shape != truth.shape:
            raise ValueError(
                f"A swap is {tuple(swap.shape)}, its true clip {tuple(truth.shape)}: both are (N, C, H, W)."
            )
        shown = torch.stack([swap, *(cut(donor["frames"], len(truth)) for donor in (static, dynamic))])
        for name, measure in measures.items():
            values[name].append(measure(truth.expand_as(shown), shown).tolist())
        others = (true_clip(person, dynamic) for person in other_people(people, static, true_clip))
        identity_kept.append(nearest(shown, truth, others))
        own = nearest(shown, shown[1], [truth]) if static["action"] != dynamic["action"] else None
        static_donor_shown.append(own)
        others = (true_clip(static, motion) for motion in true_clip.other_motions(dynamic))
        motion_kept.append(nearest(shown, truth, others))

    def scores(column: int) -> dict:
        result: dict = {"n": len(swaps)}
        for name, rows in values.items():
            mean, half = mean_interval([row[column] for row in rows])
            result[name] = [mean, half if math.isfinite(half) else None]
        shares = {
            "identity_kept": identity_kept,
            "motion_kept": motion_kept,
            "static_donor_shown": static_donor_shown,
        }
        for name, rows in shares.items():
            told = [row[column] for row in rows if row is not None]
            result[name] = share(np.array(told)) if told else None
        return result

    return {name: scores(column) for column, name in enumerate(SHOWN)}


def other_people(people: dict[int, dict], static_donor: dict, true_clip: TrueClips) -> list[dict]:
    """Those that come after the donor's person, and then the first: as many as the set has compared."""
    names = list(people)
    own = names.index(static_donor["identity"])
    return [people[name] for name in names[own + 1 :] + names[:own]][: getattr(true_clip, "most_others", None)]


def nearest(shown: torch.Tensor, truth: torch.Tensor, others) -> list[bool] | None:
    """For each clip shown, is it nearer to the truth than to any other? None where there is no other."""

    def error(clip):
        return (shown - clip).square().mean(dim=(1, 2, 3, 4))

    errors = [error(other) for other in others]
    return (error(truth) < torch.stack(errors).amin(dim=0)).tolist() if errors else None


def cut(frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """The evenly spaced frames of a whole clip `(F, C, H, W)` uint8 that evaluation takes, in [0, 1]."""
    return frames[sample_frame_indices(len(frames), num_frames)].float() / 255


def true_clips(clips: "Puppets | PreparedClips", num_frames: int, recordings: str | Path | None = None) -> TrueClips:
    """
    The true clips of a set, of `num_frames` evenly spaced frames.

    Args:
        clips: the split that donors come from.
        num_frames (`int`): N.
        recordings: `Skeleton.zip`, or the folder it was unpacked to, that skeletons were prepared from; other sets
            need none.

    Raises:
        ValueError: a set that cannot give the true clip of any pair; recordings that are not given, cannot be read or
            are not all there; a set whose own clips are drawn differently now.
    """
    labels = set(getattr(clips, "labels", ()))
    if isinstance(clips, Puppets):
        truth = PuppetTruth(num_frames)
    elif labels >= SKELETON_LABELS:
        if recordings is None:
            raise ValueError("The true clips of UTD-MHAD's skeletons are drawn from Skeleton.zip: say where it is.")
        kind = BodyTruth if "skin" in labels else SkeletonTruth
        truth = kind(clips, recordings, num_frames)
    elif labels >= SPRITES_LABELS:
        truth = SpritesTruth(clips, num_frames)
    elif labels >= PEOPLE_LABELS:
        truth = PeopleTruth(clips, num_frames)
    else:
        raise ValueError(
            "This set cannot give the true clip of any pair, only of what was recorded: Puppets, skeletons of "
            "UTD-MHAD (prepare/mhad.py --modality skeleton), Sprites (prepare/sprites.py) and rendered people "
            "(prepare/people.py) can."
        )
    clip = clips[0]
    drawn, own = truth(clip, clip), cut(clip["frames"], num_frames)
    if drawn.shape != own.shape or (drawn - own).abs().mean() > getattr(truth, "tolerance", 0):
        raise ValueError(
            f"{clip['clip_id']} of the set is not what would be drawn now: it was prepared from other recordings or "
            "by another "
            "version of this package. Prepare it anew."
        )
    return truth


class PuppetTruth:
    """[`TrueClips`] of [`Puppets`]: rendered. Other motions have the donor's seed."""

    def __init__(self, num_frames: int):
        self.num_frames = num_frames

    def __call__(self, static_donor: dict, dynamic_donor: dict) -> torch.Tensor:
        person, motion = Appearance.sample(static_donor["identity"]), MOTIONS[dynamic_donor["action"]]
        start, size = dynamic_donor["start"], static_donor["frames"].shape[-1]
        length = start + len(dynamic_donor["frames"])
        frames = render(person, motion, dynamic_donor["motion_seed"], length, size, static_donor["camera"])[start:]
        return cut(torch.from_numpy(frames).permute(0, 3, 1, 2), self.num_frames)

    def other_motions(self, dynamic_donor: dict) -> list[dict]:
        return [dynamic_donor | {"action": a} for a in range(len(MOTIONS)) if a != dynamic_donor["action"]]


class SkeletonTruth:
    """
    [`TrueClips`] of UTD-MHAD's skeletons: the donor's recording, on the other person. Other motions are the first
    recording of each other action by the same performer, whose posture would else tell them apart.

    Raises ValueError for recordings that cannot be read, or lack one of the set's. They take 30 MB of memory.
    """

    def __init__(self, clips: "PreparedClips", recordings: str | Path, num_frames: int):
        self.num_frames, self.people = num_frames, clips.labels["identity"]
        read, damaged = read_recordings(Path(recordings))
        self.skeletons = {recording.clip_id: skeleton for recording, skeleton in read.items()}
        self.first: dict[tuple[int, int], Recording] = {}
        for recording in sorted(read, key=lambda recording: recording.trial):
            self.first.setdefault((recording.subject, recording.action), recording)
        wanted = clips.dataset.with_format(None)["clip_id"]
        missing = [clip_id for clip_id in wanted if clip_id not in self.skeletons]
        for clip_id in missing:
            if clip_id in damaged:
                raise ValueError(damaged[clip_id])
        if missing:
            raise ValueError(
                f"{recordings} lacks {len(missing)} recordings of the set, {missing[0]}_skeleton.mat for one: give "
                "the zip or "
                "folder that the set was prepared from."
            )

    def __call__(self, static_donor: dict, dynamic_donor: dict) -> torch.Tensor:
        person, clip_id = int(self.people[static_donor["identity"]]), dynamic_donor["clip_id"]
        if clip_id not in self.skeletons:
            raise ValueError(f"There is no recording {clip_id}_skeleton.mat: both donors must be of the set.")
        skeleton = self.skeletons[clip_id]
        shown = sample_frame_indices(len(skeleton), self.num_frames)
        frames = self.drawn(person, skeleton, shown, static_donor["frames"].shape[-1])
        return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255

    def drawn(self, person: int, skeleton: np.ndarray, shown: np.ndarray, size: int) -> np.ndarray:
        """`render_skeleton`, but for the frames that nobody looks at."""
        appearance = Appearance.sample(person)
        return draw(retarget(skeleton, appearance)[shown], appearance, size)

    def other_motions(self, dynamic_donor: dict) -> list[dict]:
        subject = dynamic_donor["performer"] + 1
        by_performer = [self.first[key] for key in sorted(self.first) if key[0] == subject]
        motions = [{"action": recording.action - 1, "clip_id": recording.clip_id} for recording in by_performer]
        return [motion for motion in motions if motion["action"] != dynamic_donor["action"]]


class BodyTruth(SkeletonTruth):
    """The same, on rendered people; compared with a few others, as [`PeopleTruth`] and for its reasons."""

    most_others, tolerance = PeopleTruth.most_others, PeopleTruth.tolerance

    def drawn(self, person: int, skeleton: np.ndarray, shown: np.ndarray, size: int) -> np.ndarray:
        return render_body(skeleton, Person.sample(person), size, shown)

    def other_motions(self, dynamic_donor: dict) -> list[dict]:
        motions = super().other_motions(dynamic_donor)
        own = sum(motion["action"] < dynamic_donor["action"] for motion in motions)
        return (motions[own:] + motions[:own])[: self.most_others]  # others for each donor, not the first for all


def read_recordings(root: Path) -> tuple[dict[Recording, np.ndarray], dict[str, str]]:
    """The skeletons in a zip or below a folder; and, of those that cannot be read, why, by the ids of their clips."""

    def read_all(names: Sequence[str], read: Callable[[str], bytes]):
        skeletons, damaged = {}, {}
        for name in names:
            recording = Recording.of(name) if name.endswith("_skeleton.mat") else None
            if recording is None:
                continue
            try:
                skeletons[recording] = read_skeleton(read(name), name)
            except ValueError as error:
                damaged[recording.clip_id] = str(error)
            except (OSError, zipfile.BadZipFile, zlib.error) as error:
                reason = f"{name} cannot be read in {root} ({error}): copy or download it again."
                damaged[recording.clip_id] = reason
        return skeletons, damaged

    try:
        if root.is_dir():
            names = [str(path.relative_to(root)) for path in sorted(root.rglob("*_skeleton.mat"))]
            return read_all(names, lambda name: (root / name).read_bytes())
        with zipfile.ZipFile(root) as archive:
            return read_all(archive.namelist(), archive.read)
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{root} is neither a folder nor a zip that can be read ({error}): give the Skeleton.zip of UTD-MHAD."
        ) from error


class SpritesTruth:
    """
    [`TrueClips`] of Sprites: the clip of the character and the action, looked up.

    Raises ValueError where a character performs an action twice or not at all: which clip is the true one?
    """

    def __init__(self, clips: "PreparedClips", num_frames: int):
        self.clips, self.num_frames = clips, num_frames
        columns = clips.dataset.with_format(None)
        shown = list(zip(columns["identity"], columns["action"]))
        self.places = {pair: place for place, pair in enumerate(shown)}
        self.actions = sorted({action for _, action in shown})
        counts = Counter(shown)
        for pair in product({person for person, _ in shown}, self.actions):
            if counts[pair] != 1:
                person, action = (clips.labels[name][number] for name, number in zip(("identity", "action"), pair))
                raise ValueError(
                    f"Character {person} performs {action} in {counts[pair]} clips of this split: the true clip of a "
                    "swap is the "
                    "one clip that shows it. Prepare the set anew."
                )

    def __call__(self, static_donor: dict, dynamic_donor: dict) -> torch.Tensor:
        pair = static_donor["identity"], dynamic_donor["action"]
        if pair not in self.places:
            raise ValueError(
                f"There is no clip of character {pair[0]} performing action {pair[1]} in this split: both donors must "
                "be of it."
            )
        return cut(self.clips[self.places[pair]]["frames"], self.num_frames)

    def other_motions(self, dynamic_donor: dict) -> list[dict]:
        return [{"action": action} for action in self.actions if action != dynamic_donor["action"]]
