import json
import sys
from math import nan

import pytest
import torch

from divid_diffusers.data.puppets import Puppets
from divid_diffusers.evaluation.label_free import (
    PretrainedFeatures,
    identity_distance,
    motion_distance,
    scorable_features,
    score_label_free,
)
from divid_diffusers.evaluation.true_swap import PuppetTruth


transformers = pytest.importorskip("transformers", reason="label-free scores are an extra")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "initializer_range": 0.3,  # wide, so that random features tell clips apart
    "image_size": 16,
}
PROCESSOR = {
    "do_resize": True,
    "do_center_crop": True,
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
    "size": {"shortest_edge": 16},
    "crop_size": {"height": 16, "width": 16},
}


def save(model, folder, **processor_type):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    # Written by hand, as it stands in the repositories on the Hub, older ones included.
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | processor_type))
    return str(folder)


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    torch.manual_seed(0)
    model = transformers.Dinov2Model(transformers.Dinov2Config(**SMALL, patch_size=4))
    return save(model, tmp_path_factory.mktemp("dinov2"), image_processor_type="BitImageProcessor")


@pytest.fixture(scope="module")
def video_model(tmp_path_factory):
    """With its classifier, as the default motion model has one."""
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(**SMALL, patch_size=4, num_frames=6)
    model = transformers.VideoMAEForVideoClassification(config)
    return save(model, tmp_path_factory.mktemp("videomae"), feature_extractor_type="VideoMAEFeatureExtractor")


@pytest.fixture(scope="module")
def features(image_model, video_model):
    return {"image": PretrainedFeatures(image_model), "video": PretrainedFeatures(video_model)}


@pytest.fixture(scope="module")
def donors():
    """Static donors, motion donors and the true swaps."""
    items = [Puppets(5, split="test", num_frames=6)[i] for i in range(5)]
    static, motion = items, items[2:] + items[:2]
    swaps = list(map(PuppetTruth(6), static, motion))
    return *(torch.stack([item["frames"] for item in group]) / 255 for group in (static, motion)), torch.stack(swaps)


def test_shapes_and_grey_clips(features):
    grey = torch.rand(2, 4, 1, 20, 16)
    for name, shape in (("image", (2, 4, 32)), ("video", (2, 32))):
        assert features[name](grey).shape == shape
        assert torch.equal(features[name](grey), features[name](grey.expand(-1, -1, 3, -1, -1)))


@pytest.mark.parametrize("kind", ["image", "video"])
@pytest.mark.parametrize("distance", [identity_distance, motion_distance])
def test_distances_of_features_are_distances(features, donors, kind, distance):
    one, other = features[kind](donors[0]), features[kind](donors[1])
    assert distance(one, features[kind](donors[0])).max() < 1e-6
    assert torch.equal(distance(one, other), distance(other, one))
    assert distance(one, other).min() > 1e-5


def test_known_distances():
    one = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    other = torch.tensor([[[0.0, 1.0], [0.0, 9.0], [nan, nan]]])
    assert identity_distance(one, other).item() == 1  # the third frame is left out, not averaged in
    assert identity_distance(one, -one).item() == 2
    assert identity_distance(one, nan * one).isnan()

    walk = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]])
    elsewhere, back, broken = 3 * walk + 7, -walk, walk.clone()
    broken[:, 2] = nan
    assert motion_distance(walk, elsewhere).item() == pytest.approx(0, abs=1e-6)
    assert motion_distance(walk, back).item() == pytest.approx(2)
    assert motion_distance(walk, walk[:, :1].expand_as(walk)).item() == 1
    assert motion_distance(walk, broken).item() == pytest.approx(0, abs=1e-6)
    assert motion_distance(walk, nan * walk).isnan()


@pytest.mark.parametrize("motion", ["image", "video"])
def test_copying_a_donor_earns_the_ceiling_where_it_is_the_wrong_one(features, donors, motion):
    static, moving, swaps = donors
    pair = {"identity": features["image"], "motion": features[motion]}
    copied = score_label_free(static, moving, static, **pair)
    assert copied.identity.mean < 1e-6 < 1e-4 < copied.motion.ceiling
    assert copied.motion.mean == pytest.approx(copied.motion.ceiling)
    copied = score_label_free(static, moving, moving, **pair)
    assert copied.motion.mean < 1e-6 < 1e-4 < copied.identity.ceiling
    assert copied.identity.mean == pytest.approx(copied.identity.ceiling)

    true = score_label_free(static, moving, swaps, **pair)
    assert true.identity.mean < true.identity.ceiling and true.identity.floor < true.identity.ceiling
    assert true.motion.floor < true.motion.ceiling
    assert true.identity.num_scored == true.identity.num_clips == 5
    assert true.identity.unscored_donor_frames == true.identity.unscored_output_frames == 0
    assert true.identity.num_frames == 30


