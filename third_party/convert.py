"""Published weight files into the arrays that this program reads: checked, renamed, written to the assets."""

import dataclasses
import hashlib
import importlib
import os
import pathlib
import types
from collections.abc import Mapping
from typing import Any

from third_party import assets

# Network -> its package, which has `convert.py`: PUBLISHED, read(path) -> tensors and convert(tensors) -> nested dict
# of arrays. In a package that serves several networks PUBLISHED is a mapping from the network, and both functions
# take it as their second argument.
NETWORKS: Mapping[str, str] = types.MappingProxyType({
    'vgg19': 'vgg19',
    'prnet': 'prnet',
    'inception_v3_fid': 'inception_v3',
    'iresnet50': 'iresnet',
    'iresnet100': 'iresnet',
    'mobilefacenet': 'mobilefacenet',
    'alexnet': 'lpips',
    'vgg16': 'lpips',
    'squeezenet1_1': 'lpips',
    'lpips_alex': 'lpips',
    'lpips_vgg': 'lpips',
    'lpips_squeeze': 'lpips',
    'syncnet': 'syncnet',
})


@dataclasses.dataclass(frozen=True)
class Published:
    """Where a network's weights come from.

    Attributes:
      file: the published name.
      sha256: of that file, or the digits of it that are published; '' where nothing is known of it.
      origin: where a person finds it.
      witness: whose copy `sha256` was seen of, where the publisher gives no checksum: another one is then reported,
        not refused.
    """

    file: str
    sha256: str
    origin: str
    witness: str = ''


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion did: the file it wrote, and one sentence on the checksum."""

    path: pathlib.Path
    verdict: str


def published(network: str) -> Published:
    """What is known of the published file of `network`, one of `NETWORKS`.

    Raises:
      ValueError: no network has that name.
    """
    of = _package(network).PUBLISHED
    return of[network] if isinstance(of, Mapping) else of


def convert(network: str, path: str | os.PathLike) -> Converted:
    """Convert a published weight file and write it to `assets.folders()[0]`.

    Args:
      network: one of `NETWORKS`.
      path: the published file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: no network has that name; the file bears the published name but not its checksum; it is no
        weight file; or its tensors are not those of the network.
      OSError: the result cannot be written.
    """
    path, of = pathlib.Path(path), published(network)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file; want {of.file} from {of.origin}')
    with open(path, 'rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    verdict = _verdict(path, digest, of)
    try:
        params = _params(network, path)
    except KeyError as error:
        raise ValueError(f'{path} holds no tensor {error}; want the tensors of {of.file}') from error
    return Converted(assets.save(network, params, digest), verdict)


def instructions(network: str) -> str:
    """One sentence that tells a person how to come by the weights of `network`."""
    of = published(network)
    return (f'get {of.file} from {of.origin}, then run '
            f'launch.py --mode=convert --network={network} --input={of.file}')


def _package(network: str) -> types.ModuleType:
    if network not in NETWORKS:
        raise ValueError(f'--network={network}: unknown; want one of {", ".join(NETWORKS)}')
    return importlib.import_module(f'third_party.{NETWORKS[network]}.convert')


def _params(network: str, path: pathlib.Path) -> dict[str, Any]:
    package = _package(network)
    which = (network,) if isinstance(package.PUBLISHED, Mapping) else ()
    return package.convert(package.read(path, *which), *which)


def _verdict(path: pathlib.Path, digest: str, of: Published) -> str:
    if not of.sha256:
        return f'sha256 {digest}; none is published of {of.file}, so nothing but the tensors says that it is the one'
    if digest.startswith(of.sha256):
        return f'sha256 {digest}, ' + (f'that of {of.witness}; none is published' if of.witness else 'as published')
    if of.witness:
        return (f'sha256 {digest}, not that of {of.witness}, which is {of.sha256}; none is published: the right '
                'tensors, but perhaps not the published ones')
    if path.name == of.file:
        raise ValueError(f'{path} is damaged: its sha256 is {digest}, that of the published {of.file} begins with '
                         f'{of.sha256}; get it again from {of.origin}')
    return (f'sha256 {digest}, not that of the published {of.file}, which begins with {of.sha256}: '
            'the right tensors, but from elsewhere')
