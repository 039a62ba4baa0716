"""What cannot be computed here is named, never made up; what can be is computed, by weights that are named, too."""

import hashlib
import pathlib

import jax
import numpy as np
import pytest
from toy_films import NumberDetector, film, frames, landmarks, poses, shorten_moments

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics import fid, identity
from talkinghead_jax.metrics.lpips import lpips
from talkinghead_jax.protocols import films, scorers, scoring
from talkinghead_jax.protocols.devices import local_devices
from talkinghead_jax.protocols.films import Row
from talkinghead_jax.protocols.judges import judges
from talkinghead_jax.protocols.recipes import DETECTOR, RECIPES
from talkinghead_jax.protocols.results import TRUTH
from third_party import assets, convert
from third_party.lpips import convert as perceptual
from third_party.lpips.network import layers
from third_party.mobilefacenet.network import MobileFaceNet

GOLDEN = pathlib.Path(__file__).parents[1] / 'third_party' / 'golden'
NEEDED = sorted({name for recipe in RECIPES.values() for name in recipe.needs} - {DETECTOR})
COUNT, SIDE = 6, 64

pytestmark = pytest.mark.usefixtures('quick_compilation')


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """No network is on this machine but what a test saves."""
    monkeypatch.setenv('TALKINGHEAD_ASSETS', str(tmp_path / 'assets'))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'assets'


@pytest.fixture
def devices():
    return local_devices(8, 1)


def hash_of(name):
    return hashlib.sha256(name.encode()).hexdigest()


def nothing_found(images):
    return np.zeros((len(images), 68, 3), np.float32), np.zeros(len(images), bool)


def names_of(found):
    return {name for family in found.families for name in family.names}


def test_without_networks_each_metric_says_which_file_it_needs(devices):
    found = judges(devices, nothing_found)
    assert found.weights == {}
    assert found.frechet is None
    assert names_of(found) | set(found.notes) == set(RECIPES)
    assert not names_of(found) & set(found.notes)
    for name, recipe in RECIPES.items():
        missing = [convert.published(need).file for need in recipe.needs if need != DETECTOR]
        if missing:
            assert found.notes[name] == f'not computed: needs {", ".join(missing)}'
        else:
            assert name in names_of(found)
    assert found.notes['lse_c@syncnet'] == 'not computed: needs syncnet_v2.model'


def test_without_a_detector_each_metric_that_needs_it_says_so(devices):
    found = judges(devices, None)
    for name, recipe in RECIPES.items():
        assert (name in found.notes) == bool(recipe.needs)
        assert (DETECTOR in found.notes.get(name, '')) == (DETECTOR in recipe.needs)
    assert found.notes['csim_gt@iresnet100'].endswith(f'{convert.published("iresnet100").file}, {DETECTOR}')
    assert found.notes['detection_failure@mediapipe'] == f'not computed: needs {DETECTOR}'


def test_of_two_networks_only_the_missing_one_is_named(devices):
    assets.save('alexnet', {'conv0': {'bias': np.zeros(3)}}, hash_of('alexnet'))
    found = judges(devices, None, ['lpips@alex'])
    assert found.notes == {'lpips@alex': f'not computed: needs {convert.published("lpips_alex").file}'}
    assert found.weights == {}
    assert found.families == ()


def test_only_families_of_which_something_is_wanted_are_there(devices):
    found = judges(devices, nothing_found, ['psnr@rgb', 'csim_ref@iresnet50'])
    assert names_of(found) == set(scorers.IMAGES)
    assert set(found.notes) == {'csim_gt@iresnet50', 'csim_ref@iresnet50'}


def test_an_unknown_metric_and_a_damaged_network_are_told_of(devices, folder):
    with pytest.raises(UserError, match=r"config\.evaluation\.metrics holds 'csim'; want some of lmd@mean20-media"):
        judges(devices, None, ['psnr@rgb', 'csim'])
    folder.mkdir()
    (folder / 'syncnet.npz').write_bytes(b'half')
    with pytest.raises(UserError, match=r'syncnet\.npz is damaged .*--network=syncnet'):
        judges(devices, nothing_found)


