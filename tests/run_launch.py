"""Runs launch.py again and again, each time in a child of a process that has imported everything: that takes long.

A line of stdin is a JSON list of arguments, environment, and a path: stdout goes to PATH.out, stderr to PATH.err.
When the run has ended, its exit code is a line of stdout.
"""

import json
import os
import pathlib
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import launch


def main() -> None:
    import tensorflow  # noqa: F401

    from input_pipeline import detection, loader, prepare  # noqa: F401
    from talkinghead_jax import evaluation, identity_study  # noqa: F401
    from talkinghead_jax.stages import registry  # noqa: F401
    from talkinghead_jax.train import loop  # noqa: F401
    for line in sys.stdin:
        arguments, environment, path = json.loads(line)
        if (child := os.fork()) == 0:
            _run(arguments, environment, path)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(arguments: list[str], environment: dict[str, str], path: str) -> None:
    code = 1
    with open(f'{path}.out', 'w') as out, open(f'{path}.err', 'w') as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            os.environ.clear()
            os.environ.update(environment)
            sys.argv = ['launch.py', *arguments]  # read by ml_collections, too
            code = launch.main(sys.argv)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


if __name__ == '__main__':
    main()
