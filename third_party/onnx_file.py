"""Published ONNX files, read without the onnx package: file -> nodes and tensors, and which node follows which.

An ONNX file is one protocol buffer. Only what a converter needs is taken from it, nothing in it is run, and weights
that lie in a second file are refused.

Source of the formats: `onnx.proto` (numbers and types of fields) and the encoding page of Protocol Buffers.
"""

import collections
import dataclasses
import math
import os
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # the wire types
# Element type -> dtype, the field that holds the numbers where they are not raw, and as what they lie in it.
_ELEMENTS = {
    1: (np.float32, 4, '<f4'), 2: (np.uint8, 5, None), 3: (np.int8, 5, None), 4: (np.uint16, 5, None),
    5: (np.int16, 5, None), 6: (np.int32, 5, None), 7: (np.int64, 7, None), 9: (np.bool_, 5, None),
    10: (np.float16, 5, None), 11: (np.float64, 10, '<f8'), 12: (np.uint32, 11, None), 13: (np.uint64, 11, None),
    16: (ml_dtypes.bfloat16, 5, None),
}
_RAW, _NAME, _EXTERNAL, _LOCATION = 9, 8, 13, 14  # fields of a tensor
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error, MemoryError)


@dataclasses.dataclass(frozen=True)
class Node:
    """One operation; `attributes` holds numbers, texts, lists of integers and arrays, what else there is left out."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Graph:
    """What a file computes.

    Attributes:
      nodes: in the file's order, which is one of computation; constants are not among them.
      tensors: name -> array that owns its memory: initializers, constants, and their aliases.
      inputs: names of what a caller gives.
      outputs: names of what a caller gets.
    """

    nodes: tuple[Node, ...]
    tensors: Mapping[str, np.ndarray]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def follow(self, value: str, op: str) -> Node:
        """The one node of kind `op` that takes `value`; ValueError where there is none, or more than one."""
        found = self.takes(value, op)
        if len(found) != 1:
            raise ValueError(f'{len(found)} nodes {op} take {value}; want 1')
        return found[0]

    def takes(self, value: str, op: str) -> list[Node]:
        """The nodes of kind `op` that take `value`."""
        return [node for node in self.nodes if node.op == op and value in node.inputs]

    def constants(self, node: Node) -> list[np.ndarray]:
        """Those inputs of `node` that are tensors of the file, in order."""
        return [self.tensors[name] for name in node.inputs if name in self.tensors]


def is_onnx(path: str | os.PathLike) -> bool:
    """Whether the file says by its name that it is one: the format itself has no mark."""
    return os.fspath(path).lower().endswith('.onnx')


def read(path: str | os.PathLike) -> Graph:
    """Read a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no ONNX file, it is damaged, or its weights lie in another file.
    """
    with open(path, 'rb') as file:
        content = memoryview(file.read())
    try:
        graphs = _message(content)[7]
        if len(graphs) != 1:
            raise ValueError(f'{len(graphs)} graphs')
        return _graph(graphs[0])
    except _MALFORMED as error:
        raise ValueError(f'{path} is not a whole ONNX file ({error}); want one with its weights in it') from error


def _graph(view: memoryview) -> Graph:
    fields = _message(view)
    tensors = dict(map(_tensor, fields[5]))
    nodes = []
    for node in map(_node, fields[1]):
        if node.op == 'Constant' and isinstance(node.attributes.get('value'), np.ndarray):
            tensors[node.outputs[0]] = node.attributes['value']
        elif node.op == 'Identity' and node.inputs[0] in tensors:  # PyTorch stores equal tensors once
            tensors[node.outputs[0]] = tensors[node.inputs[0]]
        else:
            nodes.append(node)
    inputs, outputs = ([_text(_message(value)[1][-1]) for value in fields[number]] for number in (11, 12))
    return Graph(tuple(nodes), tensors, tuple(name for name in inputs if name not in tensors), tuple(outputs))


def _node(view: memoryview) -> Node:
    fields = _message(view)
    inputs, outputs = (tuple(map(_text, fields[number])) for number in (1, 2))
    return Node(_text(fields[4][-1]), inputs, outputs, dict(map(_attribute, fields[5])))


def _attribute(view: memoryview) -> tuple[str, Any]:
    """Name and value: field 2 is a float, 3 an integer, 4 a text, 5 a tensor, 8 integers."""
    fields = _message(view)
    name = _text(fields[1][-1])
    if fields[2]:
        return name, struct.unpack('<f', fields[2][-1])[0]
    if fields[3]:
        return name, _signed(fields[3][-1])
    if fields[4]:
        return name, _text(fields[4][-1])
    if fields[5]:
        return name, _tensor(fields[5][-1])[1]
    return name, _integers(fields[8])


def _tensor(view: memoryview) -> tuple[str, np.ndarray]:
    fields = _message(view)
    name = _text(fields[_NAME][-1]) if fields[_NAME] else ''
    kind = fields[2][-1] if fields[2] else 0
    if fields[_EXTERNAL] or any(fields[_LOCATION]):
        raise ValueError(f'the numbers of {name} lie in another file')
    if kind not in _ELEMENTS:
        raise ValueError(f'{name} holds elements of type {kind}')
    dtype, field, layout = _ELEMENTS[kind]
    if fields[_RAW]:
        numbers = np.frombuffer(fields[_RAW][-1], np.dtype(dtype).newbyteorder('<'))
    elif layout:
        numbers = np.frombuffer(b''.join(fields[field]), layout)
    elif kind in (10, 16):  # half precision as the bits of a 16-bit integer
        numbers = np.array(_integers(fields[field]), np.uint16).view(dtype)
    else:
        numbers = np.array(_integers(fields[field]), dtype)
    shape = _integers(fields[1])
    if min(shape, default=0) < 0 or math.prod(shape) != numbers.size:
        raise ValueError(f'{name} has {numbers.size} elements and the shape {shape}')
    return name, np.array(numbers.reshape(shape), dtype)


def _message(view: memoryview) -> dict[int, list[Any]]:
    """Field number -> its values in order, integers or parts of `view`."""
    fields: dict[int, list[Any]] = collections.defaultdict(list)
    for number, value in _fields(view):
        fields[number].append(value)
    return fields


def _fields(view: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    position = 0
    while position < len(view):
        key, position = _varint(view, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(view, position)
            yield key >> 3, value
            continue
        if kind == _LENGTH:
            size, position = _varint(view, position)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            size = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f'wire type {kind}')
        if position + size > len(view):
            raise ValueError('it ends early')
        yield key >> 3, view[position:position + size]
        position += size


def _varint(view: memoryview, position: int) -> tuple[int, int]:
    """An unsigned integer of seven bits a byte, lowest first, and where it ends."""
    value = 0
    for number in range(10):
        byte = view[position + number]
        value |= (byte & 127) << 7 * number
        if byte < 128:
            return value, position + number + 1
    raise ValueError('an integer of more than ten bytes')


def _signed(value: int) -> int:
    """Negative integers lie in the file as their two's complement of 64 bits."""
    return value - (1 << 64) if value >> 63 else value


def _integers(values: list[Any]) -> list[int]:
    """Repeated integers, one a field or packed together."""
    found = []
    for value in values:
        if isinstance(value, int):
            found.append(_signed(value))
            continue
        position = 0
        while position < len(value):
            number, position = _varint(value, position)
            found.append(_signed(number))
    return found


def _text(view: memoryview) -> str:
    return bytes(view).decode()
