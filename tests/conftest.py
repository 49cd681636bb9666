"""Settings of the whole suite, and the smallest models that have every part of the real ones."""

import os


# One thread, decided before torch is imported: tiny tensors lose more to threads than they gain. And no Hub.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import logging

import pytest
import torch
from tiny import tiny_pipeline


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def pipe():
    return tiny_pipeline()


@pytest.fixture
def diffusers_warnings():
    """The messages that diffusers logs during the test, as a list that fills up."""
    messages = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("diffusers")
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.fixture
def closed_folders(monkeypatch):
    """No folder can be read."""

    def closed(path, onerror, **_):
        onerror(PermissionError(13, "Permission denied", str(path)))

    monkeypatch.setattr(os, "walk", closed)
