"""Samplers: every stage's example fits its spec, windows are where they should be, mirrored faces stay faces."""

import wave

import numpy as np
import pytest
from fake_records import VERTICES, fake_position_map, fake_record

from configs import common
from input_pipeline import augmentation, examples, noise
from talkinghead_jax import loudness, specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.geometry import face, rigid

SIZE = 32


def _config():
    config = common.base('test')
    config.image_size = SIZE
    return config


def _sample(stage, record, config, training=True, seed=0, target=0):
    return examples.sample(stage, record, np.random.default_rng(seed), config[stage], SIZE, training, target)


def _record(stage, frames=100):
    return fake_position_map(size=SIZE) if stage == 'unprojection' else fake_record(frames=frames)


@pytest.mark.parametrize('frames', [100, 29, 79, 80])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('stage', common.STAGES)
def test_example_fits_spec(stage, training, frames):
    config, record = _config(), _record(stage, frames)
    for seed in range(4):
        example = _sample(stage, record, config, training, seed)
        batch = {name: np.asarray(value)[None] for name, value in example.items()}
        spec = examples.batch_spec(stage, config[stage], SIZE, VERTICES, training, 1)
        assert specs.differences({**batch, 'mask': np.ones(1, bool)}, spec) == []


@pytest.mark.parametrize('stage', common.STAGES)
def test_same_generator_same_example_and_evaluation_draws_nothing(stage):
    config, record = _config(), _record(stage)
    for training, seeds in ((True, (3, 3)), (False, (3, 4))):
        one, two = (_sample(stage, record, config, training, seed) for seed in seeds)
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])


def test_expression_window_lines_up_with_the_clip():
    config, record = _config(), fake_record(frames=70)
    config.expression.data.update({'evaluation_frames': 60})
    example = _sample('expression', record, config, training=False)
    context = examples.context_frames(70)
    assert context == 28
    assert example['frame_mask'].sum() == 42
    frontal = rigid.frontalize(record['landmarks'], record['pose'])
    np.testing.assert_array_equal(example['target_frontal'][:42], frontal[context:])
    np.testing.assert_array_equal(example['audio'][:45], loudness.standardise(record['audio'])[context - 3:])
    assert not example['audio'][45:].any()
    np.testing.assert_array_equal(example['reference_frontal'], frontal[record['key_frame']])


def test_expression_window_starts_in_silence():
    config, record = _config(), fake_record(frames=20)
    config.expression.data.update({'frames': 20, 'noise_probability': 0.0, 'silence_probability': 0.0, 'gain': False,
                                   'flip': False})
    example = _sample('expression', record, config)
    assert not example['audio'][:3].any()
    assert not example['audio'][-3:].any()
    np.testing.assert_array_equal(example['audio'][3:-3], loudness.standardise(record['audio']))
    assert example['frame_mask'].all()


def test_expression_noise_changes_only_the_sound():
    config, record = _config(), fake_record()
    config.expression.data.update({'noise_probability': 1.0, 'silence_probability': 0.0, 'flip': False,
                                   'gain': False})
    record['audio'][40:] = 0  # the ratio is the clip's, also where an excerpt is a pause
    power = (loudness.standardise(record['audio']).astype(float) ** 2).mean()
    for seed in range(8):
        config.expression.data.noise_probability = 1.0
        noisy = _sample('expression', record, config, seed=seed)
        config.expression.data.noise_probability = 0.0
        clean = _sample('expression', record, config, seed=seed)
        np.testing.assert_array_equal(noisy['target_frontal'], clean['target_frontal'])
        if clean['audio'].any():
            found = _ratio(noisy['audio'], clean['audio'], power)
            assert min(abs(found - wanted) for wanted in noise.RATIOS) < 0.2
        assert noisy['audio'].any()


def _ratio(mixture, speech, power):
    """dB of speech of this power over noise in a mixture of any level; speech and noise are uncorrelated."""
    mixture, speech = mixture.astype(float), speech.astype(float)
    factor = (mixture * speech).sum() / (speech ** 2).sum()
    return 10 * np.log10(factor ** 2 * power / ((mixture - factor * speech) ** 2).mean())


