"""Preparation: jobs -> cached records -> TFRecords with an index -> statistics. Killed at any moment, the same
call continues; complete, it returns at once.
"""

import contextlib
import io
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Sequence
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
    data_dir = pathlib.Path(data_dir)
    made_by = builder_class(config.data.dataset)
    settings = made_by.settings_of(config)
    key, marker = key_of(config), dataset.read_marker(data_dir)
    whole = not marker.get('complete') or _all_there(data_dir, marker['files'])
    complete = whole and marker.get('complete') and marker.get('key') == key
    if complete and 'media' in settings and not settings['media']:
        return marker['summary']
    builders = [made_by(config=kind, data_dir=data_dir, settings=settings, make_missing=False)
                for kind in made_by.builder_configs]
    jobs = [job for builder in builders for job in builder.jobs()]
    content = digest(jobs=sorted([job.split, job.name] for job in jobs))
    if complete and marker['content'] == content and quarantine.FAILED not in marker['summary']['quarantined']:
        return marker['summary']
    _mark(data_dir, {**marker, 'complete': False})

    refusals = pool.run(jobs, data_dir / 'cache', config.data.workers, config.data.beam)
    quarantine.write(data_dir / quarantine.TABLE, refusals)
    _check(refusals, len(jobs), config.data.max_quarantine, data_dir)
    state = {'key': key, 'content': content, 'refused': digest(paths=sorted(refusal.path for refusal in refusals))}
    if not whole or any(marker.get(name) != value for name, value in state.items()):
        shutil.rmtree(data_dir / made_by.name, ignore_errors=True)
    for half in (data_dir / made_by.name).glob('*/*incomplete*'):  # of a killed run
        shutil.rmtree(half, ignore_errors=True)
    _mark(data_dir, {**state, 'complete': False})
    parts = {}
    for builder in builders:
        folder = _write(builder, config.expression.model.components, data_dir)
        parts[builder.kind] = os.path.relpath(folder, data_dir)
    files = {os.path.relpath(path, data_dir): path.stat().st_size
             for part in parts.values() for path in sorted((data_dir / part).iterdir())}
    summary = _summary(dataset.Dataset(data_dir, parts), refusals)
    _mark(data_dir, {**state, 'complete': True, 'parts': parts, 'files': files, 'summary': summary})
    return summary


def key_of(config: ConfigDict) -> str:
    """Hash of everything in `config` that decides what `prepare` makes; prepared data need no media any more."""
    made_by = builder_class(config.data.dataset)
    settings = {name: value for name, value in made_by.settings_of(config).items() if name not in made_by.PLACES}
    return digest(dataset=config.data.dataset, settings=settings,
                  components=config.expression.model.components,
                  versions=[FORMAT, specs.SPEC_VERSION, str(made_by.VERSION)])


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
    jobs = media_builder.media_jobs(sources, cache, media_builder.options_of(config), *detectors.find(config))
    refusals = pool.run(jobs, cache, config.data.workers)
    quarantine.write(data_dir / 'quarantine_inputs.csv', refusals)
    _check(refusals, len(jobs), 1.0, data_dir)
    refused = {refusal.path for refusal in refusals}
    return [records.load_record(cache / job.name) for job in jobs if job.source not in refused], refusals


def _check(refusals: Sequence[Refusal], count: int, limit: float, data_dir: pathlib.Path) -> None:
    if not refusals:
        return
    if len(refusals) == count:
        raise UserError(refusals[0].detail)
    reasons = quarantine.described(quarantine.counts(refusals))
    if len(refusals) > limit * count:
        raise UserError(f'{len(refusals)} of {count} clips cannot be used ({reasons}), more than the share '
                        f'{limit:g} of --max_quarantine; see {data_dir / quarantine.TABLE}')
    _log.warning('%d of %d left out (%s)', len(refusals), count, reasons)


def _mark(data_dir: pathlib.Path, marker: dict[str, Any]) -> None:
    temporary = data_dir / f'.{dataset.MARKER}.{os.getpid()}.tmp'
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(marker, indent=2, sort_keys=True))
        os.replace(temporary, data_dir / dataset.MARKER)
    except OSError as error:
        raise UserError(f'cannot write in {data_dir}: {error.strerror}; give --workdir or config.data.directory a '
                        'writable folder') from error


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
