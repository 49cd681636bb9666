import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from divid_diffusers.evaluation import leakage
from divid_diffusers.evaluation.leakage import LabelledCodes, leakage_table, measure_leakage


pytest.importorskip("sklearn", reason="scikit-learn is an extra")
scipy_stats = pytest.importorskip("scipy.stats")  # comes with scikit-learn

IDENTITIES, ACTIONS, NUM_FRAMES = 4, 3, 3


def labels(count, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(IDENTITIES, size=count), rng.integers(ACTIONS, size=count)


def perfect_codes(count, seed):
    """s is the identity and d the action, each one-hot; nothing leaks."""
    identity, action = labels(count, seed)
    dynamic = np.repeat(np.eye(ACTIONS)[action][:, None], NUM_FRAMES, axis=1)
    return LabelledCodes(np.eye(IDENTITIES)[identity], dynamic, {"identity": identity}, {"action": action})


def leaky_codes(count, seed):
    """The identity is in d, too."""
    codes = perfect_codes(count, seed)
    copied = np.repeat(codes.static[:, None], NUM_FRAMES, axis=1)
    return replace(codes, dynamic=np.concatenate([codes.dynamic, copied], axis=-1))


@pytest.fixture(scope="module")
def perfect():
    return measure_leakage(perfect_codes(160, seed=0), perfect_codes(100, seed=1))


@pytest.fixture(scope="module")
def leaky():
    return measure_leakage(leaky_codes(160, seed=0), leaky_codes(100, seed=1))


def accuracy(result, cell):
    return result["cells"][cell]["accuracy"]


def test_codes_that_hold_their_own_factor_alone_do_not_leak(perfect):
    assert accuracy(perfect, "S->S") == accuracy(perfect, "D->D") == 1
    assert accuracy(perfect, "S->D") < 0.5  # chance is a third
    assert accuracy(perfect, "D->S") < 0.4  # chance is a quarter
    chosen = perfect["probes"]["d"]["action"]
    assert (chosen["probe"], chosen["features"]) == ("linear", "mean"), "of those that tell alike the simplest"


def test_an_identity_copied_into_d_is_found(leaky, perfect):
    assert accuracy(leaky, "D->S") == 1 and accuracy(leaky, "S->D") == accuracy(perfect, "S->D")


def test_leakage_is_the_mean_of_both_leaks(leaky, perfect):
    for result in (leaky, perfect):
        probes, chance = result["probes"], result["chance"]
        leaks = probes["s"]["action"]["correct"] + probes["d"]["identity"]["correct"]
        assert result["leakage"]["accuracy"] == pytest.approx(leaks / 200)
        by_chance = chance["identity"]["correct"] + chance["action"]["correct"]
        assert result["leakage"]["above_chance"] == pytest.approx((leaks - by_chance) / 200)
    assert leaky["leakage"]["above_chance"] > 0.3 > 0.1 > abs(perfect["leakage"]["above_chance"])


def test_a_cell_of_several_factors_is_their_mean():
    train, test = leaky_codes(160, seed=0), leaky_codes(100, seed=1)
    for codes in (train, test):
        codes.static_factors["coin"] = np.random.default_rng(len(codes.static)).integers(2, size=len(codes.static))
    result = measure_leakage(train, test)
    told = result["probes"]["d"]["coin"]["accuracy"]
    assert told < 0.7 and accuracy(result, "D->S") == pytest.approx((1 + told) / 2)
    by_chance = [result["chance"][name]["accuracy"] for name in ("identity", "coin")]
    assert result["cells"]["D->S"]["chance"] == pytest.approx(sum(by_chance) / 2)


def test_chance_is_the_commonest_training_label_scored_on_the_test_clips():
    train, test = perfect_codes(40, seed=0), perfect_codes(20, seed=1)
    train.dynamic_factors["action"] = np.array([0] * 10 + [1] * 30)
    test.dynamic_factors["action"] = np.array([0] * 15 + [1] * 5)
    chance = measure_leakage(train, test)["chance"]["action"]
    assert (chance["accuracy"], chance["correct"], chance["n"]) == (0.25, 5, 20)


def test_every_score_has_its_wilson_interval(leaky):
    scores = [score for probe in leaky["probes"].values() for score in probe.values()]
    assert len(scores) == 2 * 2
    for score in scores + list(leaky["chance"].values()):
        interval = scipy_stats.binomtest(score["correct"], score["n"]).proportion_ci(method="wilson")
        assert (score["low"], score["high"]) == pytest.approx(tuple(interval), abs=1e-4)
        assert score["n"] == 100 and score["accuracy"] == score["correct"] / 100
    cell, score = leaky["cells"]["S->D"], leaky["probes"]["s"]["action"]
    assert [cell[name] for name in ("accuracy", "low", "high")] == [score[n] for n in ("accuracy", "low", "high")]


def ordered(count, seed):
    """A label that only the order of frames tells: one of d's dimensions rises or falls, about a height of its own."""
    codes = perfect_codes(count, seed)
    rng = np.random.default_rng(seed)
    rises = rng.integers(2, size=count)
    dynamic = rng.normal(size=(count, 1, 3)) + 0.1 * rng.normal(size=(count, 8, 3))
    dynamic[..., 0] += np.linspace(-1, 1, 8) * np.where(rises, 1, -1)[:, None]
    return replace(codes, dynamic=dynamic, dynamic_factors={"action": rises})


def test_what_only_the_order_of_frames_tells_is_found_though_it_is_not_in_the_mean():
    train, test = ordered(120, seed=0), ordered(100, seed=1)
    result = measure_leakage(train, test)
    assert accuracy(result, "D->D") == 1 and result["probes"]["d"]["action"]["features"] in ("flat", "sequence")
    averaged = [replace(codes, dynamic=codes.dynamic.mean(axis=1, keepdims=True)) for codes in (train, test)]
    assert accuracy(measure_leakage(*averaged), "D->D") < 0.7


def test_a_sequence_is_summed_up_by_its_mean_its_spread_its_steps_and_its_slowest_waves():
    times = (np.arange(8) + 0.5) / 8
    still, to_and_fro, wave = np.ones(8), np.tile([0.0, 2.0], 4), np.cos(2 * np.pi * times)
    codes = replace(perfect_codes(3, seed=0), dynamic=np.stack([still, to_and_fro, wave])[:, :, None])
    found = codes.features()["d"]
    assert np.allclose(found["mean"], [[1], [1], [0]], atol=1e-6)
    assert np.allclose(found["flat"], codes.dynamic[..., 0], atol=1e-6)
    mean, spread, step, *waves = found["sequence"].T
    assert np.allclose(mean, found["mean"][:, 0]) and np.allclose(spread, [0, 1, 0.5**0.5], atol=1e-6)
    assert step[0] == 0 and step[1] > 1.5 and 0.3 < step[2] < 0.5  # the length of the way, wherever it ends
    assert np.allclose(np.array(waves)[:, [0, 2]], [[0, 0], [0, 0.5], [0, 0]], atol=1e-6)


def test_what_a_probe_is_trained_on_is_neither_what_it_is_chosen_by_nor_what_it_is_scored_on(monkeypatch):
    """Codes and clips tell which clip they are of, and four codes are of one recording."""

    def numbered(numbers):
        identity, action = numbers // 4 % 2, numbers // 8 % 2
        every = np.asarray(numbers, float)[:, None]
        clips = torch.from_numpy(every)[:, :, None, None, None] * torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
        return LabelledCodes(every, every[:, None], {"identity": identity}, {"action": action}, numbers // 4, clips)

    calls = []

    def tell(probe, setting, seen, asked, labels, seed):
        calls.append((probe, *(set(each[:, 0].round().astype(int).tolist()) for each in (seen, asked))))
        assert np.array_equal(labels, seen[:, 0].round() // 4 % 2) or np.array_equal(
            labels, seen[:, 0].round() // 8 % 2
        )
        return np.zeros(len(asked), int)

    monkeypatch.setattr(leakage, "_tell", tell)
    train, test = np.arange(160), np.arange(1000, 1048)
    result = measure_leakage(numbered(train), numbered(test))
    assert (result["n_train"], result["n_recordings"], result["n_test"]) == (160, 40, 48)
    chosen_by = [(seen, asked) for _, seen, asked in calls if not asked & set(test)]
    scored_on = [(seen, asked) for _, seen, asked in calls if asked & set(test)]
    assert len(scored_on) == 2 * 2 * 2, "codes and factors, of the encoder and of pixels"
    assert all(seen == set(train) and asked == set(test) for seen, asked in scored_on)
    for seen, asked in chosen_by:
        assert seen | asked == set(train) and 2.5 < len(seen) / len(asked) < 3.5
        assert not {number // 4 for number in seen} & {number // 4 for number in asked}
    assert {probe for probe, *_ in calls} == {"linear", "RBF-SVM", "MLP"}


@pytest.mark.parametrize("probe, setting", [("linear", 1.0), ("RBF-SVM", (1.0, 3.0)), ("MLP", 0.01)])
def test_features_count_alike_whatever_their_scale_and_clips_are_told_one_by_one(probe, setting):
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=80)
    seen = rng.normal(size=(80, 4)) + labels[:, None]
    asked = rng.normal(size=(60, 4)) + 0.5

    def told(scale, asked):
        return leakage._tell(probe, setting, seen * scale, asked * scale, labels, seed=0)

    together = told(1.0, asked)
    assert 10 < together.sum() < 50
    assert np.array_equal(told(2.0 ** np.array([-9, 0, 5, 9]), asked), together)
    assert np.array_equal(np.concatenate([told(1.0, asked[:5]), told(1.0, asked[5:])]), together)


def test_the_width_of_the_kernel_goes_by_the_number_of_features():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=80)
    seen, asked = rng.normal(size=(80, 3)) + labels[:, None], rng.normal(size=(60, 3)) + 0.5
    once, often = (
        leakage._tell("RBF-SVM", (4.0, 3.0), np.tile(seen, times), np.tile(asked, times), labels, seed=0)
        for times in (1, 20)
    )
    assert np.array_equal(once, often)


def test_codes_of_pure_noise_are_at_chance():
    def noise(count, seed):
        codes, rng = perfect_codes(count, seed), np.random.default_rng(100 + seed)
        return replace(codes, static=rng.normal(size=(count, 8)), dynamic=rng.normal(size=(count, NUM_FRAMES, 8)))

    result = measure_leakage(noise(240, seed=0), noise(300, seed=1))
    for name, cell in result["cells"].items():
        assert cell["low"] < 1 / (IDENTITIES if name.endswith("S") else ACTIONS) < cell["high"], name


def test_a_curved_border_is_found_that_no_plane_follows():
    def rings(count, seed):
        codes, rng = perfect_codes(count, seed), np.random.default_rng(100 + seed)
        far = codes.static_factors["identity"] % 2
        angle = rng.uniform(0, 2 * np.pi, size=count)
        dynamic = ((1 + far) * np.stack([np.cos(angle), np.sin(angle)]))[:, :, None].transpose(1, 2, 0)
        return replace(codes, dynamic=dynamic.repeat(NUM_FRAMES, axis=1), static_factors={"identity": far})

    result = measure_leakage(rings(160, seed=0), rings(100, seed=1))
    assert accuracy(result, "D->S") > 0.95 and result["probes"]["d"]["identity"]["probe"] != "linear"


def test_probes_are_validated_on_recordings_that_they_were_not_trained_on():
    """Four equal codes of every recording, whose label is a coin: whoever has seen one of them knows it."""
    rng = np.random.default_rng(0)
    coin, static = rng.integers(2, size=60), rng.normal(size=(60, 16))
    train = LabelledCodes(
        static.repeat(4, axis=0),
        rng.normal(size=(240, NUM_FRAMES, 4)),
        {"identity": coin.repeat(4)},
        {"action": rng.integers(2, size=240)},
        recordings=np.arange(60).repeat(4),
    )
    test = perfect_codes(40, seed=1)
    test = replace(test, static=rng.normal(size=(40, 16)), dynamic=rng.normal(size=(40, NUM_FRAMES, 4)))
    for factors in (test.static_factors, test.dynamic_factors):
        factors.update({name: labels % 2 for name, labels in factors.items()})
    found = {}
    for name, codes in (("known", train), ("not known", replace(train, recordings=np.arange(240)))):
        test = replace(test, recordings=None)
        found[name] = measure_leakage(codes, test)["probes"]["s"]["identity"]["validated"]
    assert found["known"] < 0.75 < 0.95 < found["not known"]


def clips_of(codes, count):
    """A grey for each identity; the square that lights up later tells the action."""
    (identity,), (action,) = codes.static_factors.values(), codes.dynamic_factors.values()
    clips = torch.zeros(count, NUM_FRAMES, 1, 32, 32) + torch.from_numpy(identity).view(-1, 1, 1, 1, 1) / 10
    for clip, side in zip(clips, action):
        clip[1:, :, :8, 8 * side : 8 * side + 8] += 0.5
    return clips


def test_the_floors_are_the_probes_on_pixels():
    train, test = perfect_codes(120, seed=0), perfect_codes(60, seed=1)
    train, test = (replace(codes, clips=clips_of(codes, len(codes.static))) for codes in (train, test))
    floors = measure_leakage(train, test)["floors"]
    assert accuracy(floors, "S->S") == accuracy(floors, "D->D") == 1
    assert accuracy(floors, "S->D") < 0.6 and accuracy(floors, "D->S") < 0.5


def test_pixels_are_the_first_frame_and_what_differs_from_it_in_every_other():
    """Frames of one grey each; of 32 x 32 pixels four make one of 16 x 16."""
    codes = perfect_codes(2, seed=0)
    greys = np.array([[0.0, 0.25, 0.5], [1.0, 0.5, 0.75]])
    clips = torch.from_numpy(greys)[:, :, None, None, None].expand(-1, -1, 2, 32, 32)
    pixels = replace(codes, clips=clips, recordings=np.array([7, 7])).pixels()
    assert pixels.static.shape == (2, 2 * 16 * 16) and pixels.dynamic.shape == (2, 2, 2 * 16 * 16)
    assert np.array_equal(pixels.static[:, -1], [0, 1])
    assert np.array_equal(pixels.dynamic[:, :, -1], [[0.25, 0.5], [-0.5, -0.25]])
    assert pixels.factors.keys() == codes.factors.keys() and pixels.recordings.tolist() == [7, 7]


def test_orthogonality_stands_beside_where_the_widths_agree(perfect):
    assert perfect["orthogonality"] is None  # 4 against 3

    def padded(codes):
        blank = np.zeros((len(codes.dynamic), NUM_FRAMES, 1))
        return replace(codes, dynamic=np.concatenate([codes.dynamic, blank], axis=-1))

    train, test = padded(perfect_codes(40, seed=0)), padded(perfect_codes(40, seed=1))
    same = test.static_factors["identity"] == test.dynamic_factors["action"]  # one-hot codes: cos^2 is 1 there, else 0
    assert measure_leakage(train, test)["orthogonality"] == pytest.approx(same.mean())


def test_it_is_plain_json_and_repeats_itself(leaky):
    assert (
        json.loads(json.dumps(leaky)) == leaky == measure_leakage(leaky_codes(160, seed=0), leaky_codes(100, seed=1))
    )


def test_tensors_do_as_well_as_arrays():
    train, test = perfect_codes(40, seed=0), perfect_codes(40, seed=1)

    def tensors(codes):
        return LabelledCodes(
            torch.from_numpy(codes.static),
            torch.from_numpy(codes.dynamic),
            {"identity": torch.from_numpy(codes.static_factors["identity"])},
            {"action": codes.dynamic_factors["action"].tolist()},
        )

    assert measure_leakage(tensors(train), tensors(test)) == measure_leakage(train, test)


def test_the_table_is_made_of_the_figures_alone(leaky):
    table = leakage_table(json.loads(json.dumps(leaky)))
    score = leaky["probes"]["d"]["identity"]
    chosen = f"{score['probe']}, {score['setting']}, of d {score['features']}"
    assert f"| d | identity | D->S | 100.0 [{100 * score['low']:.1f}, 100.0] | " in table and chosen in table
    share = leaky["probes"]["s"]["action"]["accuracy"]
    assert share < 1 and f"| s | action | S->D | {100 * share:.1f} [" in table
    assert "160 codes of 160 recordings, scored on 100 clips" in table
    assert f", 100.0] | {100 * leaky['chance']['identity']['accuracy']:.1f} | {chosen} |" in table
    assert "pixels" not in table and "| pixels of s | identity | S->S |" in leakage_table(leaky | {"floors": leaky})


def broken(codes, **changes):
    """Copies of the codes with parts replaced; a factor is given by its name."""
    factors = {name: changes.pop(name) for name in ("identity", "action") if name in changes}
    static = {"identity": factors.get("identity", codes.static_factors["identity"])}
    dynamic = {"action": factors.get("action", codes.dynamic_factors["action"])}
    return replace(codes, **{"static_factors": static, "dynamic_factors": dynamic} | changes)


def with_nan(array, clips):
    """One number of each of those clips."""
    array = array.copy()
    array[clips, ..., 0] = np.nan
    return array


@pytest.mark.parametrize(
    "where, change, message",
    [
        ("train", lambda c: {"static": with_nan(c.static, [1, 5])}, "static codes of 2 of 40 training clips hold NaN"),
        ("test", lambda c: {"dynamic": with_nan(c.dynamic, [3])}, "dynamic codes of 1 of 40 test clips hold NaN"),
        ("test", lambda c: {"action": np.zeros(40, int)}, "`action` is 0 in all 40 test clips"),
        ("train", lambda c: {"identity": np.ones(40, int)}, "`identity` is 1 in all 40 training clips"),
        ("train", lambda c: {"identity": np.arange(39)}, "one integer for each of the 40 training clips"),
        ("test", lambda c: {"action": np.ones(40)}, "one integer for each of the 40 test clips.*float64"),
        (
            "test",
            lambda c: {"identity": np.array([7] * 3 + [9] + [0, 1] * 18)},
            "`identity` has 2 classes in the test clips that no training clip shows .4 of 40 clips",
        ),
        (
            "train",
            lambda c: {"action": np.array([9] + [0, 1, 2] * 13)},
            "`action` has 1 classes with a single training recording",
        ),
        (
            "train",
            lambda c: {"recordings": np.where(c.static_factors["identity"] == 0, -1, np.arange(40))},
            "`identity` has 1 classes with a single training recording",
        ),
        ("train", lambda c: {"dynamic": c.dynamic[:, 0]}, "dynamic codes of the training clips must be .B, N, D."),
        ("test", lambda c: {"static": c.static[:0]}, "static codes of the test clips must be .B, S."),
        (
            "test",
            lambda c: {"dynamic": c.dynamic[:30]},
            "test codes are of different clips: their numbers are .40, 30, 40.",
        ),
        ("test", lambda c: {"dynamic": c.dynamic[:, :2]}, "do not belong together"),
        ("train", lambda c: {"clips": torch.zeros(40, 3, 1, 16, 16)}, "do not belong together"),
        ("train", lambda c: {"clips": torch.zeros(40, 1, 1, 16, 16)}, "at least 2 frames"),
        ("train", lambda c: {"dynamic_factors": {}}, "at least one of each"),
        ("test", lambda c: {"dynamic_factors": c.static_factors}, "need the same static and the same dynamic factors"),
    ],
)
def test_what_would_mean_nothing_is_refused(where, change, message):
    splits = {"train": perfect_codes(40, seed=0), "test": perfect_codes(40, seed=1)}
    splits[where] = broken(splits[where], **change(splits[where]))
    with pytest.raises(ValueError, match=message):
        measure_leakage(splits["train"], splits["test"])


@pytest.mark.parametrize("dynamic_factors", [{}, {"identity": np.arange(40) % 4}])
def test_both_kinds_of_factors_are_needed_and_none_may_be_both(dynamic_factors):
    """In the test clips, too, so that training and test clips agree."""
    codes = replace(perfect_codes(40, seed=0), dynamic_factors=dynamic_factors)
    with pytest.raises(ValueError, match="at least one of each and none that is both"):
        measure_leakage(codes, codes)


def test_a_small_set_of_many_classes_can_still_be_probed():
    """Two clips of each class: one of each is to learn from, and one to validate by."""
    codes = perfect_codes(40, seed=0)
    codes.static_factors["identity"] = np.arange(40) // 2
    assert 0 <= measure_leakage(codes, codes)["probes"]["s"]["identity"]["accuracy"] <= 1


def test_a_class_of_a_single_recording_does_not_keep_the_others_from_being_probed():
    features = {"mean": np.arange(18.0).reshape(9, 2)}
    chosen = leakage._choose(features, np.array([0, 0, 0, 0, 1, 1, 1, 1, 2]), np.arange(9), seed=0)
    assert 0 <= chosen["validated"] <= 1


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("divid_diffusers.evaluation.leakage.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="leakage probes need scikit-learn"):
        measure_leakage(perfect_codes(40, seed=0), perfect_codes(40, seed=1))
