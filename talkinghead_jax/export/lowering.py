"""A stage's functions as StableHLO, by `jax.export`: `predict`, and the `parts` that synthesis calls.

Weights are an argument: files stay small, and a program serves any weights of its shapes. A function takes those
fields of a batch only that its outputs depend on. Lengths that the config does not fix are symbolic.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from ml_collections import ConfigDict

from talkinghead_jax import specs
from talkinghead_jax.models import head_motion
from talkinghead_jax.stages.base import Arrays, PerPlayer, Stage
from talkinghead_jax.train import checkpoint

Tree = dict[str, Any]
Program = Callable[[Tree, Tree], Arrays]  # (weights, batch) -> outputs
Lengths = Callable[..., tuple[Any, ...]]  # letters of `AXES`, then conditions -> a length each
Predict = Callable[[PerPlayer, PerPlayer, Arrays, Arrays], Arrays]  # as `Stage.predict`

AXES = {
    'b': 'examples, any number',
    'c': f'frames of the reference clip, any number, but at least {head_motion.RADIUS + 1} for `read`',
    't': 'frames of speech, any number',
    'v': 'vertices of the mesh, any number',
}
ARGUMENTS = {
    'weights': 'the item of that name in the checkpoint, a nested dict of params, model_state and frozen (statistics '
               'and mesh topology of the dataset), as far as a stage has them',
    'batch': 'a dict of the arrays under `inputs`',
}
_RADIUS = head_motion.RADIUS
NOTES = {
    'expression': f"""
Row i of `audio` sounds while frame i - {specs.WINDOW_RADIUS} is shown. `reference_frontal` is the frontal face to
start from; `identity` is by what the frontal face with a closed mouth differs from the template of
`talkinghead_jax/geometry/face.py`.
""",
    'head_motion': f"""
`audio` directly follows the reference clip. For speech of any length in constant memory, `read` hears its first
{_RADIUS} frames, once a video, and `follow` any stretch of it with {_RADIUS} frames on either side (before the first
frame: those of the reference clip); `person` is what `read` gave, `first` the number of the stretch's first frame.
Together they say what `predict` says of the whole.
""",
    'unprojection': """
A position map holds a point for each pixel; those where `uv_mask` of `dataset` is 1, row by row, are the vertices
that `triangles` of `dataset` numbers.
""",
    'generator': """
