"""Preparation: jobs -> cached records -> TFRecords with an index -> statistics. Killed at any moment, the same
call continues; complete, it returns at once.
"""

import contextlib
import fcntl
import io
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from input_pipeline import dataset, detectors, index, pool, quarantine, records, statistics
from input_pipeline.datasets import media_builder
from input_pipeline.datasets.builder import CachedRecordsBuilder, builder_class
from input_pipeline.fingerprints import digest
from input_pipeline.quarantine import Refusal
from talkinghead_jax import specs
from talkinghead_jax.errors import UserError

FORMAT = 3  # of what this module writes beside the TFRecords

_log = logging.getLogger(__name__)


def prepare(config: ConfigDict, data_dir: str | os.PathLike) -> dict[str, Any]:
    """Prepare `config.data.dataset` in `data_dir`.

    `data_dir/cache` holds the records that clips were turned into, `data_dir/DATASET` what TFDS reads,
    `data_dir/quarantine.csv` what could not be used and why, `data_dir/prepared.json` what is done. Other
    parameters than the last time's, or other media, replace the dataset; cached records that they share are used
    again. What is complete is left alone where `config.data.media` does not say where its media lie.

    Returns:
      `clips` and `position_maps` (number of records by split), `frames`, `seconds` (of speech), `bytes` (of
      records), `quarantined` (number by reason).

    Raises:
      UserError: unknown dataset, media that are not there, a folder that cannot be written, no clip that can be
        used, or more of them quarantined than `config.data.max_quarantine` allows.
    """
    data_dir, limit = pathlib.Path(data_dir), _limit(config)
    made_by, key = builder_class(config.data.dataset), key_of(config)
    settings = made_by.settings_of(config)
    if 'media' in settings and not settings['media'] and _is_complete(data_dir, {'key': key}):
        return _summary_within(limit, data_dir)
    builders = [made_by(config=kind, data_dir=data_dir, settings=settings, make_missing=False)
                for kind in made_by.builder_configs]
    jobs = [job for builder in builders for job in builder.jobs()]
    wanted = {'key': key, 'content': digest(jobs=sorted([job.split, job.name] for job in jobs))}
    with _locked(data_dir), _told_when_full(data_dir):
        complete = _is_complete(data_dir, wanted)
        if complete and quarantine.FAILED not in dataset.read_marker(data_dir)['summary']['quarantined']:
            return _summary_within(limit, data_dir)
        if not dataset.read_marker(data_dir):
            _mark(data_dir, {'complete': False})
        refusals = pool.run(jobs, data_dir / 'cache', config.data.workers, config.data.beam)
        quarantine.write(data_dir / quarantine.TABLE, refusals)
        _check(quarantine.counts(refusals), len(jobs), limit, data_dir, refusals)
        state = {**wanted, 'refused': digest(paths=sorted(refusal.path for refusal in refusals))}
        if not complete or not _is_complete(data_dir, state):  # else what had failed has failed again
            _build(builders, config.expression.model.components, data_dir, state, refusals, len(jobs))
        return dataset.read_marker(data_dir)['summary']


def _is_complete(data_dir: pathlib.Path, state: Mapping[str, Any]) -> bool:
    """Whether a whole dataset of this state lies in `data_dir`."""
    marker = dataset.read_marker(data_dir)
    return bool(marker.get('complete') and all(marker.get(name) == value for name, value in state.items())
                and _all_there(data_dir, marker['files']))


def _summary_within(limit: float, data_dir: pathlib.Path) -> dict[str, Any]:
    """The summary of a complete dataset; UserError where too much of it is in quarantine."""
    marker = dataset.read_marker(data_dir)
    _check(marker['summary']['quarantined'], marker['jobs'], limit, data_dir)
    return marker['summary']


def _build(builders: Sequence[CachedRecordsBuilder], components: int, data_dir: pathlib.Path,
           state: Mapping[str, Any], refusals: Sequence[Refusal], jobs: int) -> None:
    """TFRecords from the cache, and the marker that says that they are whole."""
    name, marker = builders[0].name, dataset.read_marker(data_dir)
    if marker.get('complete') or any(marker.get(name) != value for name, value in state.items()):
        _mark(data_dir, {'complete': False})  # before anything goes: a killed deletion must not pass for a dataset
        shutil.rmtree(data_dir / name, ignore_errors=True)
    _mark(data_dir, {**state, 'complete': False})
    for half in (data_dir / name).glob('*/*incomplete*'):  # of a killed run
        shutil.rmtree(half, ignore_errors=True)
    parts = {builder.kind: os.path.relpath(_write(builder, components, data_dir), data_dir) for builder in builders}
    files = {os.path.relpath(path, data_dir): path.stat().st_size
             for part in parts.values() for path in sorted((data_dir / part).iterdir())}
    summary = _summary(dataset.Dataset(data_dir, parts), refusals)
    _mark(data_dir, {**state, 'complete': True, 'jobs': jobs, 'parts': parts, 'files': files, 'summary': summary})


def key_of(config: ConfigDict) -> str:
    """Hash of everything in `config` that decides what `prepare` makes; prepared data need no media any more."""
    made_by = builder_class(config.data.dataset)
    settings = {name: value for name, value in made_by.settings_of(config).items() if name not in made_by.PLACES}
    return digest(dataset=config.data.dataset, settings=settings,
                  components=config.expression.model.components,
                  versions=[FORMAT, specs.SPEC_VERSION, str(made_by.VERSION)])


