"""
What the training/prepare/*.py scripts share: from a list of clips to read to a prepared set, in parallel, resumable,
whole or not at all.

A script says which clips there are ([`Clip`]), how one is read (a function from a clip to frames), and what the set is
([`Plan`]); [`prepare`] does the rest. Clips are read in portions, each kept in a hidden folder beside the target once
it is whole; a stopped run goes on from there. Only a whole set is moved to the target.
"""

import argparse
import functools
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import torch
from split import split_faults
from tqdm.auto import tqdm

from divid_diffusers.clips.writing import written_whole
from divid_diffusers.data.allowance import what_it_allows
from divid_diffusers.data.prepared import clip_features, clips_to_arrow
from divid_diffusers.flags import whole


CLIPS_PER_PORTION = 16
REPORT = "preparation.json"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Clip:
    """
    A clip to read. `labels` are class names, one for each label of the plan; `source` is the file, as messages name
    it.
    """

    clip_id: str
    source: str
    split: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """
    A set to make.

    Args:
        clips: every clip, in the order of the set.
        read: from a [`Clip`] to its frames, uint8 `(N, H, W, C)`. What it raises is why the clip is skipped: a
            sentence. It runs in other processes, so it is a function of a module, or a `functools.partial` of one.
        shape: (H, W, C).
        labels: the names of each label's classes.
        split_rule: how `train`, `validation` and `test` were told apart, with the seed.
        description, license, citation: for the set's card.
        skipped: clips known to be absent before reading, with the reason.
    """

    clips: Sequence[Clip]
    read: Callable[[Clip], np.ndarray]
    shape: tuple[int, int, int]
    labels: Mapping[str, Sequence[str]]
    split_rule: str
    description: str = ""
    license: str = ""
    citation: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Portions made to one plan must not be taken for another's."""
        parts = [[c.clip_id, c.source, c.split, dict(c.labels)] for c in self.clips]
        how = [getattr(self.read, "keywords", {}), self.shape, {n: list(v) for n, v in self.labels.items()}]
        return sha256(json.dumps([parts, how], default=str).encode()).hexdigest()


