"""The perceptual distance, with a stand-in for torchvision, which has no build that fits a CPU-only torch."""

import sys
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import nn

from divid_diffusers.models.perceptual import LAYERS, VGGPerceptualDistance


def vgg16(weights):
    """The layers of VGG-16 in torchvision's order, eight times narrower."""
    assert weights == "ImageNet"
    layers, width = [], 3
    for block in ((8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64)):
        for out_channels in block:
            layers += [nn.Conv2d(width, out_channels, 3, padding=1), nn.ReLU(inplace=True)]
            width = out_channels
        layers.append(nn.MaxPool2d(2))
    return SimpleNamespace(features=nn.Sequential(*layers))


def install(monkeypatch, vgg16):
    models = ModuleType("torchvision.models")
    models.vgg16, models.VGG16_Weights = vgg16, SimpleNamespace(IMAGENET1K_V1="ImageNet")
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.fixture
def distance(monkeypatch):
    install(monkeypatch, vgg16)
    return VGGPerceptualDistance()


def test_frames_are_as_far_apart_as_their_features(distance):
    frames, targets = torch.rand(3, 3, 32, 32) * 2 - 1, torch.rand(3, 3, 32, 32) * 2 - 1
    assert distance(frames, frames).tolist() == [0, 0, 0]
    apart = distance(frames, targets)
    assert apart.shape == (3,) and (apart > 0).all()
    torch.testing.assert_close(distance(frames[:1], targets[:1]), apart[:1])
    torch.testing.assert_close(distance(targets, frames), apart)


def test_the_layers_are_the_last_of_the_first_four_blocks(distance):
    for index in LAYERS:
        assert isinstance(distance.features[index], nn.ReLU)
    followers = [layer for index, layer in enumerate(vgg16("ImageNet").features) if index - 1 in LAYERS]
    assert [type(layer) for layer in followers] == [nn.MaxPool2d] * 4
    assert len(distance.features) == LAYERS[-1] + 1


def test_grey_frames_count_as_colourless_ones(distance):
    frames, targets = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(
        distance(frames, targets), distance(frames.expand(-1, 3, -1, -1), targets.expand(-1, 3, -1, -1))
    )


def test_it_trains_the_frames_and_never_itself(distance):
    frames = torch.rand(1, 3, 32, 32, requires_grad=True)
    distance(frames, torch.zeros(1, 3, 32, 32)).sum().backward()
    assert frames.grad.any()
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def built_for_another_torch(name):
    raise RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.parametrize("how", ["absent", "built for another torch"])
def test_without_torchvision_the_way_out_is_named(monkeypatch, how):
    broken = ModuleType("torchvision.models")
    broken.__getattr__ = built_for_another_torch
    monkeypatch.setitem(sys.modules, "torchvision", None if how == "absent" else ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", None if how == "absent" else broken)
    with pytest.raises(ImportError, match="needs torchvision.*or pass --perceptual_weight 0"):
        VGGPerceptualDistance()


@pytest.mark.parametrize("error", [URLError("no network"), RuntimeError("invalid hash value")])
def test_without_the_weights_the_way_out_is_named(monkeypatch, error):
    def fail(weights):
        raise error

    install(monkeypatch, fail)
    with pytest.raises(OSError, match="weights of VGG-16.*vgg16-397923af.pth.*or pass --perceptual_weight 0"):
        VGGPerceptualDistance()
