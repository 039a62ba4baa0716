"""The raters' answers: read from their files, decoded by the key, and summed up with intervals."""

import csv
import dataclasses
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import Interval, paired_bootstrap
from talkinghead_jax.user_study.markup import COLUMNS, HIGHEST, LOWEST, QUESTIONS

NAMES = tuple(name for name, *_ in QUESTIONS)
GOOD = 4  # a rating from here on says that the video is good


@dataclasses.dataclass(frozen=True)
class Rating:
    """One video as one rater saw it.

    Attributes:
      rater: random id.
      order: 1 for the first video that this rater saw.
      method: name of the method or condition.
      clip: name of the clip.
      scores: question -> 1 to 5, NaN where the rater's browser could not play the video.
      seconds: from the sight of the video to the answer.
      time: of the answer, ISO 8601.
    """

    rater: str
    order: int
    method: str
    clip: str
    scores: Mapping[str, float]
    seconds: float
    time: str


@dataclasses.dataclass(frozen=True)
class Answers:
    """All ratings of one study, methods and clips in the order of the key."""

    study: str
    title: str
    methods: tuple[str, ...]
    clips: tuple[str, ...]
    ratings: tuple[Rating, ...]

    @property
    def raters(self) -> tuple[str, ...]:
        """Ids, in the order of the files."""
        return tuple(dict.fromkeys(rating.rater for rating in self.ratings))

    def table(self, method: str, question: str) -> np.ndarray:
        """(raters, clips) the ratings of one method, NaN where a rater has none."""
        rows = {rater: i for i, rater in enumerate(self.raters)}
        columns = {clip: i for i, clip in enumerate(self.clips)}
        values = np.full((len(rows), len(columns)), np.nan)
        for rating in self.ratings:
            if rating.method == method:
                values[rows[rating.rater], columns[rating.clip]] = rating.scores[question]
        return values


@dataclasses.dataclass(frozen=True)
class Score:
    """What one method reached in one question.

    Attributes:
      question: name.
      method: name.
      n: number of ratings.
      raters: who gave them.
      clips: of which they are.
      opinion: mean opinion score, 1 to 5.
      good: share of the ratings that are `GOOD` or better.
    """

    question: str
    method: str
    n: int
    raters: int
    clips: int
    opinion: Interval
    good: Interval


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much higher raters rate `first` than `second`, of `n` pairs of the same rater and the same clip."""

    question: str
    first: str
    second: str
    n: int
    opinion: Interval

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.opinion.low > 0 or self.opinion.high < 0


def read(paths: Sequence[str | os.PathLike], key: str | os.PathLike) -> Answers:
    """Read the CSV files that raters sent, with the key that `page.write` left beside the page.

    Raises:
      UserError: a file cannot be read or is not of this study, holds an unknown video or a value that is no rating,
        or a rater has rated a video twice (the same file given twice, or an early download beside the last one).
    """
    known = _key(key)
    if not paths:
        raise UserError('--input names no answers; want the CSV files that the raters sent')
    ratings, places = [], {}
    for path in paths:
        for line, row in _rows(path):
            place = f'{path}, line {line}'
            rating = _rating(row, place, known)
            which = rating.rater, rating.method, rating.clip
            if which in places:
                raise UserError(f'{place}: rater {rating.rater} has rated video {row["video"]} already, at '
                                f'{places[which]}; want each answer once (one file a rater, the last one)')
            places[which] = place
            ratings.append(rating)
    if not ratings:
        raise UserError(f'{", ".join(map(str, paths))}: no answers inside; want at least one rated video')
    return Answers(known['study'], known['title'], tuple(known['methods']), tuple(known['clips']), tuple(ratings))


def _key(path: str | os.PathLike) -> Mapping:
    try:
        known = json.loads(pathlib.Path(path).read_text())
        complete = {'study', 'title', 'methods', 'clips', 'videos'} <= set(known)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'{path}: no key of a user study can be read ({error}); want the key.json that '
                        '--mode=user_study wrote beside the page') from error
    if not complete:
        raise UserError(f'{path} is no key of a user study; want the key.json that --mode=user_study wrote')
    return known


def _rows(path: str | os.PathLike) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Number of the line, and the row; a spreadsheet's byte order mark is no harm."""
    try:
        with open(path, newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f'{path} has the columns {",".join(reader.fieldnames or ())!r}; want '
                                f'{",".join(COLUMNS)!r}, a file that the rating page gave')
            for row in reader:
                if None in row or None in row.values():
                    raise UserError(f'{path}, line {reader.line_num}: found {len([v for v in row.values() if v])} '
                                    f'values; want {len(COLUMNS)}')
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path}: no answers can be read ({error}); want a CSV file that the rating page gave'
                        ) from error


