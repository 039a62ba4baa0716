"""A key and CSV files as raters would send them, made from any table of ratings."""

import json
import pathlib

import numpy as np

from talkinghead_jax.user_study.markup import COLUMNS


def key(folder: pathlib.Path, methods, clips) -> pathlib.Path:
    """Video i * len(clips) + j is clip j of method i."""
    videos = {f'v{i * len(clips) + j:03d}': {'method': method, 'clip': clip}
              for i, method in enumerate(methods) for j, clip in enumerate(clips)}
    path = folder / 'key.json'
    path.write_text(json.dumps({'study': 's1', 'title': 'Faces', 'methods': methods, 'clips': clips,
                                'videos': videos}))
    return path


def line(rater, order, video, realism, synchronisation, study='s1'):
    """One line of a rater's file."""
    return f'{study},{rater},{order},v{video:03d},{realism},{synchronisation},4.5,2026-01-02T03:04:05.000Z'


def write(path: pathlib.Path, lines) -> pathlib.Path:
    """A file of these lines under the columns' names."""
    path.write_text('\n'.join([','.join(COLUMNS), *lines, '']))
    return path


def write_all(folder: pathlib.Path, ratings: np.ndarray) -> list[pathlib.Path]:
    """(raters, methods, clips, 2) ratings, 0 where there is none -> a file a rater."""
    files = []
    for number, of in enumerate(ratings):
        pairs = of.reshape(-1, 2).astype(int)
        lines = [line(f'r{number}', i + 1, i, *pair) for i, pair in enumerate(pairs) if pair.all()]
        files.append(write(folder / f'answers-r{number}.csv', lines))
    return files
