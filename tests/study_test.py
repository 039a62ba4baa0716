"""The ablation study from training to grid, on a stage of a few parameters; resuming, sharing, refusing."""

import dataclasses
import errno
import fcntl
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from configs import common
from talkinghead_jax import evaluation, study
from talkinghead_jax.errors import UserError
from talkinghead_jax.evaluation import DETECTED_LMD
from talkinghead_jax.metrics.intervals import Interval
from talkinghead_jax.nn import randomness
from talkinghead_jax.report import ablations, page
from talkinghead_jax.stages.base import Player, Stage
from talkinghead_jax.study import Data, Run
from talkinghead_jax.train import checkpoint, failures
from third_party import assets

BATCH, SIZE = 8, 16
SPEC = {'references': jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), 'uint8'),
        'target': jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), 'uint8'),
        'mask': jax.ShapeDtypeStruct((BATCH,), 'bool')}
SPEAKERS = np.tile([f'id{i}' for i in range(4)], 3)
SHIFT = np.array([40, -30, 10])


def toy(name, config, axes):
    """Adds a colour to the reference; the ablation no_warp can only add grey."""
    channels = 3 if config.generator.model.ablation == '' else 1

    def init(key):
        return {'gen': {'colour': 0.1 * jax.random.normal(key, (channels,))}}, {'gen': {}}

    def predict(params, model_state, frozen, batch):
        return {'image': batch['references'] / 127.5 - 1 + params['gen']['colour'][None, None, None]}

    def error(outputs, batch):
        return jnp.mean(jnp.square(outputs['image'] - (batch['target'] / 127.5 - 1)), axis=(1, 2, 3))

    def losses(params, model_state, frozen, batch, keys):
        noise = jax.vmap(jax.random.normal)(randomness.stream(keys, 'noise'))
        loss = jnp.mean((1 + 0.3 * noise) * error(predict(params, model_state, frozen, batch), batch))
        return {'gen': loss}, (model_state, {'square': loss})

    def metrics(outputs, batch, frozen):
        return {'psnr': -10 * jnp.log10(error(outputs, batch) / 4), 'lmd': jnp.sqrt(error(outputs, batch))}

    return Stage(name, (Player('gen', optax.adam(0.05)),), SPEC, init, losses, predict, metrics,
                 lambda batch, frozen: {'matched_reference': {'image': batch['references'] / 127.5 - 1}})


def examples(rng, count):
    references = rng.integers(60, 160, (count, SIZE, SIZE, 3))
    target = references + SHIFT + rng.integers(-9, 9, (count, 1, 1, 3))
    frames = {'references': references.astype(np.uint8), 'target': target.astype(np.uint8)}
    return {**frames, 'mask': np.ones(count, bool)}


def training(first_step):
    while True:
        yield examples(np.random.default_rng(first_step), BATCH)
        first_step += 1


def held_out():
    """Twelve examples; the second batch is half filling."""
    whole = examples(np.random.default_rng(10**6), 12)
    yield {name: value[:BATCH] for name, value in whole.items()}
    last = {name: np.concatenate([value[BATCH:], value[BATCH:]]) for name, value in whole.items()}
    yield {**last, 'mask': np.arange(BATCH) < 4}


DATA = Data({}, {'pose_deviation': np.ones(6, np.float32)}, training, held_out, SPEAKERS)


def a_config(**changes):
    config = common.base('toy')
    config.generator.steps = 8
    config.log.update({'every_steps': 2, 'checkpoint_every_steps': 4})
    config.study.update({'variants': ('', 'no_warp'), 'seeds': (0, 1), **changes})
    return config.lock()


@pytest.fixture(autouse=True)
def toy_stage(monkeypatch):
    monkeypatch.setattr(study.registry, 'make_stage', toy)


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """(folder, results, printed table) of a whole study, whose seeds are trained as two processes would do it."""
    root = tmp_path_factory.mktemp('study')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study.registry, 'make_stage', toy)
        for seed in (1, 0):
            assert len(study.run_all(a_config(seeds=(seed,)), root, DATA)) == 2
        found = study.run_all(a_config(), root, DATA)
    return root, found, ablations.write(root, found, SPEAKERS)


def params(root, run):
    return checkpoint.load_for_inference(run.folder(root), 'generator').params


