"""Use exports as their README.md says, where this project cannot be imported; run by export_test.py.

    python -I export_child.py FOLDER

FOLDER/STAGE holds an export, FOLDER/FUNCTION_OF_STAGE.*.npz batches of the function; writes FOLDER/outputs/*.npz.
"""

import os
import pathlib
import re
import sys

PROJECT = {'talkinghead_jax', 'input_pipeline', 'third_party', 'configs', 'launch'}


class Refusal:
    """Refuses to import the project."""

    def find_spec(self, name: str, *_: object) -> None:
        """As an absent package does."""
        if name.split('.')[0] in PROJECT:
            raise ModuleNotFoundError(name)


def nested(flat: dict) -> dict:
    """{'a/b': x} -> {'a': {'b': x}}."""
    tree = {}
    for name, value in flat.items():
        *folders, last = name.split('/')
        inner = tree
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = value
    return tree


def main(folder: pathlib.Path) -> None:
    """Run every batch."""
    import jax
    import numpy as np
    jax.config.update('jax_disable_most_optimizations', True)  # as export_test.py does
    (folder / 'outputs').mkdir()
    for stage in sorted({path.name.split('.')[0] for path in folder.glob('*.npz')}):
        os.chdir(folder / stage)
        block, = re.findall(r'```python\n(.*?)```', pathlib.Path('README.md').read_text(), re.DOTALL)
        names = {'batch': nested(np.load(folder / f'{stage}.predict.0.npz'))}
        exec(block, names)
        for path in folder.glob(f'{stage}.*.npz'):
            _, function, number, _ = path.name.split('.')
            outputs = names['outputs']
            if (function, number) != ('predict', '0'):
                outputs = names['functions'][function](names['weights'], nested(np.load(path)))
            np.savez(folder / 'outputs' / path.name, **outputs)
    assert not PROJECT & {name.split('.')[0] for name in sys.modules}


if __name__ == '__main__':
    sys.meta_path.insert(0, Refusal())
    main(pathlib.Path(sys.argv[1]))
