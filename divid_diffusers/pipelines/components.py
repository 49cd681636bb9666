"""
What `model_index.json` may name as a component of ours, and the base names by which diffusers tells how to load it.

A published repository has a file `encoder/divid_diffusers.py`, which diffusers' loader prefers to a library of that
name, but runs only with `trust_remote_code`. Asked for "divid_diffusers.pipelines.components" instead, it finds no
such file and takes the installed class.
"""

from diffusers import ModelMixin, SchedulerMixin

from ..models.dbse import DBSE
from ..models.sequence_encoder import DiViDSequenceEncoder
from ..models.spyl import SPYL
from ..models.token_directions import TokenDirections
from ..models.token_prior import DiViDTokenPrior
from ..models.unet_static_dynamic import DiViDUNet2DConditionModel
from ..schedulers.scheduling_shared_noise_ddpm import SharedNoiseDDPMScheduler


__all__ = [
    "DBSE",
    "SPYL",
    "DiViDSequenceEncoder",
    "DiViDTokenPrior",
    "DiViDUNet2DConditionModel",
    "ModelMixin",
    "SchedulerMixin",
    "SharedNoiseDDPMScheduler",
    "TokenDirections",
]
