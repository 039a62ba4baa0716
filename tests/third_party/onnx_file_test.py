"""ONNX files are read as their own format says: every way to hold numbers, and nothing that is damaged."""

import pathlib
import struct

import ml_dtypes
import numpy as np
import pytest

from third_party import onnx_file

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def _varint(value):
    value &= (1 << 64) - 1
    pieces = []
    while value > 127:
        pieces.append(value & 127 | 128)
        value >>= 7
    return bytes([*pieces, value])


def _field(number, value):
    """An integer, or what has a length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _tensor(name, kind, shape, *fields):
    return b''.join([*(_field(1, n) for n in shape), _field(2, kind), _field(8, name), *fields])


def _model(*graph_fields):
    return _field(1, 8) + _field(2, 'by hand') + _field(7, b''.join(graph_fields))


def _write(tmp_path, content):
    path = tmp_path / 'model.onnx'
    path.write_bytes(content)
    return path


def test_every_way_to_hold_numbers(tmp_path):
    half = np.array([1.5, -2, 65504], np.float16)
    brain = np.array([1.5, -2, 3e38], ml_dtypes.bfloat16)
    packed = b''.join(map(_varint, (-1, 0, 2**40)))
    tensors = {
        'raw': (_tensor('raw', 1, (2, 3), _field(9, np.arange(6, dtype='<f4').tobytes())),
                np.arange(6, dtype=np.float32).reshape(2, 3)),
        'packed floats': (_tensor('packed floats', 1, (2,), _field(4, struct.pack('<2f', 0.5, -1))),
                          np.array([0.5, -1], np.float32)),
        'single floats': (_tensor('single floats', 1, (2,), *(_varint(4 << 3 | 5) + struct.pack('<f', x)
                                                              for x in (0.5, -1))), np.array([0.5, -1], np.float32)),
        'doubles': (_tensor('doubles', 11, (1,), _field(10, struct.pack('<d', np.pi))), np.array([np.pi])),
        'packed integers': (_tensor('packed integers', 7, (3,), _field(7, packed)), np.array([-1, 0, 2**40])),
        'single integers': (_tensor('single integers', 6, (2,), _field(5, -5), _field(5, 7)),
                            np.array([-5, 7], np.int32)),
        'halves': (_tensor('halves', 10, (3,), *(_field(5, int(x)) for x in half.view(np.uint16))), half),
        'raw halves': (_tensor('raw halves', 10, (3,), _field(9, half.tobytes())), half),
        'brain': (_tensor('brain', 16, (3,), *(_field(5, int(x)) for x in brain.view(np.uint16))), brain),
        'truth': (_tensor('truth', 9, (2,), _field(5, 1), _field(5, 0)), np.array([True, False])),
        'scalar': (_tensor('scalar', 7, (), _field(7, 3)), np.array(3)),
        'empty': (_tensor('empty', 1, (0, 4)), np.zeros((0, 4), np.float32)),
    }
    graph = onnx_file.read(_write(tmp_path, _model(*(_field(5, tensor) for tensor, _ in tensors.values()))))
    assert list(graph.tensors) == list(tensors)
    for name, (_, wanted) in tensors.items():
        found = graph.tensors[name]
        assert found.dtype == wanted.dtype, name
        assert found.flags.owndata, name
        np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_nodes_constants_and_what_follows(tmp_path):
    one = _tensor('', 1, (1,), _field(4, struct.pack('<f', 1)))
    constant = _field(2, 'c') + _field(4, 'Constant') + _field(5, _field(1, 'value') + _field(5, one))
    alias = _field(1, 'c') + _field(2, 'd') + _field(4, 'Identity')
    attributes = b''.join(_field(5, _field(1, name) + field) for name, field in (
        ('real', _varint(2 << 3 | 5) + struct.pack('<f', 0.25)), ('integer', _field(3, -4)),
        ('text', _field(4, 'same')), ('integers', _field(8, 1) + _field(8, -2))))
    relu = _field(1, 'x') + _field(2, 'y') + _field(4, 'Relu')
    addition = _field(1, 'y') + _field(1, 'd') + _field(2, 'z') + _field(4, 'Add') + attributes
    graph = onnx_file.read(_write(tmp_path, _model(
        *(_field(1, node) for node in (constant, alias, relu, addition)),
        *(_field(11, _field(1, name)) for name in 'xc'), _field(12, _field(1, 'z')))))
    assert (graph.inputs, graph.outputs) == (('x',), ('z',))  # a tensor may be named as an input, too
    assert [node.op for node in graph.nodes] == ['Relu', 'Add']
    node = graph.follow('y', 'Add')
    assert node.attributes == {'real': 0.25, 'integer': -4, 'text': 'same', 'integers': [1, -2]}
    assert [array.tolist() for array in graph.constants(node)] == [[1]]
    with pytest.raises(ValueError, match='0 nodes Relu take y'):
        graph.follow('y', 'Relu')


@pytest.mark.parametrize(('tensor', 'said'), [
    (_tensor('w', 1, (2,), _field(9, bytes(4))), r'w has 1 elements and the shape \[2\]'),
    (_tensor('w', 1, (2,), _field(9, bytes(7))), 'buffer size'),
    (_tensor('w', 1, (-1, -2), _field(9, bytes(8))), 'w has 2 elements'),
    (_tensor('w', 1, (2,), _field(13, _field(1, 'location') + _field(2, '/etc/passwd'))), 'w lie in another file'),
    (_tensor('w', 1, (2,), _field(14, 1)), 'w lie in another file'),
    (_tensor('w', 8, (1,), _field(6, 'text')), 'w holds elements of type 8'),
])
def test_tensors_that_are_none_are_refused(tensor, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        onnx_file.read(_write(tmp_path, _model(_field(5, tensor))))


def test_damaged_files_end_in_a_sentence(tmp_path):
    content = (GOLDEN / 'iresnet_narrow.onnx').read_bytes()
    whole = onnx_file.read(GOLDEN / 'iresnet_narrow.onnx')
    rng = np.random.default_rng(0)
    candidates = [b'', b'no model', b'PK\x03\x04' * 9, bytes(50), b'\xff' * 50]
    candidates += [content[:end] for end in rng.integers(0, 3000, 10)]
    for _ in range(30):
        damaged = bytearray(content)
        damaged[rng.integers(0, 2000)] ^= 1 << int(rng.integers(8))
        candidates.append(bytes(damaged))
    refused = [said for candidate in candidates if (said := _refusal(_write(tmp_path, candidate), len(whole.nodes)))]
    assert len(refused) >= 15  # all that were cut, at least
    assert all('is not a whole ONNX file' in said for said in refused)
    with pytest.raises(FileNotFoundError):
        onnx_file.read(tmp_path / 'absent.onnx')


def _refusal(path, nodes):
    """What was said; nothing where the damage was to a number or a name, so that there are as many nodes or fewer."""
    try:
        assert len(onnx_file.read(path).nodes) <= nodes
    except ValueError as error:
        return str(error)
    return ''