def snapshot(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob('*') if path.is_file()}


def test_every_run_is_trained_to_the_same_step_in_its_own_folder(done):
    root, found, _ = done
    assert list(found) == [Run('full', 0), Run('no_warp', 0), Run('full', 1), Run('no_warp', 1)]
    assert {result.step for result in found.values()} == {8}
    assert all((root / 'no_warp' / 'seed_1' / name).exists() for name in ('settings.json', 'checkpoints', 'logs'))
    colours = {run: params(root, run)['gen']['colour'] for run in found}
    assert {run: len(colour) for run, colour in colours.items()} == {
        run: 3 if run.variant == 'full' else 1 for run in found}
    assert not np.array_equal(colours[Run('full', 0)], colours[Run('full', 1)])


def test_what_is_finished_is_not_done_again(done):
    root, found, _ = done
    before = snapshot(root)

    def no_batches(*_):
        raise AssertionError('nothing is left to train or to evaluate')

    again = study.run_all(a_config(), root, dataclasses.replace(DATA, training=no_batches, held_out=no_batches))
    assert snapshot(root) == before
    assert {run: result.means for run, result in again.items()} == {run: found[run].means for run in found}


class KilledError(Exception):
    pass


def test_a_killed_study_goes_on_and_ends_in_the_same_weights(done, tmp_path):
    def short(first_step):
        for number, batch in enumerate(training(first_step), first_step):
            if number == 5:
                raise KilledError
            yield batch

    config, starts = a_config(seeds=(1,)), []
    with pytest.raises(KilledError):
        study.run_all(config, tmp_path, dataclasses.replace(DATA, training=short))

    def counted(first_step):
        starts.append(first_step)
        return training(first_step)

    found = study.run_all(config, tmp_path, dataclasses.replace(DATA, training=counted))
    assert starts == [4, 0]
    for run in found:
        jax.tree.map(np.testing.assert_array_equal, params(tmp_path, run), params(done[0], run))


def test_other_settings_are_never_mixed(done):
    before = snapshot(done[0])
    with pytest.raises(UserError, match=r'seed_0 was trained with other settings: generator\.steps was 8, is now 9'):
        study.run_all(a_config(steps=9), done[0], DATA)
    other = dataclasses.replace(DATA, frozen={'pose_deviation': np.zeros(6, np.float32)})
    with pytest.raises(UserError, match='dataset was'):
        study.run_all(a_config(), done[0], other)
    assert snapshot(done[0]) == before


def test_gradient_checkpointing_is_no_other_setting(done):
    config = a_config().unlock()
    config.generator.model.remat = 'full'
    before = snapshot(done[0])
    assert len(study.run_all(config, done[0], DATA)) == 4
    assert snapshot(done[0]) == before


def test_the_weights_of_a_published_network_are_settings(tmp_path, monkeypatch):
    config = a_config(variants=('full',), seeds=(0,))
    monkeypatch.setattr(study.registry, 'make_stage', lambda *of: dataclasses.replace(
        toy(*of), frozen_fields=('vgg19',)))
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    with pytest.raises(UserError, match=r'the weights of vgg19 are missing'):
        study.run_all(config, tmp_path / 'study', DATA)
    assert not (tmp_path / 'study').exists()
    assets.save('vgg19', {'conv1_1': {'bias': np.zeros(3)}}, 'one')
    assert study.run_all(config, tmp_path / 'study', DATA)
    assets.save('vgg19', {'conv1_1': {'bias': np.ones(3)}}, 'another')
    with pytest.raises(UserError, match=r'other settings: vgg19 was \'\w{12}\', is now'):
        study.run_all(config, tmp_path / 'study', DATA)


