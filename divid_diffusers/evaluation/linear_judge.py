"""A judge that anybody can rebuild in a minute: logistic regression on raw pixels."""

import torch


class LinearJudge:
    """
    Tells identity from a clip's first frame and action from its frame differences, both by logistic regression on pixels. It is
    a floor for judges, not a good one, but it has seen no decoded clip, cannot be tuned in anybody's favour, and comes with its
    accuracy on real clips (our choice).

    Args:
        clips (`torch.Tensor` of shape `(B, N, C, H, W)`): real training clips in [0, 1], frames evenly spaced.
        identities, actions (`list[int]`): their labels.
    """

    def __init__(self, clips: torch.Tensor, identities: list[int], actions: list[int]):
        try:
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
            from sklearn.preprocessing import StandardScaler
        except ImportError as error:
            raise ImportError("The linear judge needs scikit-learn: pip install 'divid_diffusers[eval]'.") from error

        def classifier():
            return make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))

        self.identity = classifier().fit(self._appearance(clips), identities)
        self.action = classifier().fit(self._motion(clips), actions)

    @staticmethod
    def _appearance(clips: torch.Tensor):
        return clips[:, 0].flatten(1).cpu().numpy()

    @staticmethod
    def _motion(clips: torch.Tensor):
        motion = clips[:, 1:] - clips[:, :1]
        batch, num_frames = motion.shape[:2]
        small = torch.nn.functional.avg_pool2d(motion.flatten(0, 1), 2)  # a quarter of the features, as telling
        return small.reshape(batch, -1).cpu().numpy()

    def predict(self, clips: torch.Tensor) -> tuple[list[int], list[int]]:
        """Identity and action of every clip `(B, N, C, H, W)` in [0, 1]."""
        return self.identity.predict(self._appearance(clips)).tolist(), self.action.predict(
            self._motion(clips)
        ).tolist()
