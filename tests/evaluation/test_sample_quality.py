import math

import pytest
import torch

from divid_diffusers.evaluation.sample_quality import judged_quality, sprites_protocol


IDENTITIES, ACTIONS = 4, 3


def test_a_sure_judge_of_evenly_spread_classes():
    quality = judged_quality(torch.eye(5).repeat(3, 1), torch.arange(5).repeat(3))
    assert quality.accuracy == 1 and quality.inception_score == pytest.approx(5)
    assert quality.conditional_entropy == 0 and quality.marginal_entropy == pytest.approx(math.log(5))


def test_a_judge_that_knows_nothing():
    quality = judged_quality(torch.full((6, 4), 0.25), [0, 1, 2, 3, 0, 0])
    assert quality.accuracy == 0.5 and quality.inception_score == pytest.approx(1)
    assert quality.conditional_entropy == pytest.approx(quality.marginal_entropy) == pytest.approx(math.log(4))


def test_a_judge_worked_by_hand():
    quality = judged_quality(torch.tensor([[0.9, 0.1], [0.3, 0.7]]), torch.tensor([0, 0]))
    divergence = [
        0.9 * math.log(0.9 / 0.6) + 0.1 * math.log(0.1 / 0.4),
        0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4),
    ]
    assert quality.accuracy == 0.5
    assert quality.inception_score == pytest.approx(math.exp(sum(divergence) / 2), rel=1e-6)
    assert quality.marginal_entropy == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.4), rel=1e-6)


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="softmax"):
        judged_quality(torch.randn(2, 3), [0, 1])
    with pytest.raises(ValueError, match="softmax"):
        judged_quality(torch.full((2, 3), math.nan), [0, 1])
    with pytest.raises(ValueError, match="do not fit"):
        judged_quality(torch.eye(3), [0, 1])


class Painter:
    """Frames of two pixels per row: the top row shows the static code, the bottom row the dynamic one."""

    def encode(self, clips):
        return clips[:, 0, 0, 0], clips[:, :, 0, 1]

    def decode(self, static, dynamic):
        rows = [static[:, None].expand(-1, dynamic.shape[1], -1), dynamic]
        return torch.stack(rows, dim=2)[:, :, None]

    def sample_static(self, batch, generator):
        return self._code(torch.randint(IDENTITIES, (batch,), generator=generator))

    def sample_dynamic(self, batch, num_frames, generator):
        actions = torch.randint(ACTIONS, (batch,), generator=generator)
        return self._code(actions)[:, None].repeat(1, num_frames, 1)

    @staticmethod
    def _code(classes):
        return torch.nn.functional.one_hot(classes, IDENTITIES).float()


class PainterThatIgnoresStatic(Painter):
    """Everything is in the dynamic code; it copies its clip whatever static code it is given."""

    def encode(self, clips):
        static, dynamic = super().encode(clips)
        return torch.zeros_like(static), torch.cat([static[:, None].expand_as(dynamic), dynamic], dim=2)

    def decode(self, static, dynamic):
        return super().decode(dynamic[:, 0, :IDENTITIES], dynamic[:, :, IDENTITIES:])

    def sample_static(self, batch, generator):
        return torch.randn(batch, IDENTITIES, generator=generator)

    def sample_dynamic(self, batch, num_frames, generator):
        person = self._code(torch.randint(IDENTITIES, (batch,), generator=generator))
        return torch.cat(
            [person[:, None].repeat(1, num_frames, 1), super().sample_dynamic(batch, num_frames, generator)], 2
        )


def judge(clips):
    static, dynamic = Painter().encode(clips)
    return {"identity": static, "action": dynamic[:, -1, :ACTIONS]}


@pytest.fixture(scope="module")
def held_out():
    labels = {"identity": torch.arange(60) % IDENTITIES, "action": torch.arange(60) % ACTIONS}
    static, dynamic = Painter._code(labels["identity"]), Painter._code(labels["action"])
    return Painter().decode(static, dynamic[:, None].repeat(1, 2, 1)), labels


def test_a_perfect_model_keeps_what_is_kept_and_changes_what_is_sampled(held_out):
    clips, labels = held_out
    scores = sprites_protocol(Painter(), judge, clips, labels, batch_size=16)
    action, deviation = scores.dynamic_kept["action"]
    assert action.accuracy == 1 and action.inception_score == pytest.approx(ACTIONS) and deviation.accuracy == 0
    assert action.conditional_entropy == 0 and action.marginal_entropy == pytest.approx(math.log(ACTIONS))
    assert scores.static_kept["identity"][0].accuracy == 1

    sampled, deviation = scores.dynamic_kept["identity"]
    assert abs(sampled.accuracy - 1 / IDENTITIES) < 0.15 and 0 < deviation.accuracy < 0.2
    assert scores.real == scores.reconstructed and scores.real["identity"].accuracy == 1
    assert (scores.num_clips, scores.draws) == (60, 5)
    assert scores == sprites_protocol(Painter(), judge, clips, labels, batch_size=16)


def test_a_model_that_ignores_a_code_wins_one_run_and_is_found_out(held_out):
    scores = sprites_protocol(PainterThatIgnoresStatic(), judge, *held_out, draws=1)
    assert scores.dynamic_kept["action"][0].accuracy == 1  # won
    assert scores.dynamic_kept["identity"][0].accuracy == 1  # though the identity should have been resampled
    assert scores.static_kept["identity"][0].accuracy < 0.5
    assert scores.dynamic_kept["action"][1].accuracy == math.inf  # one draw has no deviation


def test_what_cannot_be_scored_is_refused_in_a_sentence(held_out):
    clips, labels = held_out

    class NoPrior:
        encode, decode = Painter.encode, Painter.decode

    with pytest.raises(TypeError, match="NoPrior has no sample_static and no sample_dynamic: it has no prior"):
        sprites_protocol(NoPrior(), judge, clips, labels)
    with pytest.raises(ValueError, match="labels of hair, but the judge tells only action, identity"):
        sprites_protocol(Painter(), judge, clips, labels | {"hair": labels["action"]})

    class Misshapen(Painter):
        def sample_static(self, batch, generator):
            return torch.zeros(IDENTITIES, batch)

    with pytest.raises(ValueError, match="sample_static gave"):
        sprites_protocol(Misshapen(), judge, clips, labels)