def described(summary: Mapping[str, Any], data_dir: pathlib.Path) -> str:
    """What `prepare` returned, in lines for the user."""
    lines = [f'prepared {kind.replace("_", " ")}: '
             + ', '.join(f'{count} {split}' for split, count in summary[kind].items())
             for kind in ('clips', 'position_maps') if summary[kind]]
    left_out, reasons = sum(summary['quarantined'].values()), quarantine.described(summary['quarantined'])
    lines += [f'left out: {left_out}' + (f' ({reasons}), see {data_dir / quarantine.TABLE}' if left_out else ''),
              f'{summary["seconds"] / 3600:.2f} hours, {summary["bytes"] / 2**20:.0f} MiB of records in {data_dir}']
    return '\n'.join(lines)


def prepare_inputs(paths: Sequence[str | os.PathLike], config: ConfigDict,
                   data_dir: str | os.PathLike) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Turn videos into clip records, through the cache in `data_dir/cache`.

    Args:
      paths: media files.
      config: the whole config: `image_size` and `data` count.
      data_dir: where the cache and the quarantine table lie.

    Returns:
      The records of the files that could be used, in order, and the refusals of the others, which also go to
      `data_dir/quarantine_inputs.csv`.

    Raises:
      UserError: no file could be used; the sentence is the first one's.
    """
    data_dir = pathlib.Path(data_dir)
    cache = data_dir / 'cache'
    sources = [media_builder.Source(str(path)) for path in paths]
    jobs = media_builder.media_jobs(sources, cache, media_builder.options_of(config), detectors.find(config))
    with _told_when_full(data_dir):
        refusals = pool.run(jobs, cache, config.data.workers)
        quarantine.write(data_dir / 'quarantine_inputs.csv', refusals)
    if len(refusals) == len(jobs):
        raise UserError(refusals[0].detail)
    refused = {refusal.path for refusal in refusals}
    return [records.load_record(cache / job.name) for job in jobs if job.source not in refused], refusals


def _limit(config: ConfigDict) -> float:
    limit = config.data.max_quarantine
    if not 0 <= limit <= 1:
        raise UserError(f'config.data.max_quarantine is {limit}; want a share from 0 to 1')
    return limit


def _check(reasons: Mapping[str, int], count: int, limit: float, data_dir: pathlib.Path,
           refusals: Sequence[Refusal] = ()) -> None:
    """Tell what is left out of `count` clips; UserError where that is all of them, or more than `limit`."""
    left_out, table = sum(reasons.values()), data_dir / quarantine.TABLE
    described = f'{left_out} of {count} clips cannot be used ({quarantine.described(reasons)})'
    if left_out and left_out == count:
        first = f'; the first: {refusals[0].detail}' if refusals else ''
        raise UserError(f'{described}, and none is left; see {table}{first}')
    if left_out > limit * count:
        raise UserError(f'{described}, more than the share {limit:g} of --max_quarantine; see {table}')
    if refusals:
        _log.warning('%s', described)


@contextlib.contextmanager
def _locked(data_dir: pathlib.Path) -> Iterator[None]:
    """Two processes must not prepare one folder at a time."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = open(data_dir / '.lock', 'w')  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f'cannot write in {data_dir}: {error.strerror}; give --workdir or config.data.directory a '
                        'writable folder') from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f'another process is preparing {data_dir}; wait for its end, or give another folder'
                            ) from error
        except OSError:
            _log.warning('%s cannot be locked: do not let a second process prepare it', data_dir)
        yield


@contextlib.contextmanager
def _told_when_full(data_dir: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in pool.FULL:
            raise
        raise UserError(f'cannot write in {data_dir}: {error.strerror}; make room, then run the same command again'
                        ) from error


def _mark(data_dir: pathlib.Path, marker: Mapping[str, Any]) -> None:
    temporary = data_dir / f'.{dataset.MARKER}.{os.getpid()}.tmp'
    temporary.write_text(json.dumps(marker, indent=2, sort_keys=True))
    os.replace(temporary, data_dir / dataset.MARKER)


def _all_there(data_dir: pathlib.Path, files: dict[str, int]) -> bool:
    return all((data_dir / path).is_file() and (data_dir / path).stat().st_size == size
               for path, size in files.items())


def _write(builder: CachedRecordsBuilder, components: int, data_dir: pathlib.Path) -> pathlib.Path:
    """TFRecords, indices and statistics of one builder config; returns their folder."""
    tfds.disable_progress_bar()  # the builder shows its own, with the time left
    folder = pathlib.Path(builder.data_dir)
    if not any(job.split == 'train' and (builder.cache / job.name).is_file() for job in builder.jobs()):
        raise UserError(f'{data_dir} would hold no training data: none of the {builder.kind} of split train can be '
                        f'used, see {data_dir / quarantine.TABLE}')
    with contextlib.redirect_stdout(io.StringIO()):  # TFDS speaks of downloads
        builder.download_and_prepare()
    for split in index.splits(folder):
        for shard in index.shards(folder, split):
            index.write(shard, dataset.frames_of)
    train = dataset.Records(folder, 'train', dataset.FIELDS[builder.kind])
    topology = builder.topology()
    if builder.kind == 'clips':
        metadata = {'triangles': topology['triangles'], **statistics.clip_statistics(train, components)}
    else:
        metadata = {**topology, **statistics.position_map_statistics(train)}
    statistics.save(folder, metadata)
    return folder


def _summary(prepared: dataset.Dataset, refusals: Sequence[Refusal]) -> dict[str, Any]:
    every = {kind: prepared.splits(kind) for kind in dataset.FIELDS}
    frames = int(sum(split.frames.sum() for split in every['clips'].values()))
    return {
        **{kind: {name: len(split) for name, split in splits.items()} for kind, splits in every.items()},
        'frames': frames,
        'seconds': frames / specs.FRAME_RATE,
        'bytes': sum(split.bytes for splits in every.values() for split in splits.values()),
        'quarantined': quarantine.counts(refusals),
    }