Examples are computed one after another, for the length of the rasterizer's work list must be known beforehand. A mesh
with fewer triangles than `weights/frozen/triangles` has rows is filled up with rows of zeros, which draw nothing.
""",
}


@dataclasses.dataclass(frozen=True)
class Function:
    """A function that was lowered.

    Attributes:
      exported: takes (weights, batch).
      batch: the fields that it reads, as abstract arrays.
    """

    exported: export.Exported
    batch: Tree


def lower(stage: Stage, inference: checkpoint.Inference, platforms: Sequence[str],
          ) -> tuple[Tree, dict[str, Function]]:
    """The weights that a stage's functions read, and the functions by name.

    Args:
      stage: one of the four; for how many vertices it was made does not matter.
      inference: its checkpoint, of which the functions take shapes and types only.
      platforms: to lower for, together.

    Returns:
      weights: {'params': {player: ...}, 'model_state': {player: ...}, 'frozen': {name: array}}, NumPy arrays, without
        players and arrays that no function reads (a discriminator), and without empty dicts, which Orbax drops.
    """
    everything = {'params': inference.params, 'model_state': inference.model_state, 'frozen': inference.dataset}
    abstract = _abstract(everything)
    example, batches = (_BATCHES[stage.name](inference.config, stage, abstract, lengths)
                        for lengths in (concrete, symbolic))
    any_batch = _one_by_one if stage.name == 'generator' else lambda function: function
    calls = {name: any_batch(function) for name, function in {'predict': stage.predict, **stage.parts}.items()}
    read = {name: _read(_program(call, abstract, example[name]), abstract, example[name])
            for name, call in calls.items()}
    used = set().union(*(weights for weights, _ in read.values()))
    weights = {group: {name: value for name, value in content.items() if (group, name) in used}
               for group, content in everything.items()}
    weights = jax.tree.map(np.asarray, {group: content for group, content in weights.items() if content})
    functions = {}
    for name, call in calls.items():
        program = jax.jit(_program(call, abstract, batches[name]))
        batch = {field: value for field, value in batches[name].items() if field in read[name][1]}
        exported = export.export(program, platforms=tuple(platforms))(_abstract(weights), batch)
        functions[name] = Function(exported, batch)
    return weights, functions


def describe(stage_name: str, weights: Tree, functions: Mapping[str, Function]) -> Tree:
    """What `meta` says of weights and functions, as plain JSON; a symbolic length is a string."""
    about = {name: {
        'inputs': fields(function.batch), 'outputs': fields(_outputs(function.exported)),
        'stablehlo_arguments': _stablehlo_arguments(weights, function),
        'calling_convention_version': function.exported.calling_convention_version,
    } for name, function in functions.items()}
    lengths = str([x['shape'] for each in about.values() for x in each['inputs'].values()])
    axes = {letter: meaning for letter, meaning in AXES.items() if letter in lengths}
    return {'note': NOTES[stage_name].strip(), 'arguments': ARGUMENTS, 'axes': axes, 'weights': fields(weights),
            'functions': about}


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def _outputs(exported: export.Exported) -> Tree:
    return jax.tree.unflatten(exported.out_tree, exported.out_avals)


def fields(tree: Tree) -> dict[str, Tree]:
    """Shape and type of each array of nested dicts: 'a/b' -> {'shape': list, 'dtype': str}."""
    return {_name(path): {'shape': [n if isinstance(n, int) else str(n) for n in x.shape], 'dtype': str(x.dtype)}
            for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple[Any, ...]) -> str:
    return '/'.join(str(key.key) for key in path)


def _stablehlo_arguments(weights: Tree, function: Function) -> list[str]:
    """The arguments of the bare StableHLO in their order."""
    both = {'weights': weights, 'batch': function.batch}
    names = [f'{group}/{_name(path)}' for group in ('weights', 'batch')
             for path, _ in jax.tree_util.tree_leaves_with_path(both[group])]
    platform = ['platform: () int32, number in `platforms`'] if len(function.exported.platforms) > 1 else []
    return platform + [names[i] for i in function.exported.module_kept_var_idx]


def _program(function: Predict, everything: Tree, fields_of_batch: Tree) -> Program:
    """A stage's function of one tree of weights. What is missing there and in the batch are zeros: a stage may look
    up what its outputs do not depend on.
    """
    def filled(given: Tree, whole: Tree) -> Tree:
        zeros = {name: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), value)
                 for name, value in whole.items() if name not in given}
        return {**given, **zeros}

    def program(weights: Tree, batch: Tree) -> Arrays:
        rest = (filled(weights.get(group, {}), everything[group]) for group in ('model_state', 'frozen'))
        return function(weights['params'], *rest, filled(batch, fields_of_batch))

    return program


def _one_by_one(function: Predict) -> Predict:
    """`function` in a loop over the examples: a batch of any size where it must know its own."""
    def looped(params: PerPlayer, model_state: PerPlayer, frozen: Arrays, batch: Arrays) -> Arrays:
        def one(example: Arrays) -> Arrays:
            outputs = function(params, model_state, frozen, jax.tree.map(lambda x: x[None], example))
            return jax.tree.map(lambda x: x[0], outputs)

        return jax.lax.map(one, batch)

    return looped


def _read(program: Program, weights: Tree, batch: Tree) -> tuple[set[tuple[str, ...]], set[str]]:
    """What the outputs depend on: (group, player or name) of the weights, and fields of the batch.

    `jax.export` leaves the rest out of a program without symbolic lengths, and says so.
    """
    kept = export.export(jax.jit(program), platforms=('cpu',))(weights, batch).module_kept_var_idx
    of_weights, of_batch = ([tuple(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
                            for tree in (weights, batch))
    count = len(of_weights)
    return ({of_weights[i][:2] for i in kept if i < count}, {of_batch[i - count][0] for i in kept if i >= count})


def symbolic(letters: str, *conditions: str) -> tuple[Any, ...]:
    """Lengths that may be anything; each call opens a scope of its own, in which its conditions hold."""
    return export.symbolic_shape(letters, constraints=conditions)


def concrete(letters: str, *conditions: str) -> tuple[int, ...]:
    """Some lengths of those `AXES` that meet the conditions."""
    return tuple({'b': 1, 'c': specs.CONTEXT, 't': 1, 'v': 3}[letter] for letter in letters.split(', '))


def _expression(config: ConfigDict, stage: Stage, weights: Tree, lengths: Lengths) -> Tree:
    return {'predict': specs.expression_batch(*lengths('b, t'))}


def _unprojection(config: ConfigDict, stage: Stage, weights: Tree, lengths: Lengths) -> Tree:
    return {'predict': specs.unprojection_batch(*lengths('b'), config.image_size)}


def _generator(config: ConfigDict, stage: Stage, weights: Tree, lengths: Lengths) -> Tree:
    batch, vertices = lengths('b, v')
    references = config.generator.data.references
    return {'predict': specs.generator_batch(batch, references, config.image_size, vertices)}


def _head_motion(config: ConfigDict, stage: Stage, weights: Tree, lengths: Lengths) -> Tree:
    """`predict`; `read`, which is called once a video, and `follow`, for any stretch of the speech."""
    radius = head_motion.RADIUS

    def some(prefixes: tuple[str, ...], batch: Any, context: Any, frames: Any) -> Tree:
        spec = specs.head_motion_batch(batch, context, frames)
        return {name: spec[name] for name in spec if name.startswith(prefixes)}

    b, c = lengths('b, c', f'c >= {radius + 1}')
    read = some(('context_', 'audio', 'frame_mask'), b, c, radius)
    person = jax.eval_shape(stage.parts['read'], weights['params'], weights['model_state'], weights['frozen'], read)
    b, t = lengths('b, t')
    follow = some(('audio', 'frame_mask'), b, 1, t + 2 * radius)
    follow['first'] = jax.ShapeDtypeStruct((b,), np.int32)
    follow['person'] = jax.tree.map(lambda x: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), person)
    return {'predict': specs.head_motion_batch(*lengths('b, c, t')), 'read': read, 'follow': follow}


_BATCHES = {'expression': _expression, 'head_motion': _head_motion, 'unprojection': _unprojection,
            'generator': _generator}
