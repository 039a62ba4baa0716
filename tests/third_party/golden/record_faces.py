"""Records the golden files of the two face recognition networks beside this one, with PyTorch.

    python tests/third_party/golden/record_faces.py    # in an environment with torch (2.13) and onnx

The networks are written down from their papers and from the names and shapes of the published tensors.
"""

import functools
import pathlib

import numpy as np
import torch
from torch import nn

FOLDER = pathlib.Path(__file__).parent
WIDTHS, DEPTHS, FEATURES = (4, 4, 6, 8, 10), (1, 2, 1, 1), 12
MOBILE_WIDTH = 2
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Residual(nn.Module):
    """Normalisation, convolution, normalisation, PReLU, convolution, normalisation; added to the input."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        if stride == 2:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, 2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (self.downsample(x) if hasattr(self, 'downsample') else x)


class IResNet(nn.Module):
    """With the names of arcface_torch's backbone.pth."""

    def __init__(self, widths, depths, features):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        for part, depth in enumerate(depths, 1):
            blocks = [Residual(widths[part], widths[part], 1) for _ in range(depth - 1)]
            setattr(self, f'layer{part}', nn.Sequential(Residual(widths[part - 1], widths[part], 2), *blocks))
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * 49, features)
        self.features = nn.BatchNorm1d(features)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


def normalized(inputs, outputs, side, stride=1, groups=1):
    """Convolution, normalisation, ReLU6."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(outputs), nn.ReLU6())


class Inverted(nn.Module):
    """Wider, each channel by itself, narrower again; added to the input where the shapes allow."""

    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(normalized(inputs, wide, 1), normalized(wide, wide, 3, stride, wide),
                                  nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileFaceNet(nn.Module):
    """With the names of foamliu's mobilefacenet.pt; every width is a multiple of the first."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = normalized(3, width, 3, 2)
        self.dw_conv = nn.Module()
        self.dw_conv.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.dw_conv.pointwise = nn.Conv2d(width, width, 1, bias=False)
        self.dw_conv.bn1, self.dw_conv.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        blocks = [(width, width, 2, 2)] + [(width, width, 1, 2)] * 4 + [(width, 2 * width, 2, 4)]
        blocks += [(2 * width, 2 * width, 1, 2)] * 6 + [(2 * width, 2 * width, 2, 4)]
        blocks += [(2 * width, 2 * width, 1, 2)] * 2
        self.features = nn.Sequential(*(Inverted(*block) for block in blocks))
        last = 8 * width
        self.conv2 = normalized(2 * width, last, 1)
        self.gdconv = nn.Module()
        self.gdconv.depthwise = nn.Conv2d(last, last, 7, groups=last, bias=False)
        self.gdconv.bn = nn.BatchNorm2d(last)
        self.conv3 = nn.Conv2d(last, 2 * width, 1)
        self.bn = nn.BatchNorm2d(2 * width)

    def forward(self, x):
        first = self.dw_conv
        x = torch.relu(first.bn1(first.depthwise(self.conv1(x))))
        x = torch.relu(first.bn2(first.pointwise(x)))
        x = self.conv2(self.features(x))
        x = self.conv3(self.gdconv.bn(self.gdconv.depthwise(x)))
        return torch.flatten(self.bn(x), 1)


def randomize(network):
    """Random everywhere, statistics included; no layer dies, and embeddings are about 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0.1, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.1, 0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            gain = 0.015 if isinstance(module, nn.Linear) else 1.5
            nn.init.normal_(module.weight, 0, (gain / module.weight[0].numel()) ** 0.5)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def faces():
    """Two coarse pictures: (2,14,14,3) uint8, of which each pixel stands for 8 x 8, and as networks take them."""
    coarse = torch.randint(0, 256, (2, 14, 14, 3), dtype=torch.uint8)
    fine = coarse.permute(0, 3, 1, 2).repeat_interleave(8, 2).repeat_interleave(8, 3).float()
    return coarse.numpy(), fine


def export(network, path):
    """As insightface's torch2onnx.py: normalisations after convolutions are folded."""
    images = torch.zeros(1, 3, 112, 112)
    torch.onnx.export(network, images, path, input_names=['data'], opset_version=11, dynamo=False)


@torch.no_grad()
def record():
    """The files."""
    torch.manual_seed(0)
    save = functools.partial(torch.save, _use_new_zipfile_serialization=False)  # the smaller form
    coarse, fine = faces()
    iresnet, mobile = randomize(IResNet(WIDTHS, DEPTHS, FEATURES)), randomize(MobileFaceNet(MOBILE_WIDTH))
    mean, deviation = (torch.tensor(x)[:, None, None] for x in (MEAN, DEVIATION))
    np.savez_compressed(FOLDER / 'faces_narrow.npz', coarse=coarse, iresnet=iresnet((fine - 127.5) / 127.5).numpy(),
                        mobilefacenet=mobile((fine / 255 - mean) / deviation).numpy())
    save(iresnet.state_dict(), FOLDER / 'iresnet_narrow.pth')
    save(mobile.state_dict(), FOLDER / 'mobilefacenet_narrow.pth')
    export(iresnet, FOLDER / 'iresnet_narrow.onnx')


if __name__ == '__main__':
    record()
