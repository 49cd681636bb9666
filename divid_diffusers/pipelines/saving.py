"""Saving and publishing a pipeline: safetensors only, whole or not at all."""

import json
import os
import shutil
import tempfile

import torch
from huggingface_hub import create_repo, file_exists, upload_file
from safetensors import SafetensorError

from ..models.modeling_utils import loading_from
from . import components


MODEL_CARD = """---
library_name: divid_diffusers
tags:
- diffusers
- video
- disentanglement
- divid
---

# {repo_id}

```python
from divid_diffusers import DiViDPipeline

pipe = DiViDPipeline.from_pretrained("{repo_id}")
clip = pipe.swap("this_person.mp4", "that_motion.mp4").frames[0]
```
"""


def _clean(file: str, like: str) -> None:
    """
    Drop the path a component was loaded from, which is nobody else's business, and safetensors' owner-only file mode.
    """
    shutil.copymode(like, file)
    if file.endswith(".json"):
        with open(file) as opened:
            config = json.load(opened)
        if config.pop("_name_or_path", None) is not None:
            with open(file, "w") as opened:
                opened.write(json.dumps(config, indent=2, sort_keys=True) + "\n")


def add_component(folder: str | os.PathLike, name: str, part: torch.nn.Module) -> None:
    """
    Add a component to a saved pipeline, or replace it, and leave its other files as they are: those of `part` go into
    the folder `name`, and its class into `model_index.json`, last.

    Raises:
        ValueError: a folder without `model_index.json`.
        OSError: in a sentence, where there is no room; `model_index.json` is then as it was.
    """
    index = os.path.join(os.path.expanduser(folder), "model_index.json")
    if not os.path.isfile(index):
        raise ValueError(f"{folder} has no model_index.json to add {name} to: give the folder of a checkpoint.")
    target = os.path.join(os.path.dirname(index), name)
    try:
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=os.path.dirname(index)) as scratch:
            part.save_pretrained(scratch)
            os.makedirs(target, exist_ok=True)
            for file in os.listdir(scratch):
                _clean(os.path.join(scratch, file), like=index)
                os.replace(os.path.join(scratch, file), os.path.join(target, file))
            with open(index) as opened:
                config = json.load(opened)
            config[name] = [components.__name__.partition(".")[0], type(part).__name__]
            written = os.path.join(scratch, "model_index.json")
            with open(written, "w") as opened:
                opened.write(json.dumps(config, indent=2, sort_keys=True) + "\n")
            shutil.copymode(index, written)
            os.replace(written, index)
    except (OSError, SafetensorError) as error:  # a full disk is the latter
        raise OSError(f"{name} was not added to {folder}: {error}. Make room, and add it again.") from error


class WholeSavingMixin:
    """Put before `DiffusionPipeline` among the bases."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **kwargs):
        if kwargs.setdefault("use_safetensors", True) is False:
            raise ValueError(f"{cls.__name__} loads weights from safetensors only: leave out `use_safetensors=False`.")
        source = os.path.expanduser(pretrained_model_name_or_path)
        with loading_from(source):
            return super().from_pretrained(source, **kwargs)

    @classmethod
    def extract_init_dict(cls, config_dict, **kwargs):
        """Our components are those of this package, whatever code a repository brings along: see `components`."""
        ours = {
            name: [components.__name__, value[1]]
            for name, value in config_dict.items()
            if isinstance(value, (list, tuple)) and value[0] == "divid_diffusers" and hasattr(components, value[1])
        }
        return super().extract_init_dict({**config_dict, **ours}, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs):
        """
        As [`DiffusionPipeline.save_pretrained`], but whole or not at all: everything is written beside the target
        first and `model_index.json`, without which a folder is no checkpoint, is moved in last.
        """
        if kwargs.get("safe_serialization") is False:
            raise ValueError(
                f"{type(self).__name__} saves weights as safetensors only: leave out `safe_serialization=False`."
            )
        target = os.path.abspath(save_directory)
        os.makedirs(target, exist_ok=True)
        hub_kwargs = {
            k: kwargs.pop(k) for k in ("repo_id", "commit_message", "private", "token", "create_pr") if k in kwargs
        }
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=os.path.dirname(target)) as scratch:
            try:
                super().save_pretrained(scratch, **kwargs)
                for folder, _, files in sorted(os.walk(scratch), reverse=True):  # the top folder last
                    destination = os.path.join(target, os.path.relpath(folder, scratch))
                    os.makedirs(destination, exist_ok=True)
                    for file in files:
                        _clean(os.path.join(folder, file), like=os.path.join(scratch, "model_index.json"))
                        os.replace(os.path.join(folder, file), os.path.join(destination, file))
            except (OSError, SafetensorError) as error:  # a full disk is the latter
                raise OSError(
                    f"The pipeline was not saved to {target}: {error}. Nothing there was left half-written; make room "
                    "or "
                    "choose another folder, and save again."
                ) from error
        if push_to_hub:
            self.push_to_hub(
                hub_kwargs.pop("repo_id", os.path.basename(target)), variant=kwargs.get("variant"), **hub_kwargs
            )

    def push_to_hub(self, repo_id: str, private: bool | None = None, token: str | None = None, **kwargs) -> str:
        """
        As [`DiffusionPipeline.push_to_hub`]. A repository without a model card gets one first, since diffusers would
        write one whose snippet cannot load this pipeline.
        """
        repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        if not file_exists(repo_id, "README.md", token=token):
            card = MODEL_CARD.format(repo_id=repo_id).encode()
            upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo_id, token=token)
        return super().push_to_hub(repo_id, private=private, token=token, **kwargs)
