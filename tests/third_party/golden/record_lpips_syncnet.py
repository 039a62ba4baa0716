"""Records what LPIPS and SyncNet compute, with PyTorch, and MFCC, with python_speech_features 0.6.

    PYTHONPATH=tests python tests/third_party/golden/record_lpips_syncnet.py    # torch 2.13 made the files

Networks are randomly initialised and narrow; the tests that read the files do without PyTorch.
"""

import pathlib

import numpy as np
import python_speech_features
import torch
from patterns import film, pairs
from torch import nn

FOLDER = pathlib.Path(__file__).parent
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Fire(nn.Module):
    def __init__(self, inputs, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(squeeze, expand, 1), nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def alexnet(a=4, b=5, c=6, d=5, e=4):
    relu = nn.ReLU
    layers = [nn.Conv2d(3, a, 11, 4, 2), relu(), nn.MaxPool2d(3, 2), nn.Conv2d(a, b, 5, padding=2), relu(),
              nn.MaxPool2d(3, 2), nn.Conv2d(b, c, 3, padding=1), relu(), nn.Conv2d(c, d, 3, padding=1), relu(),
              nn.Conv2d(d, e, 3, padding=1), relu()]
    return layers, (1, 4, 7, 9, 11)


def vgg16(*widths):
    layers, inputs, read = [], 3, []
    widths = iter(widths or (3, 4, 4, 4, 4, 5, 5, 5, 6, 5, 5, 6, 5))
    for depth in (2, 2, 3, 3, 3):
        for _ in range(depth):
            width = next(widths)
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
            inputs = width
        read.append(len(layers) - 1)
        layers.append(nn.MaxPool2d(2, 2))
    return layers[:-1], tuple(read)


def squeezenet1_1(first=4, *fires):
    layers, inputs = [nn.Conv2d(3, first, 3, 2), nn.ReLU()], first
    fires = fires or ((2, 3), (3, 2), (3, 3), (2, 4), (3, 4), (4, 3), (3, 5), (4, 4))
    for i, (squeeze, expand) in enumerate(fires):
        if i in (0, 2, 4):
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        layers.append(Fire(inputs, squeeze, expand))
        inputs = 2 * expand
    return layers, (1, 4, 7, 9, 10, 11, 12)


ODD = {'alexnet': (71, 95), 'vgg16': (33, 38), 'squeezenet1_1': (45, 52)}  # px: sides that poolings do not divide
BUILDERS = {'alexnet': alexnet, 'vgg16': vgg16, 'squeezenet1_1': squeezenet1_1}


def randomize(network, bias=0.3):
    """Weights under which no feature map dies out, and running statistics that do something."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith('running_var'):
                value.uniform_(0.5, 2)
            elif value.ndim > 1:
                value.normal_(0, (2 / value[0].numel()) ** 0.5)
            elif value.is_floating_point():
                value.normal_(1 if name.endswith('weight') else 0, bias)
    return network


def features(layers, read, images):
    """NHWC uint8 -> the feature maps that are read, NCHW."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    x = (x - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
    maps = []
    with torch.no_grad():
        for number, layer in enumerate(layers):
            x = layer(x)
            if number in read:
                maps.append(x)
    return maps


def distance(layers, read, heads, first, second):
    """LPIPS, layer by layer: (B, layers)."""
    parts = []
    for weight, a, b in zip(heads, features(layers, read, first), features(layers, read, second), strict=True):
        a, b = (f / ((f ** 2).sum(1, keepdim=True).sqrt() + 1e-10) for f in (a, b))
        parts.append(torch.nn.functional.conv2d((a - b) ** 2, weight).mean((2, 3))[:, 0])
    return torch.stack(parts, 1)


def record_lpips():
    """Of each backbone: weights, heads, feature maps of a picture of odd size, distances at 64 and 256 px."""
    torch.manual_seed(0)
    arrays = {}
    for name, build in BUILDERS.items():
        layers, read = build()
        state = randomize(nn.ModuleDict({'features': nn.Sequential(*layers)})).state_dict()
        height, width = ODD[name]
        odd = np.ascontiguousarray(pairs(128)[0][:1, :height, :width])
        maps = features(layers, read, odd)
        assert all(f.std() > 0.05 and 0.1 < (f > 0).float().mean() < 0.95 for f in maps), name
        heads = [torch.rand(1, f.shape[1], 1, 1) for f in maps]
        arrays |= {f'{name}/{key}': value.numpy() for key, value in state.items()}
        arrays |= {f'{name}/lin{i}.model.1.weight': head.numpy() for i, head in enumerate(heads)}
        arrays |= {f'{name}/map{i}': f.permute(0, 2, 3, 1).numpy() for i, f in enumerate(maps)}
        for side in (64, 256):
            arrays[f'{name}/distance{side}'] = distance(layers, read, heads, *pairs(side)).numpy()
    np.savez_compressed(FOLDER / 'lpips_narrow.npz', **arrays)


class SyncNet(nn.Module):
    """The published network with any widths: six convolutions, two dense layers a stream."""

    def __init__(self, lip, aud):
        super().__init__()
        a, b, c, d, e, f, g, h = aud
        self.netcnnaud = nn.Sequential(
            nn.Conv2d(1, a, 3, 1, 1), nn.BatchNorm2d(a), nn.ReLU(), nn.MaxPool2d(1, 1),
            nn.Conv2d(a, b, 3, 1, 1), nn.BatchNorm2d(b), nn.ReLU(), nn.MaxPool2d(3, (1, 2)),
            nn.Conv2d(b, c, 3, 1, 1), nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, d, 3, 1, 1), nn.BatchNorm2d(d),
            nn.ReLU(), nn.Conv2d(d, e, 3, 1, 1), nn.BatchNorm2d(e), nn.ReLU(), nn.MaxPool2d(3, 2),
            nn.Conv2d(e, f, (5, 4)), nn.BatchNorm2d(f), nn.ReLU())
        self.netfcaud = nn.Sequential(nn.Linear(f, g), nn.BatchNorm1d(g), nn.ReLU(), nn.Linear(g, h))
        a, b, c, d, e, f, g, h = lip
        self.netfclip = nn.Sequential(nn.Linear(f, g), nn.BatchNorm1d(g), nn.ReLU(), nn.Linear(g, h))
        self.netcnnlip = nn.Sequential(
            nn.Conv3d(3, a, (5, 7, 7), (1, 2, 2)), nn.BatchNorm3d(a), nn.ReLU(), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            nn.Conv3d(a, b, (1, 5, 5), (1, 2, 2), (0, 1, 1)), nn.BatchNorm3d(b), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), nn.Conv3d(b, c, (1, 3, 3), padding=(0, 1, 1)),
            nn.BatchNorm3d(c), nn.ReLU(), nn.Conv3d(c, d, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(d), nn.ReLU(),
            nn.Conv3d(d, e, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(e), nn.ReLU(),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)), nn.Conv3d(e, f, (1, 6, 6)), nn.BatchNorm3d(f), nn.ReLU())

    def lip(self, films):  # (B,3,5,224,224)
        return self.netfclip(self.netcnnlip(films).flatten(1))

    def sound(self, pieces):  # (B,1,13,20)
        return self.netfcaud(self.netcnnaud(pieces).flatten(1))


