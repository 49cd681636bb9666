"""
Publish a trained pipeline: `python training/publish/push_to_hub.py outputs/run --repo_id org/divid-mead`.

One commit with the weights in full and in half precision, the model card with its metadata and pictures, and the code
by which diffusers alone can load it. Everything is made and checked on this machine before the Hub hears of it. See
docs/hub.md.
"""

import argparse
import contextlib
import json
import math
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from huggingface_hub import EvalResult, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from PIL import Image
from remote_code import component_file, pipeline_file

import divid_diffusers
from divid_diffusers.evaluation.results_file import fingerprint


HTTPError = HfHubHTTPError.__bases__[0]  # of the library that this version of huggingface_hub talks through
METRICS = {"psnr": "PSNR of reconstructions, dB", "motion_error": "Motion error of reconstructions"}
PICTURE_TYPES = (".gif", ".jpeg", ".jpg", ".png", ".webp")
LOADING = """
## Without divid_diffusers

With diffusers alone (`pip install torch diffusers av einops`) the code comes from `pipeline.py` of this repository; read it first.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{repo_id}", custom_pipeline="pipeline", trust_remote_code=True)
```

`variant="fp16", torch_dtype=torch.float16` downloads half as much, in both ways of loading.
"""


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description="Publish a trained pipeline on the Hub, in one commit.", allow_abbrev=False
    )
    parser.add_argument("run", type=Path, help="The --output_dir of a training run.")
    parser.add_argument("--repo_id", required=True, help="namespace/name, or a name in your own namespace.")
    parser.add_argument("--private", action="store_true", help="If the repository is new, only you can see it.")
    parser.add_argument("--examples", type=Path, nargs="+", default=[], metavar="PICTURE", help="Shown on the card.")
    parser.add_argument(
        "--results", type=Path, help="A results.json in which evaluate.py measured this run, for the card."
    )
    parser.add_argument(
        "--license", help="Of the weights, such as apache-2.0; default: what the card says, which may be nothing."
    )
    parser.add_argument("--token", help="Default: the token of `hf auth login`, or HF_TOKEN.")
    parser.add_argument("--dry_run", action="store_true", help="Check everything, list what would be uploaded, stop.")
    return parser.parse_args(argv)


# --- what a run says of itself -------------------------------------------------------------------------------------


def metrics_from(run: Path, card: ModelCard) -> list[EvalResult]:
    """
    The run's own validation, on held-out clips of its data set, of the step at which its card says it ended; none if
    it had none.
    """
    told = card.data.get("training") or {}
    file = run / "validation" / "figures.jsonl"
    figures = [each for each in read_figures(file) if each.get("step") == told.get("steps")]
    return [
        metric(str(told.get("dataset") or "unnamed"), name, METRICS[name], value)
        for name, value in (figures[-1] if figures else {}).items()
        if name in METRICS and isinstance(value, (int, float)) and math.isfinite(value)
    ]


def read_figures(file: Path) -> list[dict]:
    """The whole lines of the file; the last one may be half a line of a run that was killed."""
    figures = []
    for line in file.read_text().splitlines() if file.is_file() else []:
        with contextlib.suppress(ValueError):
            each = json.loads(line)
            figures += [each] if isinstance(each, dict) else []
    return figures


def metric(dataset: str, kind: str, name: str, value: float, **arguments) -> EvalResult:
    return EvalResult(
        task_type="video-to-video",
        dataset_type=dataset,
        dataset_name=f"{dataset}, held-out clips",
        metric_type=kind,
        metric_name=name,
        metric_value=round(value, 4),
        metric_args=arguments or None,
    )


def metrics_measured(pipe: DiffusionPipeline, file: Path) -> list[EvalResult]:
    """
    What evaluate.py measured of these very weights, with n and the ends of 95 % intervals as arguments.

    Raises:
        ValueError: it is no results.json, or has no figures of these weights.
    """
    try:
        results = json.loads(file.read_text())
        dataset, models = results["settings"]["dataset"], results["models"].values()
        sections = next((each["sections"] for each in models if each["fingerprint"] == fingerprint(pipe)), {})
        found = {name: section["result"] for name, section in sections.items() if "result" in section}
        metrics = list(metrics_of(found, dataset))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is not a results.json as evaluate.py writes it: {error!r}.") from error
    if not metrics:
        raise ValueError(
            f"{file} has no figures of these weights: measure them with evaluate.py, and publish the same folder."
        )
    return metrics


