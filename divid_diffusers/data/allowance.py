"""What a number of clips and people is enough for, in words: few clips train as well as many, and promise less."""

FEW_PEOPLE = 100  # of whom a model learns each, and not what people are (our choice)
FEW_CLIPS = 1000  # the same, where nobody says who is seen


def what_it_allows(num_clips: int, num_people: int | None) -> str:
    """
    Of training clips, in one or two sentences. `num_people` is None where they have no label `identity`. With as many
    people as clips, no person is seen with two motions.
    """
    if num_people is None:
        limit = ": what is not among them is reproduced from its first frame at most" if num_clips < FEW_CLIPS else ""
        return f"{count(num_clips, 'clip')}{limit}."
    sentence = f"{count(num_clips, 'clip')} of {count(num_people, 'person', 'people')}"
    if num_people < FEW_PEOPLE:
        sentence += ": people who are not among them are reproduced from their first frame at most"
    if num_people == num_clips:
        sentence += ". Each is seen once, so nothing tells who moves from how"
    return f"{sentence}."


def count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
