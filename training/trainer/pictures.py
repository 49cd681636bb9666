"""When a run validates: a new run wants to be seen soon, an old one seldom changes."""

from .progress import Progress


FIRST = 60  # seconds of training; the next at twice the time of the last (our choice)
SHARE = 0.1  # of the time goes to pictures, at most


class Pictures:
    """Every `validation_steps`; at growing distances where that is None; never where it is 0."""

    def __init__(self, validation_steps: int | None, progress: Progress):
        self.steps, self.next = validation_steps, float(FIRST)
        while self.next <= progress.seconds:  # of a run that goes on
            self.next *= 2

    @property
    def any(self) -> bool:
        return self.steps != 0

    def due(self, progress: Progress) -> bool:
        if self.steps is None:
            return progress.seconds >= self.next
        return self.any and progress.step % self.steps == 0

    def drawn(self, progress: Progress, seconds: float) -> None:
        """One was, and it took so long."""
        self.next = max(2 * progress.seconds, progress.seconds + seconds / SHARE)