def parser_for(doc: str) -> argparse.ArgumentParser:
    """A parser with the flags that all scripts have; `doc` is the script's docstring."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--output_dir",
        type=given_path,
        required=True,
        help="Where the set goes; open it with datasets.load_from_disk.",
    )
    parser.add_argument(
        "--num_workers", type=whole(1), default=os.cpu_count(), help="Processes; default: one per core."
    )
    return parser


def given_path(text: str) -> Path:
    """Type of --input and --output_dir: no shell resolves `~` in --input=~/videos."""
    return Path(text).expanduser()


def prepare(plan: Plan, output_dir: Path, num_workers: int = 1) -> dict:
    """
    Make the set and print a summary, which is also returned and kept in `preparation.json` inside the set.

    Raises SystemExit, in a sentence, where there is nothing to prepare, `output_dir` holds something else, the disk is
    full, or the user stops it.
    """
    output_dir = Path(output_dir).absolute()
    if not plan.clips:
        raise SystemExit("There is not a single clip to prepare: check the path and the filters.")
    ids = Counter(clip.clip_id for clip in plan.clips)
    if len(ids) < len(plan.clips):
        twice = ids.most_common(1)[0][0]
        files = [clip.source for clip in plan.clips if clip.clip_id == twice]
        raise SystemExit(f"Two clips have the id {twice!r}: {' and '.join(files)}. Rename one, or move it elsewhere.")
    fingerprint = plan.fingerprint()
    if (output_dir / REPORT).exists():
        report = json.loads((output_dir / REPORT).read_text())
        if report["fingerprint"] != fingerprint:
            raise SystemExit(
                f"{output_dir} already holds another set: choose another --output_dir, or delete it first."
            )
        print(f"{output_dir} is already prepared.")
        return report
    if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
        raise SystemExit(f"{output_dir} is not an empty folder: choose another --output_dir.")

    work = output_dir.with_name(f".{output_dir.name}.partial-{fingerprint[:12]}")
    start = time.monotonic()
    try:
        work.mkdir(parents=True, exist_ok=True)
        portions = [plan.clips[i : i + CLIPS_PER_PORTION] for i in range(0, len(plan.clips), CLIPS_PER_PORTION)]
        read_portions(plan, portions, work, num_workers)
        report = finish(plan, portions, work, output_dir, fingerprint, start)
    except KeyboardInterrupt:
        raise SystemExit(f"\nStopped. What is done is kept in {work}; the same command goes on from there.") from None
    except BrokenProcessPool:
        raise SystemExit(
            "A worker process died: there was not enough memory, or a file crashed its decoder. What is done is kept "
            "in "
            f"{work}; the same command goes on from there, and with --num_workers 1 its bar shows how far it gets."
        ) from None
    except OSError as error:
        raise SystemExit(
            f"Cannot write the set: {error}. What is done is kept in {work}; make room (or choose another "
            "--output_dir), then the "
            "same command goes on from there."
        ) from error
    print_summary(report)
    return report


def read_portions(plan: Plan, portions: Sequence[Sequence[Clip]], work: Path, num_workers: int) -> None:
    todo = [number for number in range(len(portions)) if not is_done(portion_report(work, number))]
    worker_plan = replace(plan, clips=(), skipped={})  # a worker is sent its own clips only
    bar = tqdm(total=len(plan.clips), initial=len(plan.clips) - sum(len(portions[n]) for n in todo), unit="clip")
    with bar:
        if num_workers <= 1 or len(todo) <= 1:
            for number in todo:
                bar.update(read_portion(worker_plan, portions[number], work, number))
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(num_workers, len(todo)), context, start_worker) as pool:
            try:
                jobs = [pool.submit(read_portion, worker_plan, portions[n], work, n) for n in todo]
                for done in as_completed(jobs):
                    bar.update(done.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def start_worker() -> None:
    """
    Ctrl-C reaches every process of the terminal: the parent decides. And one thread each, as there is a process per
    core.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def portion_report(work: Path, number: int) -> Path:
    return work / f"{number:06d}.json"


def is_done(report: Path) -> bool:
    """Skipped clips are tried again: their files may have been mended."""
    return report.exists() and not json.loads(report.read_text())["skipped"]


def read_portion(plan: Plan, clips: Sequence[Clip], work: Path, number: int) -> int:
    """Read clips into one Arrow file per split. The report is written last: without it the portion is not there."""
    read, skipped = [], {}
    for clip in clips:
        try:
            frames = np.ascontiguousarray(plan.read(clip))
            if frames.dtype != np.uint8 or frames.shape[1:] != plan.shape or not len(frames):
                raise ValueError(f"{clip.source} gave {frames.dtype} {frames.shape}, not uint8 (N, {plan.shape}).")
            read.append((clip, frames))
        except Exception as error:  # one bad file must not cost the others, whatever its decoder raises
            skipped[clip.clip_id] = " ".join(str(error).split()) or type(error).__name__
    splits = sorted({clip.split for clip, _ in read})
    for split in splits:
        rows = [(clip, frames) for clip, frames in read if clip.split == split]
        write_arrow(plan, rows, work / f"{number:06d}-{split}.arrow")
    portion = {"splits": splits, "frames": sum(len(frames) for _, frames in read), "skipped": skipped}
    with written_whole(portion_report(work, number)) as partial:
        partial.write_text(json.dumps(portion))
    return len(clips)


@functools.lru_cache(maxsize=1)  # `datasets` copies every class name one by one: 10 ms a portion where there are 1,296
def features_and_schema(shape: tuple[int, int, int], labels: tuple) -> tuple[datasets.Features, pa.Schema]:
    features = clip_features(*shape, dict(labels))
    return features, features.arrow_schema


