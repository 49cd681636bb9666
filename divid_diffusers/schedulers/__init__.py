"""The schedulers of diffusers that [`DiViDPipeline`] samples with, beside [`SharedNoiseDDPMScheduler`]."""

# A test decodes with each of them, noise shared by the frames of a clip, and finds every other scheduler of diffusers
# refused: those have noise levels of their own (EDM, flow matching, IPNDM, unCLIP, CogVideoX), run towards noise, or
# want more than the network's output.
SCHEDULERS = (
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
