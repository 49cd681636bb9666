"""
The samples under "Use via API". Gradio's name a PDF on another host, which this page refuses; these run as they stand.
"""

import os
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

import gradio as gr


ROUTE = "/gradio_api/file="
OWN_FILE = "this_person.mp4"  # where the checkpoint brings no examples


def example_behind(link: str, examples: set[str]) -> str | None:
    """The example that a link names, whatever host the page is reached by; None for any other link."""
    _, _, path = unquote(urlsplit(link).path).partition(ROUTE)
    return path if path in examples else None


def name_own_examples(demo: gr.Blocks, examples: set[str]) -> None:
    def links(info):
        if isinstance(info, dict):
            if info.get("meta") == {"_type": "gradio.FileData"} and "url" in info:
                return info | {"url": address(demo) + ROUTE + info["path"] if info["path"] in examples else OWN_FILE}
            return {name: links(value) for name, value in info.items()}
        return [links(each) for each in info] if isinstance(info, list) else info

    def with_links(*arguments, original: Callable = demo.get_api_info, **options):
        return links(original(*arguments, **options))

    demo.get_api_info = with_links


def address(demo: gr.Blocks) -> str:
    host = os.environ.get("SPACE_HOST")  # which a Space is told
    return f"https://{host}" if host else (demo.local_url or "").rstrip("/")
