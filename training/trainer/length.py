"""How long a run takes, which its first steps tell, and how long it is to be where nobody said."""

from .progress import Progress


# Of a run that was given neither steps nor minutes (our choice).
PASSES = 100  # over the training clips
FEWEST, MOST = 2_000, 10_000  # steps
LONGEST = 120  # minutes on the machine it runs on

PROBED = 5  # steps, after which it is known how long one takes; the first is not counted


class Length:
    """
    Sets `args.max_train_steps` where that and `args.max_train_minutes` are None: to what a set of `num_clips` is
    worth, and, once steps have been timed, to what two hours have room for.
    """

    def __init__(self, args, num_clips: int, processes: int):
        self.args, self.times = args, []
        self.proposed = args.max_train_steps is None and args.max_train_minutes is None
        if self.proposed:
            clips_per_step = args.train_batch_size * args.gradient_accumulation_steps * processes
            args.max_train_steps = min(max(PASSES * num_clips // clips_per_step, FEWEST), MOST)

    @property
    def open(self) -> bool:
        """Whether steps are still being timed."""
        return len(self.times) < PROBED

    def after_step(self, progress: Progress) -> str:
        """To be told of every step; answers when it knows how long the run takes."""
        if not self.open:
            return ""
        self.times.append(progress.seconds)
        if self.open:
            return ""
        args, seconds = self.args, max((self.times[-1] - self.times[0]) / (PROBED - 1), 1e-9)
        if self.proposed:
            args.max_train_steps = max(progress.step, min(args.max_train_steps, int(60 * LONGEST / seconds)))
        steps, minutes = args.max_train_steps, args.max_train_minutes
        if minutes and not (steps and steps * seconds < 60 * minutes):
            return f"About {60 * minutes / seconds:,.0f} steps of {seconds:.2g} s in {minutes:g} min."
        chosen = ", which --max_train_minutes or --max_train_steps can change" if self.proposed else ""
        return f"{steps:,} steps of {seconds:.2g} s, about {steps * seconds / 60:,.0f} min{chosen}."
