"""Weights that are elsewhere until they are needed: what a model's methods other than `forward` owe to offloading."""

import functools
import inspect

import torch


def reads_weights(method):
    """
    For `forward`, and for every public method of a model that reads weights.

    Offloading brings a module's weights in where the module is called. `forward` is hooked by the libraries
    themselves; any other method, called from outside, gets the same hooks here: those of accelerate and those of
    diffusers' group offloading (diffusers' own `apply_forward_hook` knows the former only). Called from within
    `forward`, or from another such method, it is a plain call: the weights are in, and must stay for the rest of it.
    """

    def run(self, *args, **kwargs):
        hooks = [] if self.__dict__.get("_weights_are_in") else _offloading_hooks(self)
        if not hooks:
            return method(self, *args, **kwargs)
        self._weights_are_in = True
        try:
            if method.__name__ == "forward":
                return method(self, *args, **kwargs)
            for hook in hooks:
                args, kwargs = hook.pre_forward(self, *args, **kwargs)
            output = method(self, *args, **kwargs)
            for hook in reversed(hooks):
                output = hook.post_forward(self, output)
            return output
        finally:
            self._weights_are_in = False

    # Not functools.wraps: accelerate takes its own wrappers off by following `__wrapped__`, and would take this one,
    # too.
    functools.update_wrapper(run, method)
    del run.__wrapped__
    run.__signature__ = inspect.signature(method)
    return run


def input_device(model) -> torch.device:
    """
    Where to put inputs: beside the weights or, if those are on no device now, on the CPU, from where hooks take them.
    """
    return torch.device("cpu") if model.device.type == "meta" else model.device


def is_group_offloaded(model) -> bool:
    """Whether what its weights hold between calls is nobody's to read."""
    return any(_group_hook(module) is not None for module in model.modules())


def _group_hook(module):
    registry = module.__dict__.get("_diffusers_hook")
    return registry and registry.get_hook("group_offloading")


def _offloading_hooks(module) -> list:
    hooks = [module.__dict__.get("_hf_hook"), _group_hook(module)]
    return [hook for hook in hooks if hook is not None]
