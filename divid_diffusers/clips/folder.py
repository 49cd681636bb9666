"""Which clips a folder holds: videos, animations and folders of frames, and not the pictures beside them."""

import os
from collections.abc import Iterable
from pathlib import Path

from .reading import FRAME_SUFFIXES, is_animation


VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".ts", ".mts", ".m2ts",
    ".3gp", ".3g2", ".asf", ".f4v", ".mxf", ".vob", ".gif", ".apng",
)  # fmt: skip
CLUTTER = {
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found",
    "system volume information",
}  # fmt: skip


def find_clips(root: Path) -> tuple[list[str], dict[str, str]]:
    """
    Paths, relative to `root`, of all videos and of all folders that hold frame images, in order; and what looks like a
    clip but is none, with the reason. Raises OSError, in a sentence, for a folder that is not there or cannot be read.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}: check the path.")

    repeated = []
    files = [name for name in list_files(root, repeated) if not is_clutter(name)]
    found = {name for name in files if name.lower().endswith(VIDEO_SUFFIXES)}
    pictures = {}
    for name in files:
        if name.lower().endswith(FRAME_SUFFIXES):
            pictures.setdefault(Path(name).parent.as_posix(), []).append(name)
    for folder, names in pictures.items():
        found |= {name for name in names if is_animation(root / name)}
        pictures[folder] = [name for name in names if name not in found]
    skipped = {name: "is a link to a folder that is read elsewhere" for name in repeated if not is_clutter(name)}
    pictures = {folder: names for folder, names in pictures.items() if names}
    holding_videos, holding_clips = folders_above(found), folders_above([*found, *pictures])
    for folder, names in pictures.items():
        if folder == ".":
            skipped[folder] = f"the folder itself holds pictures ({len(names)}): frames need one of their own"
        elif folder in holding_videos or (len(names) == 1 and folder in holding_clips):
            skipped[folder] = f"its pictures ({len(names)}) lie beside videos or clips: they are not taken for frames"
        else:
            found.add(folder)
    return sorted(found), skipped


def folders_above(names: Iterable[str]) -> set[str]:
    """Those that hold any of the paths, at whatever depth; "." among them."""
    return {parent.as_posix() for name in names for parent in Path(name).parents}


def list_files(root: Path, repeated: list[str] | None = None) -> list[str]:
    """
    Paths, relative to `root`, of all files below it, in order. Links to folders are followed, each folder is read
    once; links to one that is read elsewhere are added to `repeated`. Raises OSError, in a sentence, for a folder that
    cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise OSError(
            f"Cannot read the folder {error.filename} ({error.strerror}): change its permissions, or move it."
        ) from None

    files, read, tops = [], set(), [os.fspath(root)]
    for top in tops:  # which grows: what is not a link comes first
        for folder, names, found in os.walk(top, onerror=unreadable):
            real = os.path.realpath(folder)
            if real in read:
                names.clear()
                if repeated is not None:
                    repeated.append(Path(folder).relative_to(root).as_posix())
                continue
            read.add(real)
            files += [(Path(folder) / name).relative_to(root).as_posix() for name in found]
            tops += sorted(link for link in (os.path.join(folder, name) for name in names) if os.path.islink(link))
    return sorted(files)


def is_clutter(name: str) -> bool:
    """
    Whether a path has a hidden part, or one that a system leaves behind: previews, waste baskets, forks of files.
    """
    return any(part.startswith(".") or part.lower() in CLUTTER for part in Path(name).parts)