def test_one_run_that_diverges_does_not_stop_the_others(tmp_path):
    """Both the first time and when the same command is given again."""
    def diverging(*of):
        stage = toy(*of)

        def losses(params, *rest):
            loss, (model_state, scalars) = stage.losses(params, *rest)
            broken = params['gen']['colour'].size == 1  # that is no_warp
            return {'gen': loss['gen'] * (jnp.nan if broken else 1)}, (model_state, scalars)

        return dataclasses.replace(stage, losses=losses)

    for finished_before in (False, True):
        lines = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(study.registry, 'make_stage', diverging)
            found = study.run_all(a_config(variants=('no_warp', ''), seeds=(0,)), tmp_path, DATA, show=lines.append)
        assert [line[:27] for line in lines] == [
            'study: no_warp, seed 0', 'study: no_warp, seed 0: sta',
            *([] if finished_before else ['study: full, seed 0'])]
        assert isinstance(found[Run('no_warp', 0)], failures.NotFiniteError)
        with pytest.raises(UserError, match=rf'^1 of 2 runs of the study failed \(no_warp, seed 0: stage generator: '
                                            rf'loss/gen is nan .*\); {tmp_path}/study.md shows the others$'):
            ablations.write(tmp_path, found, SPEAKERS)
        kept = json.loads((tmp_path / 'study.json').read_text())
        assert {row['variant'] for row in kept['rows']} == {'full'}
        assert (tmp_path / 'grid.png').is_file()


def test_only_failures_leave_no_table(tmp_path):
    with pytest.raises(UserError, match=r'1 of 1 runs of the study failed \(full, seed 0: no\); no run is finished'):
        ablations.write(tmp_path, {Run('full', 0): UserError('no')}, SPEAKERS)
    assert not list(tmp_path.iterdir())


def test_variants_may_be_joined_by_commas():
    config = a_config(variants=('full,matting', 'no_3d'), seeds=(0,))
    assert [run.variant for run in study.runs(config)] == ['full', 'matting', 'no_3d']


