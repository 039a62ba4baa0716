"""Theta's parameters and tensor shapes, module by module, beside the first implementation's.

    python -m benchmarks.parameters [--config=configs/voxceleb2.py]    # every array of the generator, and the totals
"""

import argparse
import functools
import importlib.util
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from clu import parameter_overview
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.stages import registry
from talkinghead_jax.stages.base import Stage

AXES = {'vertices': 43_867, 'triangles': 87_028, 'components': 20}  # of a dense mesh; no parameter depends on them


class Group(NamedTuple):
    """Modules that are counted together: prefixes of their paths, and parameters in the first implementation."""

    name: str
    prefixes: tuple[str, ...]
    original: int
    note: str


# Counts of the original at K = 8: those of its released code with the options of its training scripts.
GROUPS = (
    Group('activation encoder E_A', ('embedding/activation',), 186_240, 'one for query and keys; the original two'),
    Group('image and landmark encoders E_I, E_L',
          tuple(f'embedding/{name}' for name in ('image_', 'landmark_', 'exchange')), 16_011_200,
          'the gate is shared by all references, so K is free; the original stacks K = 8 of them'),
    Group('fusion encoders E_FI, E_FL', ('embedding/fusion_image', 'embedding/fusion_landmark'), 12_576_576,
          'N = 6 convolutions a side, as in the paper; the original 5'),
    Group('weight generator E_FP', ('embedding/fusion_mlp',), 3_846_104, 'all 6 levels; the original 4'),
    Group('landmark embedding', ('landmark_embedding',), 11_006_720, 'generated 1 x 1 kernels on the way up'),
    Group('decoder', ('decoder',), 35_987_043, 'three SPADEs and a transposed convolution in every layer; '
          'the original repeats pixels, and composes in 2 of 6 layers'),
    Group('flow networks', ('matched_flow', 'render_flow'), 15_729_926, 'the same but for the upsampling'),
    Group('embeddings of the warped images', ('matched_embedding', 'render_embedding'), 12_576_960,
          'used at all 6 levels; the original uses 2'),
)


def flatten(params: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """'module/.../array' -> abstract array."""
    return {'/'.join(key.key for key in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def totals(params: Any) -> dict[str, int]:
    """Parameters of each group of the generator's `params`; ValueError where one is in no group or in two."""
    found = dict.fromkeys((group.name for group in GROUPS), 0)
    for path, leaf in flatten(params).items():
        owners = [group.name for group in GROUPS if path.startswith(group.prefixes)]
        if len(owners) != 1:
            raise ValueError(f'{path} belongs to {owners or "no group"}, want one')
        found[owners[0]] += math.prod(leaf.shape)
    return found


def abstract_params(config: ConfigDict) -> dict[str, Any]:
    """Shapes of the parameters of 'gen' and 'disc'."""
    return jax.eval_shape(registry.make_stage('generator', config, AXES).init, jax.random.key(0))[0]


def output_shapes(stage: Stage, depth: int = 2) -> dict[str, list[tuple[int, ...]]]:
    """What each module down to `depth` returns in `stage.predict`: path -> shapes, in the order of the calls."""
    found = {}

    def record(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*arguments, **keywords)
        path = context.module.path
        if context.method_name == '__call__' and 0 < len(path) <= depth:
            found['/'.join(path)] = [tuple(leaf.shape) for leaf in jax.tree.leaves(result)]
        return result

    frozen = {name: specs.METADATA[name].array(F=AXES['triangles']) for name in ('triangles', 'pose_deviation')}
    with nn.intercept_methods(record):
        jax.eval_shape(lambda key, frozen, batch: stage.predict(*stage.init(key), frozen, batch), jax.random.key(0),
                       frozen, dict(stage.batch_spec))
    return found


def table(params: Any) -> str:
    """Markdown: the groups of the generator's `params`, ours beside the original's."""
    lines = ['| module | ours | original, K = 8 | what differs |', '|---|---|---|---|']
    own = totals(params)
    lines += [f'| {group.name} | {own[group.name]:,} | {group.original:,} | {group.note} |' for group in GROUPS]
    lines.append(f'| **generator** | **{sum(own.values()):,}** | **{sum(g.original for g in GROUPS):,}** | |')
    return '\n'.join(lines)


def shapes_table(stage: Stage) -> str:
    """Markdown: what the modules return."""
    rows = (f'| `{path}` | {", ".join("x".join(map(str, shape)) for shape in shapes)} |'
            for path, shapes in output_shapes(stage).items())
    return '\n'.join(['| module | returns |', '|---|---|', *rows])


def load_config(path: str) -> ConfigDict:
    """What `get_config` of the Python file at `path` returns."""
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config()


def main() -> None:
    """Print every array, then the shapes, then the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default='configs/voxceleb2.py')
    config = load_config(parser.parse_args().config)
    config.generator.batch_size = 1
    stage = registry.make_stage('generator', config, AXES)
    params = abstract_params(config)
    overview = functools.partial(parameter_overview.get_parameter_overview, include_stats=False, max_lines=None)
    print(overview(params['gen']), overview(params['disc']), shapes_table(stage), table(params['gen']), sep='\n\n')


if __name__ == '__main__':
    main()