def write_arrow(plan: Plan, rows: Sequence[tuple[Clip, np.ndarray]], path: Path) -> None:
    features, schema = features_and_schema(plan.shape, tuple((n, tuple(names)) for n, names in plan.labels.items()))
    columns = {"frames": clips_to_arrow([frames for _, frames in rows])}
    for name in plan.labels:
        columns[name] = pa.array([features[name].str2int(clip.labels[name]) for clip, _ in rows], pa.int64())
    columns["clip_id"] = pa.array([clip.clip_id for clip, _ in rows])
    columns["source"] = pa.array([clip.source for clip, _ in rows])
    table = pa.table(columns).cast(schema)

    with (
        written_whole(path) as partial,
        pa.OSFile(str(partial), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as stream,
    ):
        stream.write_table(table)


def finish(plan: Plan, portions, work: Path, output_dir: Path, fingerprint: str, start: float) -> dict:
    """All portions as one `DatasetDict`, moved to `output_dir` once it is whole."""
    reports = [json.loads(portion_report(work, number).read_text()) for number in range(len(portions))]
    skipped = dict(plan.skipped)
    for each in reports:
        skipped |= each["skipped"]
    files = {}
    for number, each in enumerate(reports):
        for split in each["splits"]:
            files.setdefault(split, []).append(str(work / f"{number:06d}-{split}.arrow"))
    if not files:
        shutil.rmtree(work)
        raise SystemExit("\n".join([f"None of the {len(plan.clips)} clips could be read:", *reasons(skipped)]))
    splits = {}
    for split in sorted(files, key=SPLITS.index):
        # Not `Dataset.from_file` and `concatenate_datasets`: they take 30 ms a file.
        tables = [pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files[split]]
        splits[split] = datasets.Dataset(pa.concat_tables(tables), fingerprint=f"{fingerprint[:16]}-{split}")
        splits[split].info.description = f"{plan.description}\n\nSplit: {plan.split_rule}".strip()
        splits[split].info.license, splits[split].info.citation = plan.license, plan.citation
    report = {
        "clips": {split: len(dataset) for split, dataset in splits.items()},
        "classes": {
            name: len(set().union(*(dataset.unique(name) for dataset in splits.values()))) for name in plan.labels
        },
        "frames": sum(each["frames"] for each in reports),
        "skipped": skipped,
        "split_rule": plan.split_rule,
        "fingerprint": fingerprint,
    }
    rows = {
        split: dataset.select_columns(list(plan.labels)).to_list() if plan.labels else [{}] * len(dataset)
        for split, dataset in splits.items()
    }
    report["split_faults"] = [
        fault for split in SPLITS[1:] for fault in split_faults(rows.get("train", []), rows.get(split, []), split)
    ]
    people = {row["identity"] for row in rows.get("train", [])} if "identity" in plan.labels else None
    report["training"] = what_it_allows(len(rows.get("train", [])), None if people is None else len(people))
    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    datasets.disable_progress_bars()
    datasets.DatasetDict(splits).save_to_disk(whole)
    datasets.enable_progress_bars()
    report["seconds"] = round(time.monotonic() - start, 1)
    (whole / REPORT).write_text(json.dumps(report, indent=2) + "\n")
    if output_dir.exists():
        output_dir.rmdir()  # empty, as checked
    os.replace(whole, output_dir)
    shutil.rmtree(work, ignore_errors=True)
    return report


def reasons(skipped: Mapping[str, str], limit: int = 20) -> list[str]:
    lines = [f"  {clip_id}: {reason}" for clip_id, reason in skipped.items()]
    return lines[:limit] + ([f"  ... and {len(lines) - limit} more, in {REPORT}"] if len(lines) > limit else [])


def print_summary(report: dict) -> None:
    total = sum(report["clips"].values())
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * unit
    parts = [f"{count} {name}" for name, count in report["clips"].items()]
    print(f"{total} clips ({', '.join(parts)}), {report['frames']} frames, {len(report['skipped'])} skipped")
    for name, count in report["classes"].items():
        print(f"  {name}: {count} classes")
    print(f"  split: {report['split_rule']}")
    print(f"  training: {report['training']}")
    rate = total / max(report["seconds"], 0.1)
    print(f"  {report['seconds']} s, {rate:.1f} clips/s, peak memory of the largest process {peak / 2**20:.0f} MiB")
    for fault in report["split_faults"]:
        print(f"Warning: {fault}")
    if report["skipped"]:
        print("Skipped:", *reasons(report["skipped"]), sep="\n")
