"""Published PyTorch weight files, read without PyTorch: file -> {name: array}.

Both formats are read: the zip archive (PyTorch 1.6 and later) and what came before it, five pickles followed by
the raw numbers. Unpickling is restricted: a file can name tensors, their storages and ordered dicts, and whatever
else it asks for is refused before anything runs.

Source of the formats: the documentation of `torch.save`, and the files themselves seen through `pickletools`.
"""

import collections
import dataclasses
import io
import math
import os
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_DTYPES = {'Double': np.float64, 'Float': np.float32, 'Half': np.float16, 'BFloat16': ml_dtypes.bfloat16,
           'Long': np.int64, 'Int': np.int32, 'Short': np.int16, 'Char': np.int8, 'Byte': np.uint8, 'Bool': np.bool_}
_MALFORMED = (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, EOFError, LookupError, AttributeError,
              TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError, OSError)


def read(path: str | os.PathLike, keep: Callable[[str], bool] = lambda name: True) -> dict[str, np.ndarray]:
    """Read the tensors of a weight file.

    Args:
      path: a file that `torch.save` wrote: a dict of tensors, or dicts of them within each other.
      keep: which names are wanted; the numbers of the others are not read.

    Returns:
      Name -> array that owns its memory, in the file's order. Names of nested dicts are joined by dots; what is no
      tensor (an epoch, a note) is left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such file, it is damaged, or it holds objects other than tensors.
    """
    with open(path, 'rb') as file:
        try:
            tree, read_storage = _open_zip(file) if zipfile.is_zipfile(file) else _open_legacy(file)
            if not isinstance(tree, Mapping):
                raise ValueError(f'it holds a {type(tree).__name__}')
            return {name: _materialize(tensor, read_storage) for name, tensor in _flatten(tree) if keep(name)}
        except _MALFORMED as error:
            raise ValueError(f'{path} is not a whole PyTorch weight file ({error}); '
                             'want a dict of tensors as torch.save writes it') from error


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Where a tensor's numbers lie: an array in the file, `start` elements into it."""

    key: str
    dtype: np.dtype
    size: int
    start: int = 0


class _Tensor:
    """Stands for torch's tensors, parameters included, in every way in which they have been pickled."""

    def __init__(self, *described: Any) -> None:
        if described:
            self.__setstate__(described)

    def __setstate__(self, state: Any) -> None:
        """(storage, offset, shape, stride, ...), or another tensor with what made it a parameter."""
        if isinstance(state[0], _Tensor):
            self.__dict__.update(state[0].__dict__)
            return
        self.storage, self.offset, self.shape, self.stride = state[:4]


_ALLOWED = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch', 'Size'): tuple,
    ('torch._utils', '_rebuild_tensor'): _Tensor,
    ('torch._utils', '_rebuild_tensor_v2'): _Tensor,
    ('torch._utils', '_rebuild_parameter'): _Tensor,
    ('torch.nn.parameter', 'Parameter'): _Tensor,
    **{('torch', f'{name}Tensor'): _Tensor for name in _DTYPES},
    **{('torch', f'{name}Storage'): np.dtype(dtype) for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    """Builds what `_ALLOWED` names and nothing else; remembers the storages that it met."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding='utf-8')  # files written under Python 2 hold byte strings
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is no tensor')
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, size, *view = pid
        if kind != 'storage' or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError(f'it refers to a {kind}, which is no storage')
        storage = self.storages.setdefault(str(key), _Storage(str(key), dtype, _count(size)))
        if view and view[0] is not None:  # before PyTorch 0.4, a part of another storage: (its key, start, size)
            return dataclasses.replace(storage, start=_count(view[0][1]))
        return storage


def _unpickle(file: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """One pickle from where the file stands: its object, and the storages that it names."""
    start = file.tell()
    for opcode, argument, position in pickletools.genops(file):
        if opcode.name in ('PUT', 'LONG_BINPUT') and argument > position:
            raise ValueError('an object numbered beyond the length of the file')  # Python would make room for it
    file.seek(start)
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


_ReadStorage = Callable[[_Storage], np.ndarray]


def _open_zip(file: BinaryIO) -> tuple[Any, _ReadStorage]:
    archive = zipfile.ZipFile(file)
    pickles = [name for name in archive.namelist() if name.endswith('/data.pkl')]
    if len(pickles) != 1:
        raise ValueError('a zip archive without data.pkl')
    root = pickles[0].removesuffix('data.pkl')
    order = '<'
    if f'{root}byteorder' in archive.namelist() and archive.read(f'{root}byteorder') == b'big':
        order = '>'
    tree, _ = _unpickle(io.BytesIO(archive.read(pickles[0])))
    return tree, lambda storage: np.frombuffer(archive.read(f'{root}data/{storage.key}'),
                                               storage.dtype.newbyteorder(order))


def _open_legacy(file: BinaryIO) -> tuple[Any, _ReadStorage]:
    file.seek(0)
    if _unpickle(file)[0] != _LEGACY_MAGIC or _unpickle(file)[0] != _LEGACY_PROTOCOL:
        raise ValueError('it does not begin as one')
    order = '<' if _unpickle(file)[0]['little_endian'] else '>'
    tree, storages = _unpickle(file)
    places = {}
    for key in _unpickle(file)[0]:  # each storage: the number of its elements as int64, then the elements
        storage = storages[key]
        size = int(np.frombuffer(file.read(8), f'{order}i8')[0])
        if size != storage.size:
            raise ValueError(f'storage {key} has {size} elements in one place and {storage.size} in another')
        places[key] = file.tell()
        file.seek(size * storage.dtype.itemsize, os.SEEK_CUR)

    def read_storage(storage: _Storage) -> np.ndarray:
        file.seek(places[storage.key])
        content = file.read(storage.size * storage.dtype.itemsize)
        return np.frombuffer(content, storage.dtype.newbyteorder(order))

    return tree, read_storage


def _flatten(tree: Mapping[Any, Any], prefix: str = '') -> Iterator[tuple[str, _Tensor]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f'{prefix}{key}.')
        elif isinstance(value, _Tensor):
            yield f'{prefix}{key}', value


def _materialize(tensor: _Tensor, read_storage: _ReadStorage) -> np.ndarray:
    numbers = read_storage(tensor.storage)
    if numbers.size != tensor.storage.size:
        raise ValueError(f'it ends early: {numbers.size} of {tensor.storage.size} elements of a storage')
    shape, stride = [_count(n) for n in tensor.shape], [_count(n) for n in tensor.stride]
    first = tensor.storage.start + _count(tensor.offset)
    last = first + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if math.prod(shape) and last >= numbers.size:  # as_strided does not look where it reads
        raise ValueError('a tensor reaches beyond its storage')
    view = np.lib.stride_tricks.as_strided(numbers[first:], shape, [step * numbers.itemsize for step in stride])
    return np.array(view, tensor.storage.dtype)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f'a size of {value!r}')
    return value
