"""Two stages small enough to train in a test: a regression, and a GAN with statistics and a moving average."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from talkinghead_jax.nn import randomness
from talkinghead_jax.stages.base import Player, Stage

BATCH = 16
FEATURES = 8
SPEC = {'x': jax.ShapeDtypeStruct((BATCH, FEATURES), 'float32'), 'mask': jax.ShapeDtypeStruct((BATCH,), 'bool')}
FROZEN = {'pca_mean': np.arange(68 * 3, dtype=np.float32).reshape(68, 3) / 68,
          'network': {'layer': {'bias': np.full((FEATURES,), 0.5, np.float32)}}}  # published: not the dataset's


def config(**stage) -> ConfigDict:
    return ConfigDict({
        'seed': 3, 'dtype': 'float32', 'image_size': 64, 'stages': ('toy',),
        'log': {'every_steps': 5, 'checkpoint_every_steps': 10, 'keep': 3},
        'parallel': {'mode': 'sharded', 'fsdp': 1},
        'toy': {'steps': 20, 'batch_size': BATCH, 'model': {'width': 8}, 'optim': {'learning_rate': 0.05}, **stage},
    })


def batches(first_step: int, pause: float = 0.0):
    """Batches that are a function of the step, as the loader's are."""
    step = first_step
    while True:
        x = np.random.default_rng(step).normal(size=(BATCH, FEATURES)).astype(np.float32)
        yield {'x': x, 'mask': np.ones((BATCH,), bool)}
        time.sleep(pause)
        step += 1


def regression(tx: optax.GradientTransformation | None = None, nan_at: int = -1) -> Stage:
    """Learn y = sum of x from noisy x; the loss is NaN where the gradient's step is `nan_at`."""
    def init(key):
        weights = {'kernel': 0.1 * jax.random.normal(key, (FEATURES, 1)), 'bias': jnp.zeros((1,))}
        return {'net': weights}, {'net': {'count': jnp.zeros((), jnp.int32)}}

    def losses(params, model_state, frozen, batch, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,)))(randomness.stream(keys, 'noise'))
        y = (batch['x'] + 0.1 * noise) @ params['net']['kernel'] + params['net']['bias'][None]
        wanted = jnp.sum(batch['x'] * frozen['network']['layer']['bias'][None], axis=-1, keepdims=True)
        l2 = jnp.mean(jnp.square(y - wanted))
        count = model_state['net']['count']
        l2 = jnp.where(count == nan_at, jnp.nan, l2)
        return {'net': l2}, ({'net': {'count': count + 1}}, {'l2': l2})

    return _stage((Player('net', tx or optax.adam(0.05)),), init, losses)


def gan(tx: optax.GradientTransformation | None = None) -> Stage:
    """A generator that shifts noise, a linear discriminator with a running mean, both losses from one forward."""
    def init(key):
        keys = jax.random.split(key)
        return ({'gen': {'kernel': jax.random.normal(keys[0], (FEATURES, FEATURES)) / 3},
                 'disc': {'kernel': jax.random.normal(keys[1], (FEATURES,))}},
                {'gen': {}, 'disc': {'mean': jnp.zeros((FEATURES,))}})

    def losses(params, model_state, frozen, batch, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,)))(randomness.stream(keys, 'latent'))
        fake = jnp.tanh(noise @ params['gen']['kernel'])
        mean = 0.9 * model_state['disc']['mean'] + 0.1 * jnp.mean(batch['x'], axis=0)

        def score(x):
            return (x - model_state['disc']['mean'][None]) @ params['disc']['kernel']
        centre = frozen['network']['layer']['bias'][None]
        gen = jnp.mean(jnp.square(score(fake) - 1)) + jnp.mean(jnp.square(fake - centre))
        disc = jnp.mean(jnp.square(score(batch['x']) - 1)) + jnp.mean(jnp.square(score(fake)))
        return {'gen': gen, 'disc': disc}, ({'gen': {}, 'disc': {'mean': mean}}, {'fake_mean': jnp.mean(fake)})

    tx = tx or optax.adam(0.02)
    return _stage((Player('gen', tx, ema_decay=0.99), Player('disc', tx)), init, losses)


def _stage(players, init, losses) -> Stage:
    unused = None
    return Stage(name='toy', players=players, batch_spec=SPEC, init=init, losses=losses, predict=unused,
                 metrics=unused, baselines=unused, frozen_fields=tuple(FROZEN))