def record_syncnet():
    """A narrow random SyncNet, what it says of 7 frames and their sound, and scores by its publishers' recipe."""
    torch.manual_seed(0)
    lip, aud = (4, 6, 6, 6, 6, 8, 8, 10), (4, 5, 6, 5, 5, 8, 8, 10)
    network = randomize(SyncNet(lip, aud)).eval()
    with torch.no_grad():  # inputs of such sizes, outputs of about 1
        network.netcnnlip[0].weight /= 64
        network.netcnnaud[0].weight /= 8
    rng = np.random.default_rng(0)
    audio = (rng.normal(size=7 * 640) * np.linspace(0, 6000, 7 * 640)).astype(np.int16)
    audio[1500:2300] = 0  # digital silence: the logarithm of nothing
    mfcc = python_speech_features.mfcc(audio, 16000)
    frames = torch.from_numpy(film(7)).permute(3, 0, 1, 2).float().flip(0)  # RGB to BGR
    steps = torch.from_numpy(mfcc.T).float()
    with torch.no_grad():
        films = network.lip(torch.stack([frames[:, i:i + 5] for i in range(3)]))
        sounds = network.sound(torch.stack([steps[None, :, 4 * i:4 * i + 20] for i in range(2)]))
    assert films.std(0).min() > 0.01
    assert sounds.std(0).min() > 0.01
    first, second = torch.randn(40, 10), torch.randn(40, 10)
    padded = torch.nn.functional.pad(second, (0, 0, 15, 15))
    means = torch.stack([torch.nn.functional.pairwise_distance(first, padded[i:i + 40]).mean() for i in range(31)])
    least, place = means.min(0)
    np.savez_compressed(
        FOLDER / 'syncnet_narrow.npz', audio=audio, mfcc=mfcc, short=python_speech_features.mfcc(audio[-300:], 16000),
        films=films.numpy(), sounds=sounds.numpy(), first=first.numpy(), second=second.numpy(),
        scores=np.array([15 - place, means.median() - least, least, means[15]]), lip=lip, aud=aud,
        **{f'tensors/{name}': value.numpy() for name, value in network.state_dict().items()})


if __name__ == '__main__':
    record_lpips()
    record_syncnet()
