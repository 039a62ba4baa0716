"""Records inception_narrow.pth and inception_narrow.npz beside this file, with PyTorch and torchvision.

    python tests/third_party/golden/record_inception.py    # torch 2.13, torchvision 0.29 made the files
    python tests/third_party/golden/record_inception.py /tmp/full    # the same at full width, into that folder

The network is torchvision's, made narrow through its own constructor, with other poolings hooked into it.
"""

import functools
import pathlib
import sys

import numpy as np
import torch
from torch.nn import functional
from torchvision.models import inception

FOLDER = pathlib.Path(__file__).parent
SHARED = 6200  # numbers that all kernels of the narrow network have in common, so that the file stays small


def narrow(divisor, inputs, outputs, **how):
    """torchvision's convolution and batch normalisation, with fewer channels."""
    return inception.BasicConv2d(3 if inputs == 3 else inputs // divisor, outputs // divisor, **how)


def pool_otherwise(block, pool):
    """Let `pool` of the block's input go into its `branch_pool`, instead of the average that torchvision takes."""
    seen = {}
    block.register_forward_pre_hook(lambda module, args: seen.update(x=args[0]))
    block.branch_pool.register_forward_pre_hook(lambda module, args: (pool(seen['x']),))


def average_inside(x):
    """3 x 3 averages that do not count the padding: those with it, over the share of pixels inside."""
    return functional.avg_pool2d(x, 3, 1, 1) / functional.avg_pool2d(torch.ones_like(x), 3, 1, 1)


def fid_network(divisor):
    """torchvision's Inception-v3 with 1008 classes and the poolings of the FID variant; its output: the features."""
    blocks = [functools.partial(block, conv_block=functools.partial(narrow, divisor)) for block in (
        inception.InceptionA, inception.InceptionB, inception.InceptionC, inception.InceptionD, inception.InceptionE)]
    network = inception.Inception3(1008, aux_logits=False, init_weights=False, inception_blocks=[
        functools.partial(narrow, divisor), *blocks, inception.InceptionAux])
    for name, block in network.named_children():
        if isinstance(block, inception.InceptionA | inception.InceptionC | inception.InceptionE):
            pool_otherwise(block, average_inside if name != 'Mixed_7c' else
                           lambda x: functional.max_pool2d(x, 3, 1, 1))
    network.fc = torch.nn.Identity()
    return network


def randomise(network, images):
    """Random weights; the statistics of the normalisation are those of `images`, that no layer dies or explodes."""
    for name, value in network.named_parameters():
        if name.endswith('bn.weight'):
            value.data.uniform_(0.5, 1.5)
        else:
            value.data.normal_(*((0.5, 0.5) if name.endswith('bn.bias') else (0.0, 1.0)))
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    network.dropout.p = 0.0
    network.train()(images)
    return network.eval()


def share(network, shared):
    """Let every kernel be a view of the same numbers."""
    for number, layer in enumerate(layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)):
        shape = layer.weight.shape
        start = 37 * number % 101
        layer.weight = torch.nn.Parameter(shared[start:start + shape.numel()].view(shape), requires_grad=False)


def packed(network, shared):
    """The state with the published names, classifier included, in one storage: a file of few parts."""
    state, kernels = dict(network.state_dict()), {}
    counters = {name: state.pop(name) for name in list(state) if name.endswith('num_batches_tracked')}
    for name in [name for name in state if name.endswith('.conv.weight')]:
        kernels[name] = state.pop(name)
    flat = torch.cat([shared, *(value.ravel() for value in state.values())])
    tensors, start = {}, shared.numel()
    for name, value in state.items():
        tensors[name] = flat[start:start + value.numel()].view(value.shape)
        start += value.numel()
    for name, value in kernels.items():
        tensors[name] = flat[value.storage_offset():value.storage_offset() + value.numel()].view(value.shape)
    counter = torch.tensor(1)
    features = network.Mixed_7c.branch1x1.conv.weight.shape[1]
    return tensors | dict.fromkeys(counters, counter) | {
        'fc.weight': flat[:1].expand(1008, features), 'fc.bias': flat[:1].expand(1008)}


def resized(pictures):
    """uint8 (B,H,W,3) to (B,3,299,299) in [0, 1], as pytorch-fid does it."""
    return functional.interpolate(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, (299, 299),
                                  mode='bilinear', align_corners=False)


def record(folder, divisor):
    """Weights, pictures that are enlarged and one that is shrunk, and features of the network."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (2, 40, 30, 3), np.uint8)
    large = np.tile(rng.integers(0, 256, (1, 19, 17, 3), np.uint8), (1, 20, 24, 1))
    images = torch.rand(2, 3, 139, 171) * 2 - 1
    images = functional.interpolate(images[:, :, ::12, ::12], (139, 171)).half().float()
    network = fid_network(divisor)
    shared = torch.randn(SHARED)
    with torch.no_grad():
        if divisor > 1:
            share(network, shared)
        # `randomise` fills the shared numbers again and again: the last time counts.
        randomise(network, images)
        features, pictured = network(images), network(2 * resized(small) - 1)
    tensors = packed(network, shared) if divisor > 1 else network.state_dict()
    torch.save(tensors, folder / 'inception_narrow.pth')
    np.savez_compressed(folder / 'inception_narrow.npz', images=images.permute(0, 2, 3, 1).half().numpy(),
                        features=features.numpy(), small=small, pictured=pictured.numpy(), large=large,
                        **{f'{name}_resized': resized(pictures)[0].permute(1, 2, 0)[::23, ::19].numpy()
                           for name, pictures in (('small', small), ('large', large))})
    for values in (features, pictured):
        print(values.mean(), values.std(), values.std(0).mean(), (values == 0).float().mean())


if __name__ == '__main__':
    if len(sys.argv) > 1:
        record(pathlib.Path(sys.argv[1]), 1)
    else:
        record(FOLDER, 16)