def metrics_of(found: dict, dataset: str) -> Iterator[EvalResult]:
    if "swap" in found:
        swaps = found["swap"]["swaps"]["all"]
        for factor in ("static", "dynamic", "joint"):
            value, low, high = swaps[factor]
            name = f"Swaps, {factor} accuracy"
            yield metric(dataset, f"swap_{factor}", name, value, n=swaps["n"], low=low, high=high)
    if "reconstruction" in found:
        decoded = found["reconstruction"]["from pure noise"]
        for kind, name in METRICS.items():
            value, half = decoded[kind]
            yield metric(dataset, kind, name, value, n=decoded["n"], low=value - half, high=value + half)
    if "leakage" in found:
        above_chance = found["leakage"]["leakage"]["above_chance"]
        yield metric(dataset, "leakage", "Leakage above chance", above_chance, n=found["leakage"]["n_test"])


def pictures_of(run: Path, card: ModelCard, examples: list[Path]) -> dict[str, Path]:
    """
    The validation picture of the step at which the card says the run ended, and the examples, by their names in the
    repository.
    """
    pictures, step = {}, (card.data.get("training") or {}).get("steps")
    if isinstance(step, int) and (run / f"validation/step-{step:06d}.png").is_file():
        pictures["pictures/validation.png"] = run / f"validation/step-{step:06d}.png"
    for path in examples:
        name = f"pictures/{path.name}"
        if name in pictures:
            raise ValueError(f"Two pictures are called {path.name}: rename one.")
        pictures[name] = path
    for path in pictures.values():
        if path.suffix.lower() not in PICTURE_TYPES:
            raise ValueError(f"{path} is no picture that a card can show: {', '.join(PICTURE_TYPES)} can be shown.")
        try:
            with Image.open(path) as image:
                image.verify()
        except (OSError, SyntaxError) as error:  # the latter is PIL's for a broken PNG
            raise ValueError(f"The picture {path} cannot be read: {error}.") from error
    return pictures


def open_pipeline(run: Path) -> DiffusionPipeline:
    """
    Raises:
        ValueError: `run` is no folder of one of our pipelines, or the pipeline does not load.
    """
    index = run / "model_index.json"
    if not index.is_file():
        raise ValueError(
            f"{run} is not a saved pipeline: it has no model_index.json. Give the --output_dir of a run that ended."
        )
    try:
        class_name = json.loads(index.read_text()).get("_class_name")
        pipeline_class = getattr(divid_diffusers, str(class_name), None)
        if not (isinstance(pipeline_class, type) and issubclass(pipeline_class, DiffusionPipeline)):
            raise ValueError(f"its class is {class_name}, which divid_diffusers does not have")
        return pipeline_class.from_pretrained(run)
    except Exception as error:  # whatever it is, such a pipeline is not published
        raise ValueError(f"The pipeline in {run} does not load: {error}") from error


def open_card(run: Path) -> ModelCard:
    card = ModelCard.load(run / "README.md") if (run / "README.md").is_file() else None
    if card is None or card.data.get("library_name") != "divid_diffusers":
        raise ValueError(
            f"{run} has no README.md with `library_name: divid_diffusers` in its metadata: the trainer writes such a "
            "card. Put one there."
        )
    return card


# --- what is uploaded ----------------------------------------------------------------------------------------------


def write_upload(folder: Path, pipe: DiffusionPipeline, card: str, pictures: dict[str, Path]) -> None:
    """Everything that is uploaded, and nothing else: no checkpoints, no logs."""
    pipe.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    for name, value in index.items():
        if isinstance(value, list) and value[0] == "divid_diffusers":
            (folder / name / "divid_diffusers.py").write_text(component_file(value[1]))
    (folder / "pipeline.py").write_text(pipeline_file(type(pipe).__name__))

    (folder / "pictures").mkdir()
    for name, path in pictures.items():
        (folder / name).write_bytes(path.read_bytes())
    (folder / "README.md").write_text(card)
    save_half_precision(pipe, folder)


def copy_page(run: Path, folder: Path) -> None:
    """What a page that shows this checkpoint says of it and offers, where examples/space/domain.py has written it."""
    for path in (run / "space.json", *sorted((run / "examples").glob("[!.]*"))):
        if path.is_file():
            (folder / path.relative_to(run)).parent.mkdir(exist_ok=True)
            (folder / path.relative_to(run)).write_bytes(path.read_bytes())


def save_half_precision(pipe: DiffusionPipeline, folder: Path) -> None:
    models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for model in models:
        model.half()
        if not all(weight.isfinite().all() for weight in model.parameters()):
            raise ValueError(
                f"{type(model).__name__} has weights that half precision cannot hold: look at the training run."
            )
    pipe.save_pretrained(folder, variant="fp16")


def finished_card(card: ModelCard, metrics: list[EvalResult], repo_id: str, pictures: list[str]) -> str:
    """
    The trainer's card, with the repository's name, the metrics, the pictures and the way to load it without this
    package.
    """
    card.data.model_name = repo_id.rpartition("/")[2]
    card.data.eval_results = metrics or None
    text = re.split(r"^## (?:Pictures|Without divid_diffusers)$", card.text, maxsplit=1, flags=re.MULTILINE)[0]
    text = re.sub(r'from_pretrained\("[^"]*"', f'from_pretrained("{repo_id}"', text)
    text = re.sub(r"^# .*$", f"# {card.data.model_name}", text, count=1, flags=re.MULTILINE).strip()
    if pictures:
        text += "\n\n## Pictures\n"
        for name in pictures:
            text += f"\n![{CAPTIONS.get(name, Path(name).stem)}]({name})\n"
    content = f"---\n{card.data.to_yaml()}\n---\n\n{text}\n{LOADING.format(repo_id=repo_id)}"
    return without_secrets(content)


