"""The API reference is made of docstrings: every public name has one, and the pages show and link what they should."""

import importlib.util
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import divid_diffusers
from divid_diffusers.models.judge import ClipJudge


ROOT = Path(__file__).parents[1]
PUBLIC = [name for name in divid_diffusers.__all__ if not name.startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_and_method_of_ours_is_documented(name):
    public = getattr(divid_diffusers, name)
    if not (inspect.isclass(public) or inspect.isfunction(public)):
        return
    assert inspect.getdoc(public)
    for method, function in inspect.getmembers(public, inspect.isfunction):
        ours = getattr(function, "__module__", "").startswith("divid_diffusers")
        if ours and not method.startswith("_"):
            assert inspect.getdoc(function), f"{name}.{method} has no docstring"


USED = [getattr(divid_diffusers, name) for name in PUBLIC if inspect.isclass(getattr(divid_diffusers, name))] + [
    ClipJudge
]
USAGES = {
    used.__name__: textwrap.dedent(block)
    for used in USED
    for block in re.findall(r"^ *```python\n(.*?)```", used.__doc__ or "", re.M | re.S)
    if used.__module__.startswith("divid_diffusers")
}


def test_each_main_class_shows_its_use():
    assert set(USAGES) >= {
        "ClipJudge",
        "ClipProcessor",
        "DBSE",
        "DiViDPipeline",
        "DiViDSequenceEncoder",
        "DiViDUNet2DConditionModel",
        "SPYL",
        "SharedNoiseDDPMScheduler",
    }


@pytest.mark.parametrize("name", USAGES)
def test_what_a_class_shows_runs(name, tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(USAGES[name], name, "exec"), {})


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Each page of the reference by its path."""
    pytest.importorskip("pdoc", reason="the reference needs the extra `docs`")
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "reference" / "make.py")
    make_reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_reference)
    folder = tmp_path_factory.mktemp("api")
    make_reference.render(folder)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.html")}


def test_the_first_page_shows_every_public_name_the_pipeline_first(reference):
    page = reference["divid_diffusers.html"]
    assert all(f'id="{name}"' in page for name in PUBLIC)
    assert re.search(r'<section id="(\w+)">', page)[1] == "DiViDPipeline"


def test_what_a_pipeline_is_called_with_is_shown(reference):
    page = reference["divid_diffusers.html"]
    assert 'id="DiViDPipeline.__call__"' in page and 'id="SequentialVAEPipeline.__call__"' in page


def test_every_module_of_the_rooms_has_a_page(reference):
    package = ROOT / "divid_diffusers"
    for room in ("clips", "data", "evaluation", "models", "training"):
        for path in (package / room).glob("[a-z]*.py"):
            assert str(path.relative_to(ROOT).with_suffix(".html")) in reference


def test_names_in_brackets_become_links(reference):
    text = "".join(reference.values())
    assert "[<code>" not in text
    top, losses = reference["divid_diffusers.html"], reference["divid_diffusers/training/losses.html"]
    assert '<a href="#ClipProcessor">ClipProcessor</a>' in top  # a neighbour
    assert re.search(r'<a href="#DiViDPipeline.__call__">__call__</a>', top)  # of the same class
    assert '<a href="#motion_weight">motion_weight</a>' in losses
    protocol = reference["divid_diffusers/evaluation/protocol.html"]
    assert '<a href="../../divid_diffusers.html#DiViDPipeline">' in protocol  # on another page
