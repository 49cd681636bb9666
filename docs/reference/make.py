"""The API reference, from the docstrings: `python docs/reference/make.py build/api`, as `make docs` does."""

import argparse
import re
from pathlib import Path

import jinja2
import pdoc
from pdoc.render_helpers import to_markdown_with_context


HERE = Path(__file__).parent
# The rooms of which the top page shows nothing or not all, beside the names of `divid_diffusers` itself.
ROOMS = [f"divid_diffusers.{room}" for room in ("clips", "data", "evaluation", "models", "training")]


def pages() -> dict[str, pdoc.doc.Module]:
    return {name: pdoc.doc.Module.from_name(name) for name in pdoc.extract.walk_specs(["divid_diffusers", *ROOMS])}


def full_names() -> dict[str, str]:
    """Where each public name is shown: on the top page if it is there, else on that of the module that defines it."""
    found = {}
    for page, module in reversed(pages().items()):
        for name, member in module.members.items():
            if page == "divid_diffusers" or member.taken_from[0] == page:
                found[name] = f"{page}.{name}"
    return found


def render(folder: Path) -> None:
    """Writes a page for the package and one for each module of its rooms, with an index."""
    full = full_names()

    @jinja2.pass_context
    def to_markdown(context, docstring: str) -> str:
        """
        diffusers' docstrings write a link as [`name`]; pdoc makes one of a full name, or of a neighbour's, in
        backticks.
        """

        def link(found: re.Match) -> str:
            name, dot, rest = found[1].partition(".")
            return f"`{name if name in context['module'].members else full.get(name, name)}{dot}{rest}`"

        return to_markdown_with_context(context, re.sub(r"\[`([^`\]]+)`\](?!\()", link, docstring))

    pdoc.render.configure(docformat="google", template_directory=HERE)
    pdoc.render.env.filters["to_markdown"] = to_markdown
    try:
        pdoc.pdoc("divid_diffusers", *ROOMS, output_directory=folder)
    finally:
        pdoc.render.env.filters["to_markdown"] = to_markdown_with_context


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    render(parser.parse_args().folder)
