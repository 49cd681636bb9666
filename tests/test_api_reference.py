"""The API reference is made of docstrings: every public name has one, and pdoc can render them."""

import inspect

import pytest

import divid_diffusers


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


def test_the_reference_can_be_made(tmp_path):
    pdoc = pytest.importorskip("pdoc", reason="the reference needs the extra `docs`")
    pdoc.render.configure(docformat="google")
    pdoc.pdoc("divid_diffusers", output_directory=tmp_path)
    page = (tmp_path / "divid_diffusers.html").read_text()
    assert all(f'id="{name}"' in page for name in PUBLIC)
