"""How a run begins."""

import pytest
import torch
from trainer import start
from trainer.start import default_precision


@pytest.mark.parametrize(
    ("computes_in_bf16", "has_gpu", "environment", "precision"),
    [
        (True, False, {}, "bf16"),
        (False, False, {}, None),
        (True, True, {}, None),
        (True, False, {"ACCELERATE_MIXED_PRECISION": "no"}, "bf16"),  # what `accelerate launch` says by itself
        (True, False, {"ACCELERATE_MIXED_PRECISION": "fp16"}, None),
    ],
)
def test_bf16_is_the_default_on_cpus_that_compute_in_it(
    monkeypatch, computes_in_bf16, has_gpu, environment, precision
):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: computes_in_bf16)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_gpu)
    assert default_precision() == precision


def test_who_has_configured_accelerate_is_obeyed(monkeypatch, tmp_path):
    (tmp_path / "config.yaml").write_text("mixed_precision: 'no'")
    monkeypatch.setattr(start, "default_config_file", str(tmp_path / "config.yaml"))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert default_precision() is None
