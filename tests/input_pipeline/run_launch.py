"""Run launch.py several times, each in a child of a process that has imported everything: imports take long.

Reads from stdin a JSON list of [arguments, output file]; the first line of an output file is the exit code.
"""

import json
import os
import pathlib
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import launch


def main() -> None:
    import tensorflow  # noqa: F401

    from input_pipeline import detection, loader, prepare  # noqa: F401
    from talkinghead_jax import evaluation, identity_study  # noqa: F401
    from talkinghead_jax.stages import registry  # noqa: F401
    from talkinghead_jax.train import loop  # noqa: F401
    for arguments, output in json.load(sys.stdin):
        if (child := os.fork()) == 0:
            _run(arguments, output)
        os.waitpid(child, 0)


def _run(arguments: list[str], output: str) -> None:
    code = 1
    with open(output, 'w') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            sys.argv = ['launch.py', *arguments]  # read by ml_collections, too
            code = launch.main(sys.argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            pathlib.Path(f'{output}.code').write_text(str(code))
            os._exit(code)


if __name__ == '__main__':
    main()
