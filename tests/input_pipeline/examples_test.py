"""Samplers: every stage's example fits its spec, windows are where they should be, mirrored faces stay faces."""

import numpy as np
import pytest
from fake_records import VERTICES, fake_position_map, fake_record

from configs import common
from input_pipeline import augmentation, examples
from talkinghead_jax import specs
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
    np.testing.assert_array_equal(example['audio'][:45], record['audio'][context - 3:])
    assert not example['audio'][45:].any()
    np.testing.assert_array_equal(example['reference_frontal'], frontal[record['key_frame']])


def test_expression_window_starts_in_silence():
    config, record = _config(), fake_record(frames=20)
    config.expression.data.update({'frames': 20, 'noise_probability': 0.0, 'gain': False, 'flip': False})
    example = _sample('expression', record, config)
    assert not example['audio'][:3].any()
    assert not example['audio'][-3:].any()
    np.testing.assert_array_equal(example['audio'][3:-3], record['audio'])
    assert example['frame_mask'].all()


def test_expression_noise_changes_only_the_sound():
    config, record = _config(), fake_record()
    config.expression.data.update({'noise_probability': 1.0, 'flip': False, 'gain': False})
    noisy = _sample('expression', record, config)
    config.expression.data.noise_probability = 0.0
    clean = _sample('expression', record, config)
    np.testing.assert_array_equal(noisy['target_frontal'], clean['target_frontal'])
    error = noisy['audio'].astype(float) - clean['audio']
    ratio = 10 * np.log10((clean['audio'].astype(float) ** 2).mean() / (error ** 2).mean())
    assert 5.9 < ratio < 30.1


def test_head_motion_continues_the_context():
    config, record = _config(), fake_record(frames=150)
    config.head_motion.data.flip = False
    pose = record['pose']
    for seed in range(20):
        example = _sample('head_motion', record, config, seed=seed)
        valid = example['context_mask']
        context = example['context_pose'][valid]
        assert 32 <= len(context) <= 64
        assert not example['context_pose'][~valid].any()
        assert (np.diff(valid.astype(int)) >= 0).all()  # padded on the left
        start = int(np.flatnonzero((pose == context[0]).all(-1))[0])
        shown = example['frame_mask'].sum()
        assert 32 <= shown <= 64
        whole = np.concatenate([context, example['pose'][:shown]])
        np.testing.assert_array_equal(whole, pose[start:start + len(whole)])
        np.testing.assert_array_equal(example['audio'][:shown], record['audio'][start + len(context):][:shown])


def test_head_motion_evaluation_reads_the_first_frames():
    config, record = _config(), fake_record(frames=100)
    example = _sample('head_motion', record, config, training=False)
    np.testing.assert_array_equal(example['context_pose'], record['pose'][:64])
    assert example['context_mask'].all()
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