def test_frames_that_show_nothing_are_counted_and_not_scored(features, donors):
    static, moving, swaps = donors
    broken = swaps.clone()
    broken[0, 1] = nan
    broken[1, :2] = 0.3  # blank
    broken[2] = 0
    pair = {"identity": features["image"], "motion": features["video"]}
    scores = score_label_free(static, moving, broken, **pair)
    for score in (scores.identity, scores.motion):
        assert (score.unscored_output_frames, score.unscored_donor_frames) == (9, 0)
    assert scores.identity.num_scored == 4  # two clips are scored on their other frames
    assert scores.motion.num_scored == 2  # a video feature sees all frames or none
    whole = score_label_free(static[3:], moving[3:], swaps[3:], **pair)
    assert scores.motion.mean == pytest.approx(whole.motion.mean, abs=1e-6)

    values, unscored = scorable_features(features["image"], broken)
    kept = [0, 2, 3, 4, 5]
    assert torch.allclose(values[0, kept], features["image"](swaps[:1, kept])[0], atol=1e-5)
    assert values[unscored].isnan().all() and unscored[0].tolist() == [False, True] + [False] * 4


def test_a_detector_that_finds_nothing(donors):
    def detector(clips):
        means = clips.mean(dim=(3, 4))
        return means.masked_fill((torch.arange(clips.shape[1]) == 2)[None, :, None], nan)

    static, moving, swaps = donors
    scores = score_label_free(static, moving, swaps, identity=detector, motion=detector)
    assert scores.identity.unscored_output_frames == scores.identity.unscored_donor_frames == 5
    assert scores.identity.num_scored == 5

    with pytest.raises(ValueError, match="none of 5 clips can be scored. 30 frames of donors"):
        score_label_free(static, moving, swaps, identity=lambda clips: nan * clips.mean(dim=(3, 4)), motion=detector)


def test_a_still_donor_has_no_motion_to_follow_but_a_still_output_scores_badly(features, donors):
    static, moving, swaps = donors
    still = moving.clone()
    still[0] = still[0, :1]
    pair = {"identity": features["image"], "motion": features["image"]}
    scores = score_label_free(static, still, still, **pair)
    assert scores.motion.num_scored == 4 and scores.motion.unscored_donor_frames == 6
    assert scores.motion.mean < 1e-6 and scores.identity.num_scored == 5

    motionless = swaps[:, :1].expand_as(swaps)
    assert score_label_free(static, moving, motionless, **pair).motion.mean == pytest.approx(1, abs=0.05)


def test_clips_must_be_alike(donors):
    static, moving, swaps = donors
    with pytest.raises(ValueError, match="alike in shape"):
        score_label_free(static, moving, swaps[:, :5])
    with pytest.raises(ValueError, match="at least 4 frames"):
        score_label_free(static[:, :3], moving[:, :3], swaps[:, :3])


def test_the_pooled_output_is_used_only_if_it_was_trained(image_model, tmp_path):
    pixels = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    clips = pixels[None] / 255
    vit = transformers.ViTModel(transformers.ViTConfig(**SMALL, patch_size=4), add_pooling_layer=False)
    path = save(vit, tmp_path, image_processor_type="ViTImageProcessor", size={"height": 16, "width": 16})
    untrained, trained = PretrainedFeatures(path), PretrainedFeatures(image_model)
    assert not untrained.pooler_is_trained and trained.pooler_is_trained
    assert torch.equal(untrained(clips), PretrainedFeatures(path)(clips))  # a made-up pooler would differ at each load

    inputs = trained.processor(list(pixels), return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(trained(clips)[0], trained.model(**inputs).pooler_output, atol=1e-5)


def test_models_of_other_kinds(tmp_path):
    clips = torch.rand(2, 4, 3, 16, 16)
    vision = SMALL | {"patch_size": 4, "projection_dim": 8}
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text | {"vocab_size": 32}, projection_dim=8)
    clip = save(transformers.CLIPModel(config), tmp_path / "clip", image_processor_type="CLIPImageProcessor")
    assert PretrainedFeatures(clip)(clips).shape == (2, 4, 8)

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    resnet = save(transformers.ResNetModel(config), tmp_path / "resnet", image_processor_type="BitImageProcessor")
    assert PretrainedFeatures(resnet)(clips).shape == (2, 4, 16)


def test_what_cannot_be_loaded_is_said_in_a_sentence(image_model, tmp_path, monkeypatch):
    with pytest.raises(OSError, match="'nobody/no-such-model' cannot be loaded. Give the name"):
        PretrainedFeatures("nobody/no-such-model")

    model = transformers.Dinov2Model.from_pretrained(image_model)
    model.save_pretrained(tmp_path / "no processor")
    with pytest.raises(OSError, match="processor included"):
        PretrainedFeatures(str(tmp_path / "no processor"))

    weights = {name: value for name, value in model.state_dict().items() if "layer.1." not in name}
    model.save_pretrained(tmp_path / "cut", state_dict=weights)
    (tmp_path / "cut" / "preprocessor_config.json").write_text(
        json.dumps(PROCESSOR | {"image_processor_type": "BitImageProcessor"})
    )
    with pytest.raises(ValueError, match="lacks weights of its own model"):
        PretrainedFeatures(str(tmp_path / "cut"))

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"divid_diffusers\[eval\]"):
        PretrainedFeatures(image_model)
