"""
The code that a published repository carries, so that diffusers can load it where this package is not installed:
`DiffusionPipeline.from_pretrained(repo, custom_pipeline="pipeline", trust_remote_code=True)`.

diffusers 0.42 copies `pipeline.py` and the files it imports as `.name` into its cache of modules; imports between
files in folders it does not follow (`utils/dynamic_modules_utils.py`). Hence one file that holds those of this package
unchanged, each line behind a bar (diffusers searches the text for imports), and makes them importable under their own
names.
"""

import ast
from importlib.util import resolve_name
from pathlib import Path

import divid_diffusers


PACKAGE = Path(divid_diffusers.__file__).parent
PIPELINE = '''"""{class_name} where `divid_diffusers` is not installed:

    DiffusionPipeline.from_pretrained(repository, custom_pipeline="pipeline", trust_remote_code=True)

The files of divid_diffusers {version}, unchanged, each line behind a bar. If the package is installed, that is used instead.
"""

import importlib
import importlib.abc
import importlib.util
import sys

import av
import einops


FILES = r\'\'\'
{files}\'\'\'


class ShippedFiles(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds and loads what FILES has."""

    def __init__(self, text):
        self.paths, self.sources = {{}}, {{}}
        for line in text.strip().split("\\n"):
            if line.startswith("|"):
                self.sources[name] += line[1:] + "\\n"
            else:
                name = line.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                self.paths[name], self.sources[name] = line, ""

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name in self.paths else None

    def is_package(self, name):
        return self.paths[name].endswith("/__init__.py")

    def get_filename(self, name):
        return __file__ + "/" + self.paths[name]

    def get_source(self, name):
        return self.sources[name]


if importlib.util.find_spec("divid_diffusers") is None:
    sys.meta_path.append(ShippedFiles(FILES))

{class_name} = importlib.import_module("divid_diffusers").{class_name}
'''
COMPONENT = """# diffusers downloads a component of a library it does not know only if this file exists. The class itself is in ../pipeline.py.
from divid_diffusers import {class_name}
"""


def pipeline_file(class_name: str) -> str:
    """`pipeline.py` of a repository whose pipeline is the `class_name` of this package."""
    sources = {path: (PACKAGE.parent / path).read_text() for path in needed_files()}
    for path, source in sources.items():
        if "'''" in source or (source and not source.endswith("\n")):
            raise ValueError(
                f"{path} has three single quotes in a row, or no newline at its end: it cannot be shipped."
            )
    files = "".join(
        path + "\n" + "".join(f"|{line}\n" for line in source.split("\n")[:-1]) for path, source in sources.items()
    )
    return PIPELINE.format(class_name=class_name, version=divid_diffusers.__version__, files=files)


def component_file(class_name: str) -> str:
    """`encoder/divid_diffusers.py` and its like."""
    return COMPONENT.format(class_name=class_name)


def needed_files() -> list[str]:
    """The files of this package that `import divid_diffusers` reads, as paths with slashes, in order."""
    found, waiting = set(), {PACKAGE.name}
    while waiting:
        module = waiting.pop()
        file = PACKAGE.parent.joinpath(*module.split("."))
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        if not file.is_file() or file in found:  # a name imported from a module is no file
            continue
        found.add(file)
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        waiting.add(package)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                imported = resolve_name("." * node.level + (node.module or ""), package)
                waiting |= {imported, *(f"{imported}.{name.name}" for name in node.names)}
    return sorted(file.relative_to(PACKAGE.parent).as_posix() for file in found)
