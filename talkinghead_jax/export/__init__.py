"""Trained networks for use without this program: weights that Orbax restores, functions as StableHLO."""

import importlib.metadata
import json
import os
import pathlib
from collections.abc import Sequence

from talkinghead_jax import specs
from talkinghead_jax.errors import UserError
from talkinghead_jax.export import folders, lowering
from talkinghead_jax.stages import registry
from talkinghead_jax.train import checkpoint

PLATFORMS = ('cpu', 'cuda', 'tpu')
LICENCE = 'Apache-2.0 (the program); the weights are subject to the terms of the data that they were trained on, too'


def export(workdir: str | os.PathLike, stage_name: str, folder: str | os.PathLike,
           platforms: Sequence[str] = PLATFORMS) -> str:
    """Export the latest checkpoint of a stage; what `folder` holds stays until the new export is whole.

    Args:
      workdir: of the training run.
      stage_name: one of `registry.STAGES`.
      folder: where to (see `folders`); left as it is where it holds the same weights, lowered by the same packages.
      platforms: of 'cpu', 'cuda', 'rocm', 'tpu': where the functions shall run.

    Returns:
      A line for the user: where, what and how large.

    Raises:
      UserError: there is no checkpoint, another version of this program trained it, or `folder` cannot be written or
        holds something else.
    """
    folder = pathlib.Path(folder).absolute()
    inference = checkpoint.load_for_inference(workdir, stage_name)
    identity = {
        'layout': folders.LAYOUT, 'stage': stage_name, 'step': inference.step, 'digest': inference.digest,
        'spec_version': specs.SPEC_VERSION, 'platforms': list(platforms),
        'versions': {name: importlib.metadata.version(name) for name in (*checkpoint.PACKAGES, 'jaxlib')}}
    title = f'{stage_name}, step {inference.step}, weights {inference.digest}'
    found = folders.read_meta(folder)
    if all(found.get(name) == value for name, value in identity.items()):
        return f'{folder} is up to date: {title}'
    components = len(inference.dataset.get('pca_basis', ()))
    try:
        stage = registry.make_stage(stage_name, inference.config,
                                    {'vertices': 0, 'triangles': 0, 'components': components})
    except (AttributeError, KeyError) as error:  # of its config, in which newer versions look for more
        raise UserError(f'{stage_name} in {workdir} was trained by another version of this program ({error}); train '
                        'it anew, in another --workdir') from error
    weights, functions = lowering.lower(stage, inference, platforms)
    dataset = {name: {**about, 'meaning': specs.METADATA[name].meaning}
               for name, about in lowering.fields(inference.dataset).items()}
    meta = {**identity, 'licence': LICENCE, **lowering.describe(stage_name, weights, functions), 'dataset': dataset,
            'config': json.loads(inference.config.to_json())}
    size = folders.write(folder, {'weights': weights, 'dataset': inference.dataset}, functions, meta)
    return f'{folder}: {title}; {", ".join(functions)} for {", ".join(platforms)}; {size / 1e6:.1f} MB'