def test_digital_silence_shows_the_face_at_rest():
    config, record = _config(), fake_record()
    config.expression.data.update({'silence_probability': 1.0, 'noise_probability': 1.0, 'flip': False})
    example = _sample('expression', record, config)
    assert not example['audio'].any()
    closed = rigid.frontalize(record['landmarks'], record['pose'])[record['closed_mouth_frame']]
    np.testing.assert_array_equal(example['target_frontal'], np.broadcast_to(closed, example['target_frontal'].shape))
    np.testing.assert_allclose(example['identity'], closed - face.TEMPLATE, atol=1e-4)
    config.expression.data.silence_probability = 0.3
    silent = [not _sample('expression', record, config, seed=seed)['audio'].any() for seed in range(100)]
    assert 18 <= sum(silent) <= 42


def test_evaluation_also_hears_noise_at_a_fixed_ratio():
    config, record = _config(), fake_record()
    example = _sample('expression', record, config, training=False)
    whole, speech = examples._noisy_clip(record, config.expression.data), record['audio']
    assert abs(_ratio(whole, speech, (speech.astype(float) ** 2).mean()) - 6) < 0.1
    start = examples.context_frames(len(speech)) - 3
    shown = len(speech) - start
    np.testing.assert_array_equal(example['noisy_audio'][:shown], whole[start:][:len(example['noisy_audio'])])
    level = loudness.speech_level(loudness.frame_power(whole))  # of the mixture, as it would be in use
    assert level == pytest.approx(loudness.STANDARD, rel=0.01)
    other = {**record, 'clip_id': 'another'}
    assert (_sample('expression', other, config, training=False)['noisy_audio'] != example['noisy_audio']).any()
    config.expression.data.evaluation_noise = ''
    assert 'noisy_audio' not in _sample('expression', record, config, training=False)
    assert 'noisy_audio' not in examples.batch_spec('expression', config.expression, SIZE, VERTICES, False, 1)
    config.expression.data.evaluation_noise = 'brown'
    with pytest.raises(UserError, match="evaluation_noise is 'brown'; want one of white, pink, babble"):
        examples.batch_spec('expression', config.expression, SIZE, VERTICES, True, 1)


