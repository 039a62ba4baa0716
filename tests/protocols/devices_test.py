"""However many frames and devices there are, each frame's result is that of the frame alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from talkinghead_jax.protocols.devices import local_devices
from talkinghead_jax.stages.base import Stage
from talkinghead_jax.synthesis.network import Network

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(12, 5)).astype(np.float32)

pytestmark = pytest.mark.usefixtures('quick_compilation')


def look(params, images, offsets):
    flat = images.reshape(len(images), -1).astype(jnp.float32) / 255
    return {'dense': jnp.tanh(flat @ params + offsets), 'sum': images.astype(jnp.int32).sum((1, 2, 3))}


def batch(count):
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, 2, 2, 3), np.uint8), rng.normal(size=(count, 5)).astype(np.float32)


@pytest.fixture(scope='module')
def spread():
    traced = []

    def counted(*arguments):
        traced.append(1)
        return look(*arguments)

    found = {number: local_devices(7, number).spread(counted, WEIGHTS) for number in (1, 8)}
    return found, traced


@pytest.mark.parametrize('count', [1, 7, 8, 9])
def test_any_number_of_frames_is_that_many_results_on_one_device_and_on_eight(spread, count):
    functions, traced = spread
    arrays = batch(count)
    wanted = look(WEIGHTS, *arrays)
    one, eight = (functions[number](*arrays) for number in (1, 8))
    for found in (one, eight):
        assert all(isinstance(of, np.ndarray) and len(of) == count for of in found.values())
        np.testing.assert_allclose(found['dense'], wanted['dense'], atol=1e-6)
        np.testing.assert_array_equal(found['sum'], wanted['sum'])
    np.testing.assert_allclose(eight['dense'], one['dense'], rtol=0, atol=1e-6)
    assert len(traced) == 2  # once for each number of devices, whatever number of frames


def test_batches_are_split_evenly():
    devices = local_devices(9)
    assert devices.batch_size == 16
    placed = devices.place({'a': np.arange(32).reshape(16, 2)})['a']
    assert [shard.data.shape for shard in placed.addressable_shards] == [(2, 2)] * 8
    assert len({shard.device for shard in placed.addressable_shards}) == 8
    assert devices.place(placed) is placed or devices.place(placed).sharding == placed.sharding
    assert local_devices(9, 1).batch_size == 9


def test_a_network_on_eight_devices_is_that_on_one():
    def predict(params, model_state, frozen, batch):
        hidden = jnp.tanh(batch['x'] @ params['net'] + frozen['shift'][None])
        return {'y': hidden * model_state['net'][None]}

    def baselines(batch, frozen):
        return {'same': {'y': batch['x'] + frozen['shift'].sum()}}

    spec = {'x': jax.ShapeDtypeStruct((8, 12), 'float32')}
    network = Network(Stage('toy', (), spec, None, None, predict, None, baselines), {'net': WEIGHTS},
                      {'net': np.full(5, 2, np.float32)}, {'shift': RNG.normal(size=5).astype(np.float32)})
    x = RNG.normal(size=(8, 12)).astype(np.float32)
    spread = local_devices(8).network(network)
    assert spread.axis('x', 1) == 12
    found = spread({'x': x})['y']
    assert len(found.sharding.device_set) == 8
    np.testing.assert_allclose(found, network({'x': x})['y'], rtol=0, atol=1e-6)
    np.testing.assert_allclose(spread.baselines({'x': x})['same']['y'], network.baselines({'x': x})['same']['y'],
                               rtol=0, atol=1e-6)