def without_secrets(text: str) -> str:
    """
    The training command on the card of an older version may have had a token, also under an abbreviation of its flag.
    """
    text = re.sub(r"""\s--hub_t\w*[=\s]+(?:"[^"]*"|'[^']*'|\S+)""", "", text)
    return re.sub(r"\bhf_[A-Za-z0-9]{30,}\b", "hf_...", text)  # what a token of the Hub looks like, wherever it stands


CAPTIONS = {
    "pictures/validation.png": "Held-out clips, three rows each: the clip, its reconstruction, its motion by the next "
    "clip's person"
}


# --- the upload ----------------------------------------------------------------------------------------------------


def publish(
    run: Path,
    repo_id: str,
    private: bool = False,
    examples: list[Path] = [],
    results: Path | None = None,
    token: str | None = None,
    dry_run: bool = False,
    license: str | None = None,
) -> str | None:
    """
    Check everything, then upload it in one commit.

    Args:
        run: the output folder of a training run.
        repo_id: "namespace/name", or a name in the namespace of the token.
        private: refused if the repository exists and is public.
        examples: pictures to show on the card.
        results: what evaluate.py measured, for the card; without it the last figures of the run's validation.
        license: of the weights; default: what the card says, which may be nothing.
        dry_run: list what would be uploaded; nothing is asked of the Hub.

    Returns:
        The commit's URL, or None after a dry run.

    Raises:
        ValueError, OSError: in a sentence; the repository is then as it was, or new and empty.
    """
    validate_repo_id(repo_id)
    run, api = Path(run), HfApi(token=token)
    card = open_card(run)
    pictures, pipe = pictures_of(run, card, examples), open_pipeline(run)
    if license:
        card.data.license = license
    if not card.data.license:
        print("The card claims no licence: give --license if the weights have one.", file=sys.stderr)
    metrics = metrics_measured(pipe, Path(results)) if results else metrics_from(run, card)
    if not dry_run:
        with errors_as_sentences(repo_id):
            user = api.whoami()["name"]
        repo_id = repo_id if "/" in repo_id else f"{user}/{repo_id}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_upload(folder, pipe, finished_card(card, metrics, repo_id, list(pictures)), pictures)
        copy_page(run, folder)
        if dry_run:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                print(f"{path.stat().st_size:12,d}  {path.relative_to(folder).as_posix()}")
            return None
        with errors_as_sentences(repo_id):
            api.create_repo(repo_id, private=private or None, exist_ok=True)
            if private and not api.model_info(repo_id).private:
                raise ValueError(
                    f"{repo_id} exists and is public: make it private on its page, or leave out --private."
                )
            # What an earlier upload left in these folders would be loaded with, or instead of, what is uploaded now.
            folders = [f"{path.name}/*" for path in folder.iterdir() if path.is_dir()]
            commit = api.upload_folder(
                repo_id=repo_id, folder_path=folder, delete_patterns=folders, commit_message="Publish the pipeline"
            )
        return commit.commit_url


@contextlib.contextmanager
def errors_as_sentences(repo_id: str) -> Iterator[None]:
    try:
        yield
    except (HTTPError, OSError) as error:
        raise OSError(f"{repo_id} was not published: {what_went_wrong(error)}") from error


def what_went_wrong(error: Exception) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it."
    if isinstance(error, LocalTokenNotFoundError):
        return "there is no token. Run `hf auth login`, or set HF_TOKEN."
    if not isinstance(error, HfHubHTTPError):
        return f"the connection to the Hub failed ({error}). Run the same command again: it makes one commit or none."
    status = error.response.status_code
    if status == 401:
        return "the Hub does not accept the token. Run `hf auth login` with a new one, or set HF_TOKEN."
    if status == 403:
        return "this token may not write there. Take a namespace of yours, and a token with the right to write."
    return f"the Hub answered {status} ({str(error).strip().splitlines()[-1]})."


def main(argv=None) -> int:
    """0: done. 1: it could not be done, and a sentence on stderr says why. 2: the command line makes no sense."""
    args = parse_args(argv)
    try:
        url = publish(
            args.run, args.repo_id, args.private, args.examples, args.results, args.token, args.dry_run, args.license
        )
    except (ValueError, OSError) as error:
        print(f"push_to_hub: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(url or f"This would be one commit to {args.repo_id}. Nothing was uploaded.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
