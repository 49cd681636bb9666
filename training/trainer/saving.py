"""What a finished run leaves: the pipeline, its card, and a copy on the Hub if that was asked for."""

from pathlib import Path

from accelerate.logging import get_logger
from torch import nn

from .card import run_facts
from .progress import Progress
from .recipe import Recipe


logger = get_logger(__name__)


def save_pipeline(
    recipe: Recipe, module: nn.Module, args, progress: Progress, processes: int, figures: dict[str, float]
) -> None:
    """`module` is the recipe's, with the weights to keep; `figures` are those of its last validation."""
    output_dir = Path(args.output_dir)
    recipe.pipeline(module).save_pretrained(output_dir)
    recipe.write_card(output_dir, run_facts(args, progress, processes, figures))
    if args.push_to_hub:
        push(output_dir, args)
    logger.info(f"Saved the pipeline to {output_dir}.")


def push(output_dir: Path, args) -> None:
    from publish.push_to_hub import publish

    try:
        publish(output_dir, args.hub_model_id or output_dir.name, token=args.hub_token)
    except (ValueError, OSError) as error:
        raise SystemExit(f"The pipeline is saved in {output_dir}, but: {error}") from error