def test_noise_from_a_folder(tmp_path):
    config, record = _config(), fake_record()
    config.expression.data.update({'noise_probability': 1.0, 'silence_probability': 0.0, 'gain': False,
                                   'noise_folder': str(tmp_path)})
    with wave.open(str(tmp_path / 'hum.wav'), 'wb') as file:
        file.setparams((1, 2, 8000, 0, 'NONE', ''))
        file.writeframes((9000 * np.sin(np.arange(4000) * 2 * np.pi * 500 / 8000)).astype('<i2').tobytes())
    examples.batch_spec('expression', config.expression, SIZE, VERTICES, True, 1)
    record['audio'][:, ::2], record['audio'][:, 1::2] = 3000, -3000  # at 8 kHz, far from the hum
    hums = 0
    for seed in range(60):
        sound = _sample('expression', record, config, seed=seed)['audio'].ravel()
        power = np.abs(np.fft.rfft(sound)[1:len(sound) // 4]) ** 2  # below 4 kHz
        hums += power.max() > 0.5 * power.sum()
    assert 5 <= hums <= 28  # a quarter of the excerpts


def test_a_wrong_noise_folder_is_told_before_the_first_batch(tmp_path):
    config = _config()
    config.expression.data.noise_folder = str(tmp_path / 'none')
    with pytest.raises(UserError, match=r'noise_folder is .*none, which is no folder'):
        examples.batch_spec('expression', config.expression, SIZE, VERTICES, True, 1)
    assert examples.batch_spec('expression', config.expression, SIZE, VERTICES, False, 1)


def test_head_motion_continues_the_context():
    config, record = _config(), fake_record(frames=220)
    config.head_motion.data.flip = False
    pose, contexts, lengths = record['pose'], set(), set()
    for seed in range(60):
        example = _sample('head_motion', record, config, seed=seed)
        valid = example['context_mask']
        context = example['context_pose'][valid]
        assert len(valid) == len(example['pose']) == 96
        assert not example['context_pose'][~valid].any()
        assert (np.diff(valid.astype(int)) >= 0).all()  # padded on the left
        start = int(np.flatnonzero((pose == context[0]).all(-1))[0])
        shown = example['frame_mask'].sum()
        whole = np.concatenate([context, example['pose'][:shown]])
        np.testing.assert_array_equal(whole, pose[start:start + len(whole)])
        sound = loudness.standardise(record['audio'])[start + len(context):]
        np.testing.assert_array_equal(example['audio'][:shown], sound[:shown])
        contexts.add(len(context))
        lengths.add(int(shown))
    assert 32 <= min(contexts) < 37  # lengths are drawn from 32 to 96
    assert 91 < max(contexts) <= 96
    assert 16 <= min(lengths) < 21  # and from 16 to 96
    assert 91 < max(lengths) <= 96


@pytest.mark.parametrize('frames', [50, 75, 100])
def test_head_motion_of_a_short_clip(frames):
    config, record = _config(), fake_record(frames=frames)
    for seed in range(20):
        example = _sample('head_motion', record, config, seed=seed)
        context, shown = example['context_mask'].sum(), example['frame_mask'].sum()
        assert min(32, examples.context_frames(frames)) <= context <= frames - 16
        assert 16 <= shown <= frames - context


@pytest.mark.parametrize('frames', [25, 29, 75])
def test_short_clips_lose_reference_frames_but_no_stage(frames):
    config, record = _config(), fake_record(frames=frames)
    config.generator.data.jitter = 0.0
    context, key = examples.context_frames(frames), int(record['key_frame'])
    assert context == int(0.4 * frames)
    for stage in ('expression', 'head_motion'):
        example = _sample(stage, record, config, training=False)
        assert example['frame_mask'].sum() == min(frames - context, len(example['frame_mask']))
        assert not example['audio'][-1].any()  # silence beyond the end
    assert example['context_mask'].sum() == context
    np.testing.assert_array_equal(example['pose'][:frames - context], record['pose'][context:])
    for training, target in [(True, 0)] * 12 + [(False, i) for i in range(config.generator.data.targets_per_clip)]:
        example = _sample('generator', record, config, training, seed=target, target=target)
        numbers = {_number(image) for image in example['references']} - {key}
        assert max(numbers, default=0) < context <= _number(example['target'])
        assert _number(example['target']) != key


def test_the_level_is_the_records():
    """What the record says of its loudness is believed, in every stage that hears it."""
    config, record = _config(), fake_record(frames=100)
    for stage in ('expression', 'head_motion'):
        plain, halved = (_sample(stage, {**record, 'speech_level': level}, config, training=False)['audio']
                         for level in (record['speech_level'], 2 * record['speech_level']))
        assert np.abs(halved - plain / 2.0).max() <= 1


def test_head_motion_evaluation_reads_the_first_frames():
    config, record = _config(), fake_record(frames=100)
    example = _sample('head_motion', record, config, training=False)
    assert example['context_mask'].sum() == 64
    np.testing.assert_array_equal(example['context_pose'][-64:], record['pose'][:64])
    assert example['frame_mask'].sum() == 36
    np.testing.assert_array_equal(example['pose'][:36], record['pose'][64:])


def _number(image):
    return round(float(image.mean()))  # fake frames are painted with their number


def test_generator_references_come_before_targets():
    config, record = _config(), fake_record(frames=100)
    config.generator.data.jitter = 0.0
    counts = set()
    for seed in range(30):
        example = _sample('generator', record, config, seed=seed)
        valid = example['reference_mask'].sum()
        counts.add(int(valid))
        numbers = [_number(image) for image in example['references']]
        assert len(set(numbers[:valid])) == valid
        assert max(numbers) < 64 <= _number(example['target'])
        assert set(numbers[valid:]) <= {numbers[0]}
        assert _number(example['key_image']) == record['key_frame']
        if valid == 1:
            assert numbers[0] == record['key_frame']
    assert counts == set(range(1, 9))


@pytest.mark.parametrize(('frames', 'gap'), [(100, 8), (100, 60), (5, 8), (1, 8)])
def test_with_a_gap_targets_come_from_the_whole_clip_and_stay_apart_from_references(frames, gap):
    config, record = _config(), fake_record(frames=frames)
    config.generator.data.jitter = 0.0
    with config.generator.data.unlocked():
        config.generator.data.gap = gap
    targets = []
    for seed in range(40):
        example = _sample('generator', record, config, seed=seed)
        numbers = np.array([_number(image) for image in example['references']])
        targets.append(_number(example['target']))
        assert example['reference_mask'].all()
        if frames == 100 and (gap == 8 or not 40 <= targets[-1] < 60):
            assert np.abs(numbers - targets[-1]).min() >= gap
            assert abs(_number(example['key_image']) - targets[-1]) >= gap
        elif frames > 1:
            assert targets[-1] not in numbers
    assert len(set(targets)) > min(frames, 20) // 2 - (frames == 1)
    assert _sample('generator', record, config, training=False).keys() == example.keys()


def test_generator_evaluation_spreads_references_and_targets():
    config, record = _config(), fake_record(frames=104)
    found = [_sample('generator', record, config, False, target=target) for target in range(4)]
    assert [_number(example['target']) for example in found] == [69, 79, 89, 99]
    numbers = [_number(image) for image in found[0]['references']]
    assert int(record['key_frame']) in numbers
    assert max(np.diff(sorted(numbers))) <= 20
    assert found[0]['reference_mask'].all()
    config.generator.data.references = 1
    alone = _sample('generator', record, config, False)
    assert _number(alone['references'][0]) == record['key_frame']


def test_generator_decodes_only_the_sampled_frames(monkeypatch):
    config, record, decoded = _config(), fake_record(frames=100), []
    decode = examples.decode
    monkeypatch.setattr(examples, 'decode', lambda data, size: decoded.append(data) or decode(data, size))
    _sample('generator', record, config)
    assert len(decoded) <= 10


def test_undetected_frames_are_not_drawn():
    config, record = _config(), fake_record(frames=100)
    config.generator.data.jitter = 0.0
    record['detected'][::2] = False
    for seed in range(10):
        example = _sample('generator', record, config, seed=seed)
        assert _number(example['target']) % 2 == 1


def test_mirrored_pose_belongs_to_mirrored_landmarks():
    record = fake_record(frames=20)
    landmarks = rigid.apply_pose(np.broadcast_to(face.TEMPLATE, (20, 68, 3)), record['pose'].astype(np.float64))
    expected = rigid.estimate_pose(face.mirror(landmarks))
    np.testing.assert_allclose(augmentation.mirror_pose(record['pose']), expected, atol=1e-5)


def test_flipped_generator_example_is_the_mirrored_one():
    config, record = _config(), fake_record(frames=100)
    config.generator.data.jitter = 0.0
    flips = 0
    for seed in range(12):
        config.generator.data.flip = True
        example = _sample('generator', record, config, seed=seed)
        config.generator.data.flip = False
        plain = _sample('generator', record, config, seed=seed)
        if (example['mesh_vertices'] == plain['mesh_vertices']).all():
            continue
        flips += 1
        np.testing.assert_array_equal(example['target'], plain['target'][:, ::-1])
        np.testing.assert_allclose(example['target_landmarks'], face.mirror(plain['target_landmarks']), atol=1e-4)
        np.testing.assert_allclose(example['mesh_vertices'][:, 0], 255 - plain['mesh_vertices'][:, 0], atol=1e-4)
        # Equation 1 commutes with the mirror.
        moved = rigid.repose(example['mesh_vertices'], example['key_pose'], example['target_pose'])
        expected = rigid.repose(plain['mesh_vertices'], plain['key_pose'], plain['target_pose'])
        np.testing.assert_allclose(moved, augmentation.mirror_points(expected), atol=1e-3)
    assert 0 < flips < 12


def test_shift_and_scale_moves_picture_and_map_alike():
    size = 64
    v, u = np.mgrid[:size, :size].astype(np.float32)
    # A picture whose red and green tell the crop position that each pixel shows.
    crop_x, crop_y = (u + 0.5) * 4 - 0.5, (v + 0.5) * 4 - 0.5
    image = np.stack([crop_x, crop_y, 0 * u], -1).round().astype(np.uint8)
    position_map = np.stack([crop_x, crop_y, 0 * u], -1)[16:48, 16:48]
    moved_image, moved_map = augmentation.shift_and_scale(
        image, position_map, np.random.default_rng(1), shift=12.0, scale=0.1)
    assert np.abs(moved_map - position_map).max() > 1
    column, row = (moved_map[..., 0] + 0.5) / 4 - 0.5, (moved_map[..., 1] + 0.5) / 4 - 0.5
    seen = moved_image[row.round().astype(int), column.round().astype(int), :2].astype(float)
    assert np.abs(seen - position_map[..., :2]).max() <= 4  # one pixel


def test_recolour_is_shared_and_small():
    table = augmentation.colour_table(np.random.default_rng(0), 0.05)
    images = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(augmentation.recolour(images, table)[1], augmentation.recolour(images[1], table))
    np.testing.assert_array_equal(augmentation.recolour(images, table)[..., 1], table[images[..., 1], 1])
    assert np.abs(table.astype(int) - np.arange(256)[:, None]).max() < 80