@pytest.fixture(scope='module')
def networks():
    """Narrow ones."""
    rng = np.random.default_rng(0)
    with np.load(GOLDEN / 'lpips_narrow.npz') as golden:
        tensors = {name.removeprefix('alexnet/'): golden[name] for name in golden.files if 'alexnet/' in name}
    widths = [len(tensors[f'features.{layer.entry}.bias']) for layer in layers('alexnet')]
    shapes = jax.eval_shape(MobileFaceNet(2).init, jax.random.key(0), np.zeros((1, 112, 112, 3), np.float32))
    return {
        'alexnet': perceptual.convert(tensors, 'alexnet', widths),
        'lpips_alex': perceptual.convert(tensors, 'lpips_alex', widths),
        'mobilefacenet': jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) * 0.3,
                                      shapes['params']),
        'inception_v3_fid': {'scale': np.float32(2)},
    }


def test_with_all_networks_everything_is_computed(devices, networks):
    for name in NEEDED:
        assets.save(name, networks.get(name, {'any': np.zeros(1)}), hash_of(name))
    found = judges(devices, nothing_found)
    assert names_of(found) == set(RECIPES)
    assert found.notes == {}
    assert found.weights == {name: hash_of(name) for name in NEEDED}
    assert isinstance(found.frechet, scorers.Frechet)


def test_numbers_are_those_of_the_networks_on_this_machine(devices, networks, monkeypatch):
    for name, params in networks.items():
        assets.save(name, params, hash_of(name))
    shorten_moments(monkeypatch.setattr)  # Inception-v3 takes long to compile, however narrow: a simpler one
    monkeypatch.setattr(fid, 'features', lambda params, images: params['scale'] * images[:, 0, 40:44, 0])
    true, made = frames(1, COUNT, SIDE), frames(2, COUNT, SIDE)
    made[:, :SIDE // 2, :SIDE // 2] += 100
    made[2] = true[0]  # the reference
    table = np.zeros((200, 68, 3), np.float32)
    table[:COUNT], table[100:100 + COUNT] = landmarks(poses(0, COUNT)), landmarks(poses(1, COUNT))
    detector = NumberDetector(table, missing=(3, 104))
    found = judges(devices, detector, ['csim_gt@mobilefacenet', 'lpips@alex', 'fid@pytorch-fid'])
    assert found.weights == {name: hash_of(name) for name in networks}
    score = scoring.score(film(1, COUNT, SIDE, reference=true[0], truth=iter(true), rows={'ours': Row(iter(made))}),
                          found)
    numbers = np.array([100, 101, 0, 103, 104, 105])
    embed = jax.jit(identity.embed, static_argnums=0)
    points = films.in_picture(np.concatenate([table[numbers], table[:COUNT]]), SIDE)
    vectors = np.asarray(embed('mobilefacenet', networks['mobilefacenet'], np.concatenate([made, true]), points))
    ours, theirs = vectors[:COUNT].astype(np.float64), vectors[COUNT:].astype(np.float64)
    values = score.values['ours']
    both = [ours[t] @ theirs[t] for t in (0, 1, 2, 5)]  # in which both faces are found
    assert values['csim_gt@mobilefacenet'] == pytest.approx(np.mean(both), abs=1e-5)
    assert values['csim_ref@mobilefacenet'] == pytest.approx(np.mean(ours[[0, 1, 2, 5]] @ theirs[0]), abs=1e-5)
    assert ours[2] @ theirs[0] == pytest.approx(1, abs=1e-5)
    assert score.values[TRUTH] == {
        'csim_ref@mobilefacenet': pytest.approx(np.mean(theirs[[0, 1, 2, 4, 5]] @ theirs[0]), abs=1e-5)}
    distances = jax.jit(lpips, static_argnums=0)('alex', networks['alexnet'], networks['lpips_alex'], made, true)
    distances = np.delete(distances, 3)  # in that true frame is no face
    assert values['lpips@alex'] == pytest.approx(float(np.mean(distances)), rel=1e-5)
    assert {row: of.n for row, of in found.frechet.moments.items()} == {'truth/0': COUNT, 'ours': COUNT}
    np.testing.assert_allclose(found.frechet.moments['ours'].total, 2.0 * made[:, 0, 40:44, 0].sum(0))
