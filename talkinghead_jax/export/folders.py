"""An export on disk, which is whole or not there. One process reads and writes it, whatever others there are.

FOLDER/README.md                  how to restore and call: lines that run as they stand
FOLDER/checkpoint                 an Orbax checkpoint of weights, dataset and meta
FOLDER/FUNCTION.exported          `jax.export.Exported`, serialized
FOLDER/FUNCTION.mlirbc            the StableHLO in it, for other runtimes
"""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp

from talkinghead_jax.errors import UserError
from talkinghead_jax.export.lowering import Function
from talkinghead_jax.train import fallback

LAYOUT = 1  # of the folder and of `meta`


def read_meta(folder: pathlib.Path) -> dict[str, Any]:
    """The `meta` record of an export; {} where there is none yet, or something of it is missing.

    Raises:
      UserError: `folder` holds something else, or cannot be read.
    """
    _, old = _siblings(folder)
    if old.exists() and not folder.exists():  # `write` was killed while it put the new one in its place
        old.rename(folder)
    if (folder / 'checkpoint' / 'meta').is_dir():
        try:
            meta = fallback.read(folder / 'checkpoint', 'meta', ocp.args.JsonRestore())
        except fallback.BrokenError:
            return {}
        files = [f'{name}.{kind}' for name in meta.get('functions', ()) for kind in ('exported', 'mlirbc')]
        return meta if all((folder / name).exists() for name in ('README.md', 'checkpoint/weights', *files)) else {}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'{folder} holds something that is no export; want an empty or a new folder')
    return {}


def write(folder: pathlib.Path, items: Mapping[str, Any], functions: Mapping[str, Function],
          meta: Mapping[str, Any]) -> int:
    """Write an export beside `folder`, then put it in its place.

    Args:
      folder: the place; the export that it holds stays until the new one is whole.
      items: what the checkpoint holds beside `meta`: name -> nested dict of NumPy arrays.
      functions: by name.
      meta: plain JSON.

    Returns:
      Its size in bytes.

    Raises:
      UserError: `folder` cannot be written.
    """
    new, old = _siblings(folder)
    try:
        for left_over in (new, old):
            shutil.rmtree(left_over, ignore_errors=True)
        new.mkdir(parents=True)
        for name, function in functions.items():
            (new / f'{name}.exported').write_bytes(function.exported.serialize())
            (new / f'{name}.mlirbc').write_bytes(function.exported.mlir_module_serialized)
        (new / 'README.md').write_text(readme(meta))
        alone = {'multiprocessing_options': fallback.alone()}
        handler = ocp.CompositeCheckpointHandler(composite_options=ocp.CompositeOptions(**alone))
        with ocp.Checkpointer(handler, **alone) as checkpointer:
            checkpointer.save(new / 'checkpoint', args=ocp.args.Composite(
                meta=ocp.args.JsonSave(meta), **{name: ocp.args.StandardSave(item) for name, item in items.items()}))
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        return sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    except OSError as error:
        raise UserError(f'cannot write {folder}: {error.strerror or error}; want a writable folder') from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _siblings(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Where the new export is made, and where the old one waits until the new one is in its place."""
    return tuple(folder.with_name(f'.{folder.name}.{suffix}') for suffix in ('new', 'old'))


def readme(meta: Mapping[str, Any]) -> str:
    """README.md of an export, Markdown."""
    functions = '\n\n'.join(_function(name, about) for name, about in meta['functions'].items())
    axes = '\n'.join(f'- `{letter}`: {meaning}' for letter, meaning in meta['axes'].items())
    versions = ', '.join(f'{name} {version}' for name, version in meta['versions'].items())
    return _README.format(**meta, described=functions, lengths=axes, packages=versions,
                          anywhere=', '.join(meta['platforms']))


def _function(name: str, about: Mapping[str, Any]) -> str:
    def rows(fields: Mapping[str, Mapping[str, Any]]) -> str:
        return '\n'.join(f'| `{field}` | ({", ".join(map(str, x["shape"]))}) | {x["dtype"]} |'
                         for field, x in fields.items())

    head = '| {} | shape | type |\n| --- | --- | --- |\n'
    return '\n\n'.join([f'### {name}', head.format('batch') + rows(about['inputs']),
                        head.format('output') + rows(about['outputs'])])


_README = """# {stage}, exported

Stage `{stage}` of talkinghead_jax at training step {step}; digest of the weights {digest}, data contract
{spec_version}.

- Made with {packages}.
- Runs on {anywhere}.
- Licence: {licence}.

`checkpoint/` is an Orbax checkpoint of three items: `weights` (the moving average where one was trained), `dataset`
(statistics and mesh topology of the training data) and `meta` (all that is said here, what the arrays of `dataset`
mean, and the config of the training run). `*.exported` are functions (weights, batch) -> outputs, serialized by
`jax.export`; `*.mlirbc` are their StableHLO alone, whose arguments `meta` lists in order.
Nothing here needs talkinghead_jax; JAX, NumPy and Orbax do:

```python
import pathlib

import jax
import orbax.checkpoint as ocp
from jax import export

folder = pathlib.Path('.').absolute()  # the folder of this file
with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
    found = checkpointer.restore(folder / 'checkpoint', args=ocp.args.Composite(
        weights=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore()))
weights, meta = jax.device_put(found['weights']), found['meta']
functions = {{name: jax.jit(export.deserialize(bytearray((folder / f'{{name}}.exported').read_bytes())).call)
             for name in meta['functions']}}
outputs = functions['predict'](weights, batch)  # batch: a dict of the arrays below
```

Without `meta`, `ocp.StandardCheckpointer().restore(folder / 'checkpoint' / 'weights')` does. JAX keeps exported
functions callable for six months of its releases at least (its documentation on `jax.export` says what it promises).

## Functions

Names as `a/b` are nested dicts. Letters are lengths that may differ from call to call; each new one compiles anew:

{lengths}

Pictures are RGB, uint8 going in and in [-1, 1] coming out. Geometry is in pixels of a 256 x 256 crop, x right, y
down, z towards the viewer; a pose is a rotation vector (rad) and a translation (crop px). Sound is int16, mono,
16 kHz, 640 samples a frame, at the level of `talkinghead_jax/loudness.py`. Masks are True where an entry counts.

{note}

{described}
"""
