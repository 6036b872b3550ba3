"""Which trainings make a job, and which jobs come first: what shares work stands together, what is long comes early."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.data import Survey
from harness.digest import digest
from harness.leading import family, leaders
from harness.prefix.cut import cuts_of, endless_views, refusal
from harness.schedule import phase_ends
from harness.training import Training

_JOBS = 16
"""Jobs that each place gets at least, if there are as many trainings: with fewer, one ends long before the others."""
_LEFT = 0.2
"""About what is left of a training whose frozen stages are computed once. Only the order of jobs depends on it."""


@dataclass(frozen=True)
class Work:
    """A training, and about how long it takes by itself."""

    training: Training
    seconds: float
    """In any unit, the same for all."""
    steps_per_epoch: int


def work_of(training: Training, data: Survey, seconds: Callable[[int], float]) -> Work:
    """Return the work that a training is on images of `data`, from the seconds that it takes over so many of them."""
    steps = steps_per_epoch(training, data)
    return Work(training, seconds(training.train.epochs * steps * training.train.batch_size), steps)


def steps_per_epoch(training: Training, data: Survey) -> int:
    """Return the steps of an epoch; on digits, of which copies are dropped, there may be one or two fewer."""
    return max(1, data.train_size // training.train.batch_size)


def pack(work: Sequence[Work], places: int, reuse: bool) -> list[tuple[Training, ...]]:
    """Return jobs for so many places, in the order in which they should begin.

    Seeds come one after another, as in `work`, so that a grid cut short is balanced; within a seed the longest job is
    first, so that the last ones end together. Without `reuse` nothing is shared but images and initial weights.
    """
    turn = {seed: number for number, seed in enumerate(dict.fromkeys(each.training.seed for each in work))}
    groups = _groups(work, reuse)
    total = sum(piece.seconds for group in groups for piece in group)
    # What takes longer than its share of all would end last by itself; apart it takes longer, and ends sooner.
    seconds = {each.training.digest: each.seconds for each in work}
    parted = [[own for piece in group for own in _parted(piece, total / places, seconds)] for group in groups]
    jobs = [job for group in parted for job in _join(group, total / (_JOBS * places))]
    jobs.sort(key=lambda job: (turn[job.trainings[0].seed], -job.seconds))
    return [job.trainings for job in jobs]


@dataclass(frozen=True)
class _Piece:
    """Trainings that stay together, and how long they take so."""

    trainings: tuple[Training, ...]
    seconds: float

    def __add__(self, other: _Piece) -> _Piece:
        return _Piece(self.trainings + other.trainings, self.seconds + other.seconds)


def _groups(work: Sequence[Work], reuse: bool) -> list[list[_Piece]]:
    """Return the pieces in groups: those of a group share images and initial weights, and what is frozen if anything.

    A piece is a training, or several that have leading epochs in common.
    """
    families: dict[str, list[Work]] = defaultdict(list)
    for each in work:
        families[family(each.training) if reuse else each.training.digest].append(each)
    groups: dict[str, list[_Piece]] = defaultdict(list)
    for related in families.values():
        for piece in _pieces(related, reuse):
            groups[_shared(piece.trainings[0], reuse)].append(piece)
    return [*groups.values()]


def _pieces(related: Sequence[Work], reuse: bool) -> Iterator[_Piece]:
    """Join the trainings of a family that go on from one another."""
    pieces: dict[str, _Piece] = {}
    of: dict[str, str] = {}
    led = leaders([each.training for each in related], related[0].steps_per_epoch) if len(related) > 1 else {}
    for each in related:
        training = each.training
        leader, epochs = led.get(training.digest, (training.digest, 0))
        of[training.digest] = of.get(leader, training.digest)
        seconds = each.seconds * (_left(training) if reuse else 1.0) * (1 - epochs / training.train.epochs)
        own = _Piece((training,), seconds)
        pieces[of[training.digest]] = pieces[of[training.digest]] + own if leader != training.digest else own
    yield from pieces.values()


def _left(training: Training) -> float:
    """Return about what is left of a training where frozen stages are computed once."""
    if training.codes or endless_views(training):
        return 1.0
    cuts = cuts_of(training)
    if refusal(training, cuts):
        return 1.0
    spans = zip(training.phases, phase_ends(training.phases), cuts, strict=True)
    frozen = sum(end - phase.start for phase, end, cut in spans if cut)
    return 1 - frozen * (1 - _LEFT)


def _shared(training: Training, reuse: bool) -> str:
    """Return what stands for the images, the initial weights and the frozen stages of a training."""
    cut = cuts_of(training)[0] if reuse and not training.codes else None
    frozen = list(cut.frozen) if cut else []
    network = [training.model, training.classes, training.kept_classes, training.origin, training.recipe.inits]
    train = [training.train.threads, training.train.channels_last]
    return digest([training.data, training.data_content, training.seed, network, train, frozen])


def _parted(piece: _Piece, most: float, seconds: Mapping[str, float]) -> list[_Piece]:
    """Return a piece, or its trainings one by one where it takes longer than `most`."""
    if piece.seconds <= most or len(piece.trainings) == 1:
        return [piece]
    return [_Piece((training,), seconds[training.digest]) for training in piece.trainings]


def _join(pieces: Sequence[_Piece], limit: float) -> Iterator[_Piece]:
    """Join pieces one after another while they take no longer than `limit` together."""
    joined: _Piece | None = None
    for piece in pieces:
        if joined and joined.seconds + piece.seconds <= limit:
            joined += piece
            continue
        if joined:
            yield joined
        joined = piece
    if joined:
        yield joined
