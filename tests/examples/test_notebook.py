"""The notebook runs from top to bottom, and shows what its text says."""

import shutil
from pathlib import Path

import pytest


NOTEBOOK = Path(__file__).parents[2] / "examples" / "this_person_that_motion.ipynb"

nbformat = pytest.importorskip("nbformat", reason="the notebook needs the extra `notebook`")
nbclient = pytest.importorskip("nbclient", reason="the notebook needs the extra `notebook`")


def test_it_runs_and_shows_its_clips(tmp_path):
    shutil.copytree(NOTEBOOK.parent / "divid-puppets-tiny", tmp_path / "divid-puppets-tiny")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name="python3", resources=resources).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/gif" in data or "image/png" in data for data in shown) == 5
    assert any("torch.Size([2, 64]), torch.Size([2, 10, 64])" in data.get("text/plain", "") for data in shown)