def _rating(row: Mapping[str, str], place: str, known: Mapping) -> Rating:
    if row['study'] != known['study']:
        raise UserError(f'{place}: answers of study {row["study"]!r}; want {known["study"]!r}, that of the key')
    video = known['videos'].get(row['video'])
    if video is None:
        raise UserError(f'{place}: video {row["video"]!r} is not in the key; want one of its {len(known["videos"])}')
    if not row['rater']:
        raise UserError(f'{place}: no rater; want the id that the page has drawn')
    given = {name: row[name] for name in NAMES}
    values = [str(value) for value in range(LOWEST, HIGHEST + 1)]
    if any(given.values()):
        for name, value in given.items():
            if value not in values:
                raise UserError(f'{place}: {name} is {value!r}; want {LOWEST} to {HIGHEST}')
    scores = {name: float(value) if value else float('nan') for name, value in given.items()}
    try:
        order, seconds = int(row['order']), float(row['seconds'])
    except ValueError as error:
        raise UserError(f'{place}: order is {row["order"]!r} and seconds are {row["seconds"]!r}; want numbers'
                        ) from error
    return Rating(row['rater'], order, video['method'], video['clip'], scores, seconds, row['time'])


def scores(answers: Answers) -> list[Score]:
    """Every question and method, with 95 % intervals over raters and clips.

    Raters and clips are crossed, and both are a sample of those that there might have been: intervals are of
    `intervals.paired_bootstrap`, which draws both (Owen's pigeonhole bootstrap). Bounds are NaN with one rater or
    one clip, and where all ratings are the same.
    """
    return [_score(answers, question, method) for question in NAMES for method in answers.methods]


def _score(answers: Answers, question: str, method: str) -> Score:
    values = answers.table(method, question)
    known = ~np.isnan(values)
    return Score(question, method, int(known.sum()), int(known.any(axis=1).sum()), int(known.any(axis=0).sum()),
                 _interval(values), _interval(np.where(known, values >= GOOD, np.nan)))


def differences(answers: Answers) -> list[Difference]:
    """Every question and pair of methods: the mean over those raters and clips that have both, and its interval.

    Pairs take away what makes a rater strict or a clip hard. The intervals are each of 95 %, not corrected for how
    many there are.
    """
    result = []
    for question in NAMES:
        for first, second in itertools.combinations(answers.methods, 2):
            values = answers.table(first, question) - answers.table(second, question)
            result.append(Difference(question, first, second, int((~np.isnan(values)).sum()), _interval(values)))
    return result


def _interval(values: np.ndarray) -> Interval:
    """Of the mean of (raters, clips); raters and clips without any value are no part of the sample."""
    known = ~np.isnan(values)
    values = values[known.any(axis=1)][:, known.any(axis=0)]
    if known.any() and np.nanmin(values) == np.nanmax(values):
        # Drawing again what is all the same tells nothing of what others would have said: no interval of width 0.
        return Interval(float(np.nanmin(values)), np.nan, np.nan)
    return paired_bootstrap(values, np.arange(values.shape[1]))


def habits(answers: Answers) -> list[Mapping[str, float | str]]:
    """A row a rater: videos rated and left out, mean and spread of the ratings, median seconds a video.

    No rater is left out of the statistics; a spread of 0 (the same answer to everything) or a few seconds a video
    are reasons to ask.
    """
    rows = []
    for rater in answers.raters:
        own = [rating for rating in answers.ratings if rating.rater == rater]
        values = np.array([list(rating.scores.values()) for rating in own])
        rated = values[~np.isnan(values).any(axis=1)]
        rows.append({
            'rater': rater, 'rated': len(rated), 'left_out': len(own) - len(rated),
            **{name: _over(np.mean, rated[:, i]) for i, name in enumerate(NAMES)},
            'spread': _over(np.std, rated), 'seconds': float(np.median([rating.seconds for rating in own])),
        })
    return rows


def _over(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    return float(statistic(values)) if values.size else float('nan')
