import builtins
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

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


def accuracy(result, probe, code, factor):
    return result["probes"][probe][code][factor]["accuracy"]


@pytest.mark.parametrize("probe", ["linear", "mlp"])
@pytest.mark.parametrize("dynamic_code", ["d mean", "d flat"])
def test_codes_that_hold_their_own_factor_alone_do_not_leak(perfect, probe, dynamic_code):
    assert accuracy(perfect, probe, "s", "identity") == 1
    assert accuracy(perfect, probe, dynamic_code, "action") == 1
    assert accuracy(perfect, probe, "s", "action") < 0.5  # chance is a third
    assert accuracy(perfect, probe, dynamic_code, "identity") < 0.4  # chance is a quarter


@pytest.mark.parametrize("probe", ["linear", "mlp"])
def test_an_identity_copied_into_d_is_found(leaky, perfect, probe):
    assert accuracy(leaky, probe, "d mean", "identity") == accuracy(leaky, probe, "d flat", "identity") == 1
    assert accuracy(leaky, probe, "s", "action") == accuracy(perfect, probe, "s", "action")


def test_the_papers_leakage_is_the_mean_of_both_leaks(leaky, perfect):
    for result in (leaky, perfect):
        linear = result["probes"]["linear"]
        leaks = linear["s"]["action"]["correct"] + linear["d mean"]["identity"]["correct"]
        assert result["leakage"]["accuracy"] == pytest.approx(leaks / 200)
        chance = result["chance"]["identity"]["correct"] + result["chance"]["action"]["correct"]
        assert result["leakage"]["above_chance"] == pytest.approx((leaks - chance) / 200)
    assert leaky["leakage"]["above_chance"] > 0.3 > 0.1 > abs(perfect["leakage"]["above_chance"])


def test_with_several_factors_each_kind_counts_once():
    train, test = leaky_codes(160, seed=0), leaky_codes(100, seed=1)
    for codes in (train, test):
        codes.static_factors["parity"] = codes.static_factors["identity"] % 2
    result = measure_leakage(train, test)
    leaks = accuracy(result, "linear", "s", "action") + (1 + accuracy(result, "linear", "d mean", "parity")) / 2
    assert result["leakage"]["accuracy"] == pytest.approx(leaks / 2)


def test_chance_is_the_commonest_training_label_scored_on_the_test_clips():
    train, test = perfect_codes(40, seed=0), perfect_codes(20, seed=1)
    train.dynamic_factors["action"] = np.array([0] * 10 + [1] * 30)
    test.dynamic_factors["action"] = np.array([0] * 15 + [1] * 5)
    chance = measure_leakage(train, test)["chance"]["action"]
    assert (chance["accuracy"], chance["correct"], chance["n"]) == (0.25, 5, 20)


def test_every_score_has_its_wilson_interval(leaky):
    scores = [score for probe in leaky["probes"].values() for code in probe.values() for score in code.values()]
    assert len(scores) == 2 * 3 * 2
    for score in scores + list(leaky["chance"].values()):
        interval = scipy_stats.binomtest(score["correct"], score["n"]).proportion_ci(method="wilson")
        assert (score["low"], score["high"]) == pytest.approx(tuple(interval), abs=1e-4)
        assert score["n"] == 100 and score["accuracy"] == score["correct"] / 100


def test_what_only_the_order_of_frames_tells_is_lost_in_the_mean():
    def ordered(count, seed):
        codes = perfect_codes(count, seed)
        forwards = np.arange(NUM_FRAMES, dtype=float)[None, :, None].repeat(count, axis=0)
        codes.dynamic_factors["action"] = codes.dynamic_factors["action"] % 2
        backwards = codes.dynamic_factors["action"] == 1
        forwards[backwards] = forwards[backwards, ::-1]
        return replace(codes, dynamic=forwards)

    result = measure_leakage(ordered(80, seed=0), ordered(60, seed=1))
    for probe in ("linear", "mlp"):
        assert accuracy(result, probe, "d flat", "action") == 1
        assert accuracy(result, probe, "d mean", "action") < 0.75


def clips_of(codes, count):
    """A grey for each identity; the square that lights up later tells the action."""
    (identity,), (action,) = codes.static_factors.values(), codes.dynamic_factors.values()
    clips = torch.zeros(count, NUM_FRAMES, 1, 32, 32) + torch.from_numpy(identity).view(-1, 1, 1, 1, 1) / 10
    for clip, side in zip(clips, action):
        clip[1:, :, :8, 8 * side : 8 * side + 8] += 0.5
    return clips


def test_the_floors_are_the_probes_on_pixels():
    train, test = perfect_codes(120, seed=0), perfect_codes(60, seed=1)
    floors = measure_leakage(replace(train, clips=clips_of(train, 120)), replace(test, clips=clips_of(test, 60)))[
        "floors"
    ]
    for probe in ("linear", "mlp"):
        found = {
            (code, factor): score["accuracy"]
            for code in floors[probe]
            for factor, score in floors[probe][code].items()
        }
        assert found["first frame", "identity"] == found["residuals mean", "action"] == 1
        assert found["residuals flat", "action"] == 1
        assert found["first frame", "action"] < 0.6 and found["residuals flat", "identity"] < 0.5


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
    score = leaky["probes"]["linear"]["d mean"]["identity"]
    assert f"| d mean | identity | D->S | 100.0 [{100 * score['low']:.1f}, 100.0] | 100.0" in table
    assert "| s | action | S->D |" in table and "L_orth: undefined" in table
    assert f"{100 * leaky['leakage']['accuracy']:.1f}, of which" in table
    assert "first frame" not in table and "first frame | identity | S->S" in leakage_table(
        leaky | {"floors": {probe: {"first frame": leaky["probes"][probe]["s"]} for probe in ("linear", "mlp")}}
    )


def broken(codes, **changes):
    """Copies of the codes with parts replaced; a factor is given by its name."""
    factors = {name: changes.pop(name) for name in ("identity", "action") if name in changes}
    static = {"identity": factors.get("identity", codes.static_factors["identity"])}
    dynamic = {"action": factors.get("action", codes.dynamic_factors["action"])}
    return replace(codes, **{"static_factors": static, "dynamic_factors": dynamic} | changes)


def with_nan(array, clips):
    array = array.copy()
    array[clips] = np.nan
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
            "`action` has 1 classes with a single training",
        ),
        ("train", lambda c: {"dynamic": c.dynamic[:, 0]}, "dynamic codes of the training clips must be .B, N, D."),
        ("test", lambda c: {"static": c.static[:0]}, "static codes of the test clips must be .B, S."),
        (
            "test",
            lambda c: {"dynamic": c.dynamic[:30]},
            "test codes are of different clips: their numbers are .40, 30.",
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


def test_a_small_set_of_many_classes_can_still_be_probed():
    """Two clips of each class: early stopping has to set one of each aside."""
    codes = perfect_codes(40, seed=0)
    codes.static_factors["identity"] = np.arange(40) // 2
    assert 0 <= measure_leakage(codes, codes)["probes"]["mlp"]["s"]["identity"]["accuracy"] <= 1


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="leakage probes need scikit-learn"):
        measure_leakage(perfect_codes(40, seed=0), perfect_codes(40, seed=1))
