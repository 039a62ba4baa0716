"""Records the golden files beside this one, with PyTorch; the tests that read them do without.

    python tests/third_party/golden/record_torch.py    # in an environment with torch (2.13 made the files)
"""

import collections
import copyreg
import io
import pathlib
import pickle
import struct

import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
WIDTHS = (4, 6, 8, 10, 12)
CONVOLUTIONS = (2, 2, 4, 4, 4)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def vgg19_layers(widths):
    """The layers of torchvision's vgg19().features, with any widths."""
    layers, inputs = [], 3
    for width, count in zip(widths, CONVOLUTIONS, strict=True):
        for _ in range(count):
            layers += [torch.nn.Conv2d(inputs, width, 3, padding=1), torch.nn.ReLU()]
            inputs = width
        layers.append(torch.nn.MaxPool2d(2, 2))
    return torch.nn.Sequential(*layers)


def record_vgg19():
    """A narrow random VGG19, two images, and its features after the first ReLU of each part."""
    torch.manual_seed(0)
    network = torch.nn.ModuleDict({'features': vgg19_layers(WIDTHS)})
    with torch.no_grad():
        for name, value in network.named_parameters():  # wide enough that no feature map dies out
            fan_in = value[0].numel()
            value.normal_(0, (2 / fan_in) ** 0.5 if name.endswith('weight') else 0.3)
    images = torch.rand(2, 3, 35, 34) * 2 - 1
    x = ((images + 1) / 2 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    features, channels = [], {0, 5, 10, 19, 28}
    with torch.no_grad():
        for number, layer in enumerate(network['features']):
            x = layer(x)
            if number - 1 in channels:
                features.append(x)
    np.savez_compressed(FOLDER / 'vgg19_narrow.npz', images=images.permute(0, 2, 3, 1).numpy(),
                        **{f'relu{i + 1}_1': f.permute(0, 2, 3, 1).numpy() for i, f in enumerate(features)})
    torch.save(network.state_dict(), FOLDER / 'vgg19_narrow_zip.pth')
    torch.save(network.state_dict(), FOLDER / 'vgg19_narrow_legacy.pth', _use_new_zipfile_serialization=False)


def record_published_layout():
    """All 38 tensors of torchvision's vgg19, in their shapes; they overlap, so that the file stays small."""
    numbers = torch.arange(3700, dtype=torch.float32)
    widths, tensors, number, inputs = (64, 128, 256, 512, 512), collections.OrderedDict(), 0, 3
    for width, count in zip(widths, CONVOLUTIONS, strict=True):
        for _ in range(count):
            tensors[f'features.{number}.weight'] = numbers.as_strided((width, inputs, 3, 3), (4, 3, 2, 1))
            tensors[f'features.{number}.bias'] = numbers.as_strided((width,), (1,), number)
            number, inputs = number + 2, width
        number += 1
    for number, inputs, outputs in ((0, 25088, 4096), (3, 4096, 4096), (6, 4096, 1000)):
        tensors[f'classifier.{number}.weight'] = numbers.as_strided((outputs, inputs), (0, 0))
        tensors[f'classifier.{number}.bias'] = numbers.as_strided((outputs,), (0,))
    torch.save(tensors, FOLDER / 'vgg19_layout_zip.pth')
    torch.save(tensors, FOLDER / 'vgg19_layout_legacy.pth', _use_new_zipfile_serialization=False)


def record_dtypes():
    """Every dtype, a transposed view, a scalar, an empty tensor, a shared storage, a nested dict, a parameter."""
    torch.manual_seed(1)
    base = torch.randn(3, 4)
    tree = {name: (torch.randn(2, 3) * 50).to(getattr(torch, name)) for name in
            ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8', 'bool')}
    tree |= {'uint8': torch.arange(5, dtype=torch.uint8), 'transposed': base.T, 'row': base[1], 'base': base,
             'scalar': torch.tensor(2.5), 'empty': torch.zeros(0, 3), 'epoch': 7, 'note': 'no tensor',
             'nested': {'inner': collections.OrderedDict(weight=torch.ones(2))},
             'parameter': torch.nn.Parameter(torch.arange(3.0))}
    torch.save(tree, FOLDER / 'dtypes_zip.pth')
    torch.save(tree, FOLDER / 'dtypes_legacy.pth', _use_new_zipfile_serialization=False)
    arrays = {name: value.detach().float().numpy() if name == 'bfloat16' else value.detach().numpy()
              for name, value in tree.items() if isinstance(value, torch.Tensor)}
    np.savez(FOLDER / 'dtypes.npz', **{'nested.inner.weight': np.ones(2, np.float32)}, **arrays)


class _OldPickler(pickle.Pickler):
    """Pickles parameters as PyTorch 0.1 did, whose model files are still the published ones."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.keys = {}

    def persistent_id(self, obj):
        if isinstance(obj, torch.UntypedStorage):
            key = self.keys.setdefault(obj.data_ptr(), str(1000 + len(self.keys)))
            return 'storage', torch.FloatStorage, key, 'cpu', obj.nbytes() // 4, None
        return None

    def reducer_override(self, obj):
        if isinstance(obj, torch.nn.Parameter):
            described = (obj.untyped_storage(), obj.storage_offset(), tuple(obj.shape), obj.stride())
            if obj.ndim == 2:  # the state of a tensor
                return torch.FloatTensor, (), described
            # The state of a variable: data, gradient, hooks, whether a gradient is wanted, whether volatile.
            return copyreg.__newobj__, (torch.nn.Parameter,), (
                obj.data, None, collections.OrderedDict(), True, False)
        if isinstance(obj, torch.Tensor):
            described = (obj.untyped_storage(), obj.storage_offset(), tuple(obj.shape), obj.stride())
            return torch._utils._rebuild_tensor, described
        return NotImplemented


def record_oldest():
    """A file as PyTorch 0.1 wrote it; `torch.load` must understand it too."""
    tree = collections.OrderedDict(weight=torch.nn.Parameter(torch.arange(6.0).view(2, 3)),
                                   bias=torch.nn.Parameter(torch.arange(2.0) + 10))
    body = io.BytesIO()
    pickler = _OldPickler(body)
    pickler.dump(tree)
    with open(FOLDER / 'oldest.pth', 'wb') as file:
        for header in (0x1950A86A20F9469CFC6C, 1001, {'protocol_version': 1001, 'little_endian': True,
                                                     'type_sizes': {'short': 2, 'int': 4, 'long': 8}}):
            pickle.dump(header, file, protocol=2)
        file.write(body.getvalue())
        pickle.dump(list(pickler.keys.values()), file, protocol=2)
        storages = {value.untyped_storage().data_ptr(): value for value in tree.values()}
        for pointer in pickler.keys:
            numbers = storages[pointer].detach().numpy().ravel()
            file.write(struct.pack('<q', numbers.size) + numbers.tobytes())
    for name, value in torch.load(FOLDER / 'oldest.pth', weights_only=True).items():
        assert torch.equal(value, tree[name]), name


if __name__ == '__main__':
    record_vgg19()
    record_published_layout()
    record_dtypes()
    record_oldest()
