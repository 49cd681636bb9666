"""DiViD: static/dynamic disentanglement of video, as a diffusers pipeline."""

# diffusers looks for the base classes of a component by name in the package that model_index.json names.
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .clips.processor import ClipProcessor, load_clip
from .clips.writing import export_clip
from .models.dbse import DBSE
from .models.sequence_encoder import DiViDSequenceEncoder, DiViDTokens
from .models.spyl import SPYL
from .models.token_directions import TokenDirections
from .models.token_prior import DiViDTokenPrior
from .models.unet_static_dynamic import DiViDUNet2DConditionModel
from .pipelines.pipeline_divid import DiViDPipeline
from .pipelines.pipeline_output import DiViDPipelineOutput
from .pipelines.pipeline_sequential_vae import SequentialVAEPipeline
from .presets import PRESETS, build_baseline, build_models, build_pipeline
from .schedulers.scheduling_shared_noise_ddpm import SharedNoiseDDPMScheduler


__version__ = "0.1.0"

# A component of a library that is not listed here is refused when loaded from the Hub. setdefault: registered once,
# and only the base names that diffusers' own entry has.
LOADABLE_CLASSES.setdefault(
    "divid_diffusers",
    {name: LOADABLE_CLASSES["diffusers"][name] for name in ("ModelMixin", "SchedulerMixin", "DiffusionPipeline")},
)

# In the order in which the API reference shows them.
__all__ = [
    "DiViDPipeline",
    "DiViDPipelineOutput",
    "DiViDSequenceEncoder",
    "DiViDTokens",
    "DiViDUNet2DConditionModel",
    "TokenDirections",
    "DiViDTokenPrior",
    "SharedNoiseDDPMScheduler",
    "ClipProcessor",
    "load_clip",
    "export_clip",
    "PRESETS",
    "build_pipeline",
    "build_models",
    "build_baseline",
    "DBSE",
    "SPYL",
    "SequentialVAEPipeline",
    "DiffusionPipeline",
    "ModelMixin",
    "SchedulerMixin",
]
