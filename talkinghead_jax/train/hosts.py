"""Several processes that train together: how they find each other, wait for each other, and agree.

With one process nothing here does anything. Waiting goes through JAX's coordination service and not through a
collective of the devices, which would give up long before another process has, say, prepared its data.
"""

import itertools
import os
import re
import sys
import threading

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from talkinghead_jax.errors import UserError

_LONGEST_WAIT = 7 * 24 * 3600  # s
_waits = itertools.count()


def start(coordinator_address: str = '', num_processes: int | None = None, process_id: int | None = None,
          timeout: float = 300.0) -> None:
    """Join the other processes; to be called before anything asks JAX for its devices.

    Without arguments, the cluster's environment tells what they would: Cloud TPU, SLURM, Open MPI, Kubernetes.
    From here on SIGTERM ends no process of several any more; see `preemption`.

    Args:
      coordinator_address: HOST:PORT of process 0, where a port is free.
      num_processes: how many processes there are.
      process_id: which of them this is, from 0.
      timeout: s, for how long it waits for the others.

    Raises:
      UserError: the arguments fit neither each other nor a cluster, or a process does not come.
    """
    explicit = {'--coordinator_address': coordinator_address, '--num_processes': num_processes,
                '--process_id': process_id}
    if any(value not in ('', None) for value in explicit.values()):
        _check(explicit)
        where = f'the {num_processes} processes at --coordinator_address={coordinator_address}'
    else:
        where = 'the processes of this cluster'
    failures: list[Exception] = []

    def join() -> None:
        try:  # where JAX itself runs out of time, it aborts the program
            jax.distributed.initialize(coordinator_address or None, num_processes, process_id,
                                       initialization_timeout=int(timeout) + 3600)
        except Exception as error:
            failures.append(error)

    joining = threading.Thread(target=join, name='join the other processes', daemon=True)
    joining.start()
    joining.join(timeout)
    if joining.is_alive():
        raise UserError(f'{where} did not come together within {timeout:.0f} s; want all of them started, and '
                        'process 0 reachable from each')
    if failures:
        _explain(failures[0], where)


def _check(explicit: dict[str, str | int | None]) -> None:
    """Raise UserError unless address, number and id are all there and possible."""
    missing = [flag for flag, value in explicit.items() if value in ('', None)]
    if missing:
        raise UserError(f'{" and ".join(missing)} missing beside '
                        + ' '.join(f'{flag}={explicit[flag]}' for flag in explicit if flag not in missing)
                        + '; want all three of them, or none and a cluster that JAX knows')
    address, processes, process = explicit.values()
    if not re.fullmatch(r'.+:\d{1,5}', address):
        raise UserError(f'--coordinator_address={address}; want HOST:PORT of process 0')
    if processes < 1 or not 0 <= process < processes:
        raise UserError(f'--process_id={process} --num_processes={processes}; want ids 0 .. number - 1')


def _explain(error: Exception, where: str) -> None:
    """Raise `error` as a sentence, unless it is a mistake of the program."""
    if 'must be called before' in str(error) or 'only be called once' in str(error):
        raise error
    if 'defined' in str(error):  # of address, number and id: what is neither given nor found
        raise UserError('--distributed: JAX finds no cluster here (Cloud TPU, SLURM, Open MPI, Kubernetes); want '
                        '--coordinator_address=HOST:PORT --num_processes=N --process_id=I') from error
    raise UserError(f'{where} cannot be joined: {str(error).splitlines()[0]}') from error


def check_alone(what: str) -> None:
    """Raise UserError where there are other processes, for `what` is the work of one."""
    if jax.process_count() > 1:
        raise UserError(f'{what} is work for one process, and there are {jax.process_count()}; run it without '
                        '--distributed and --coordinator_address')


def leave(code: int) -> int:
    """End this process, which has failed, at once where others would wait for it; elsewhere return `code`.

    At the end of Python, JAX waits minutes for processes that may well wait for this one, and then aborts. Without
    it the others are told that it has gone.
    """
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def is_main() -> bool:
    """Whether this is process 0, which alone writes what is written once."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Return once every process is here, be it after hours (a week at most).

    Args:
      name: of the place in the program; all processes come to the same places in the same order.
    """
    everyone = set(range(jax.process_count()))  # Orbax asks the devices unless it is told whom to wait for
    ocp.multihost.sync_global_processes(f'{name}.{next(_waits)}', timeout=_LONGEST_WAIT, processes=everyone)


def all_agree(ok: bool) -> bool:
    """Whether `ok` is true in every process; all must ask. It is no place to wait for hours."""
    if jax.process_count() == 1:
        return bool(ok)
    return bool(np.all(multihost_utils.process_allgather(np.asarray(ok))))


def largest(number: float) -> float:
    """The largest of what the processes call with, as float32; all must ask."""
    if jax.process_count() == 1:
        return number
    with jax.transfer_guard('allow'):
        return float(np.max(multihost_utils.process_allgather(np.asarray(number, np.float32))))


def from_main(number: int) -> int:
    """What process 0 calls with, in every process; fits int32."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.asarray(number, np.int32)))