def test_a_disk_without_locks_is_told(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(study.fcntl, 'flock', flock)
    with pytest.raises(UserError, match=r'cannot lock .*/full/seed_0/\.lock: No locks available; want --workdir'):
        study.run_all(a_config(), tmp_path, DATA)


def test_what_another_process_works_on_is_passed_over(tmp_path, capsys):
    busy = Run('full', 0).folder(tmp_path)
    busy.mkdir(parents=True)
    with open(busy / '.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert study.run_all(a_config(variants=('full',), seeds=(0,)), tmp_path, DATA) == {}
    assert [path.name for path in busy.iterdir()] == ['.lock']
    assert 'full, seed 0: another process is at it' in capsys.readouterr().out


@pytest.mark.parametrize(('changes', 'words'), [
    ({'variants': ('no_4d',)}, "holds 'no_4d'; want some of full, no_3d"),
    ({'seeds': (-1,)}, r'config.study.seeds is \(-1,\); want whole numbers'),
    ({'seeds': ()}, 'empty'),
])
def test_impossible_studies_are_refused(changes, words, tmp_path):
    with pytest.raises(UserError, match=words):
        study.run_all(a_config(**changes), tmp_path, DATA)
    assert not list(tmp_path.iterdir())


def test_a_detector_adds_its_metric_without_training(tmp_path):
    config = a_config(variants=('',), seeds=(0,))
    first = study.run_all(config, tmp_path, DATA)[Run('full', 0)]

    def detect(images):
        brightness = images.mean(axis=(1, 2))[:, None, :] / np.arange(1, 69)[None, :, None]
        return brightness, np.ones(len(images), bool)

    def no_training(first_step):
        raise AssertionError('trained again')

    second = study.run_all(config, tmp_path, dataclasses.replace(DATA, training=no_training), detect)[Run('full', 0)]
    assert DETECTED_LMD not in first.means['model']
    assert second.means['model'][DETECTED_LMD] > 0
    assert second.means['model']['psnr'] == first.means['model']['psnr']


def test_the_table_has_means_deviations_and_paired_differences(done):
    root, found, printed = done
    rows = {(row.metric, row.variant): row for row in ablations.compare(found, SPEAKERS)}
    values = {run: result.per_example['model']['psnr'] for run, result in found.items()}
    full, grey = (np.stack([values[Run(name, seed)] for seed in (0, 1)]) for name in ('full', 'no_warp'))
    row = rows['psnr', 'no_warp']
    assert row.mean == pytest.approx(grey.mean())
    assert row.deviation == pytest.approx(grey.mean(axis=1).std(ddof=1))
    assert row.difference.mean == pytest.approx((full - grey).mean())
    assert row.difference.low < row.difference.mean < row.difference.high
    assert rows['psnr', 'full'].difference is None
    assert [rows[metric, 'no_warp'].mark for metric in ('psnr', 'lmd')] == ['ahead', 'ahead']
    assert f'{row.mean:.3f} ± {row.deviation:.3f}' in printed
    assert '12 held-out frames of 4 speakers; seeds 0, 1; 8 steps each' in printed
    assert printed.endswith(f'study: {root}/study.md, {root}/grid.png')


def result(value, metric='psnr'):
    values = np.full(6, value) + 0.01 * np.arange(6)
    return evaluation.Evaluation('generator', 6, {'model': {metric: values.mean()}}, {'model': {metric: values}})


@pytest.mark.parametrize(('metric', 'full', 'other', 'mark'), [
    ('psnr', (20.0, 20.1), (19.0, 19.2), 'ahead'), ('psnr', (20.0, 20.1), (21.0, 21.3), 'behind'),
    ('psnr', (20.0, 20.1), (19.0, 21.3), 'tied'), ('lmd', (2.0, 2.1), (3.0, 3.2), 'ahead'),
    ('lmd', (2.0, 2.1), (1.0, 1.2), 'behind'),
])
def test_the_mark_knows_which_way_is_better(metric, full, other, mark):
    found = {Run(name, seed): result(values[seed], metric)
             for name, values in (('full', full), ('matting', other)) for seed in (0, 1)}
    assert ablations.compare(found, np.arange(6))[1].mark == mark


def test_one_seed_has_no_interval_and_no_mark():
    found = {Run(name, 0): result(value) for name, value in (('full', 20.0), ('matting', 19.0))}
    row = ablations.compare(found, np.arange(6))[1]
    assert row.mark == '–'
    assert row.difference.mean == pytest.approx(1)
    assert np.isnan([row.deviation, row.difference.low]).all()
    assert '19.025      ' in ablations.text_table('x', [row])


def test_the_files_hold_the_table_and_the_same_frames_by_every_variant(done):
    root, found, _ = done
    kept = json.loads((root / 'study.json').read_text())
    assert [ablations._read(row) for row in kept['rows']] == ablations.compare(found, SPEAKERS)
    assert isinstance(ablations._read(kept['rows'][1]).difference, Interval)
    text = (root / 'study.md').read_text()
    assert text.count('| no_warp |') == 2
    assert 'ahead |' in text
    shown = study.pictures(root, ('full', 'no_warp'), 0)
    assert [pictures.shape for pictures in shown.values()] == [(6, SIZE, SIZE, 3)] * 3
    targets = np.concatenate([batch['target'][batch['mask']] for batch in held_out()])
    np.testing.assert_array_equal(shown['true'], targets[study.choose(SPEAKERS)])
    error = {name: np.abs(pictures.astype(float) - shown['true']).mean() for name, pictures in shown.items()}
    assert 0 < error['full'] < error['no_warp']
    grid = np.asarray(Image.open(io.BytesIO((root / 'grid.png').read_bytes())))
    assert grid.shape == (28 + 6 * 192, 3 * 192, 3)
    assert grid[:28].min() < 100  # the headings
    np.testing.assert_allclose(grid[28 + 80:28 + 112, 80:112].mean((0, 1)),
                               shown['true'][0, 6:10, 6:10].mean((0, 1)), atol=12)


def test_the_report_shows_the_study(done, tmp_path):
    page.write_report(tmp_path / 'report.html', {}, ablations=ablations.section(done[0]))
    text = (tmp_path / 'report.html').read_text()
    assert '<section id="ablations">' in text
    assert text.count('<th scope="row">no_warp</th>') == 2
    assert 'src="data:image/png;base64,' in text
    assert ablations.section(tmp_path) == ''


def test_the_frames_shown_are_of_many_speakers_and_places():
    speakers = np.tile([f'id{i}' for i in range(8)], 4)
    chosen = study.choose(speakers)
    assert len({speakers[number] for number in chosen}) == 6
    assert len({number // 8 for number in chosen}) == 4
    two = study.choose(np.repeat(['a', 'b'], 5))
    assert len(set(two)) == 6
    assert sum(number < 5 for number in two) == 3
    assert study.choose(np.array(['a', 'a'])) == [0, 1]


def test_a_study_of_nothing_finished_writes_nothing(tmp_path):
    assert 'no run' in ablations.write(tmp_path, {}, SPEAKERS)
    assert not list(tmp_path.iterdir())
