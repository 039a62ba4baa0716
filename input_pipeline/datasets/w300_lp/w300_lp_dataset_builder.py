"""TFDS builder of 300W-LP (training) and AFLW2000-3D (test): pictures with UV position maps."""

import functools
import hashlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from input_pipeline import fingerprints, position_map_mesh, position_maps
from input_pipeline.datasets import trees
from input_pipeline.datasets.builder import CachedRecordsBuilder, position_map_features
from input_pipeline.pool import Job
from talkinghead_jax.errors import UserError

FACES, TEST, MODEL = '300W_LP', 'AFLW2000', 'BFM'  # folders
SETS = tuple(f'{name}{mirrored}' for name in ('AFW', 'HELEN', 'IBUG', 'LFPW') for mirrored in ('', '_Flip'))


class Picture(NamedTuple):
    """A picture and its parameters: `path` lacks the suffix, .jpg or .mat."""

    split: str
    name: str
    path: str


class Builder(CachedRecordsBuilder):
    """Faces in all poses with their position maps, from fitted parameters of the Basel Face Model."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    In one folder, as published: 300W_LP/AFW/AFW_134212_1_0.jpg with AFW_134212_1_0.mat beside it, and so on for
    AFW, HELEN, IBUG, LFPW, AFW_Flip, HELEN_Flip, IBUG_Flip, LFPW_Flip; AFLW2000/image00002.jpg with image00002.mat,
    and so on, for the test. In another (BFM/ in the first for `tfds build`): BFM.mat and BFM_UV.mat, the Basel Face
    Model as face3d's examples/Data/BFM/generate.py makes them.
    """
    BUILDER_CONFIGS = [  # noqa: RUF012 (TFDS reads it from the class)
        tfds.core.BuilderConfig(name='position_maps', description='Single faces with their UV position maps.'),
    ]
    PLACES = ('media', 'bfm')

    @classmethod
    def default_settings(cls) -> dict[str, Any]:
        """Full size, with everything in TFDS's folder for manual downloads."""
        return {'media': '', 'bfm': '', 'image_size': 256, 'version': position_maps.VERSION}

    @classmethod
    def settings_of(cls, config: ConfigDict) -> dict[str, Any]:
        """`config.image_size`, and where pictures and face model lie."""
        return {'media': config.data.media, 'bfm': config.data.bfm, 'image_size': config.image_size,
                'version': position_maps.VERSION}

    def jobs(self) -> list[Job]:
        """One file a picture, so that a broken one takes none with it."""
        return self._jobs

    @functools.cached_property
    def _jobs(self) -> list[Job]:
        for name, wanted in (('media', 'the folder that holds 300W_LP and AFLW2000'),
                             ('bfm', 'the folder of BFM.mat and BFM_UV.mat')):
            if not self.settings[name] or not os.path.isdir(self.settings[name]):
                raise UserError(f'config.data.{name} is {self.settings[name]!r}; want {wanted}')
        found, size, folder = pictures(self.settings['media']), self.settings['image_size'], self.settings['bfm']
        position_maps.open_space(folder, size)  # what is wrong with it shows before hours of work
        files = [f'{picture.path}{suffix}' for picture in found for suffix in ('.jpg', '.mat')]
        content = fingerprints.recognise_all(files, self.cache)
        model, jobs = position_maps.fingerprint(folder), []
        for i, picture in enumerate(found):
            name = fingerprints.digest(files=content[2 * i:2 * i + 2], name=picture.name, model=model, size=size,
                                       version=self.settings['version'])
            make = functools.partial(position_maps.write_record, number=_number(picture.name), picture=files[2 * i],
                                     parameters=files[2 * i + 1], folder=folder, size=size)
            jobs.append(Job(picture.split, files[2 * i], f'maps/{name[:2]}/{name}.npz', make, picture.name))
        return jobs

    def topology(self) -> dict[str, np.ndarray]:
        """Mask, weights of the loss, and the triangles between neighbouring pixels of the mask."""
        space = position_maps.open_space(self.settings['bfm'], self.settings['image_size'])
        return {'triangles': position_map_mesh.neighbours(np.flatnonzero(space.mask), len(space.mask)),
                'uv_mask': space.mask, 'uv_weight': space.weight}

    def _info(self) -> tfds.core.DatasetInfo:
        features = position_map_features(self.settings['image_size'])  # without reading the face model
        return self.dataset_info_from_configs(features=features, disable_shuffling=False)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        if not self.settings['media']:
            self.settings.update(media=str(dl_manager.manual_dir), bfm=str(dl_manager.manual_dir / MODEL))
        return super()._split_generators(dl_manager)


def pictures(root: str | os.PathLike) -> list[Picture]:
    """Every picture of the published trees, in a fixed order; also one whose .jpg or .mat is missing.

    Args:
      root: the folder 300W_LP, or the one that holds it; AFLW2000 lies in either, or is left out.

    Raises:
      UserError: there is no picture of 300W-LP, or a folder cannot be read.
    """
    root = pathlib.Path(root)
    faces = next((folder for folder in (root / FACES, root) if set(SETS) & {*trees.listing(folder)[0]}), None)
    if faces is None:
        raise UserError(f'{root} holds none of the folders of 300W-LP ({", ".join(SETS)}, in {FACES} or by '
                        'themselves); want config.data.media to be where its archive was unpacked')
    test = next((folder for folder in (root / TEST, faces / TEST, faces.parent / TEST) if folder.is_dir()), None)
    folders = [('train', faces / name) for name in SETS] + ([('test', test)] if test else [])
    found = []
    for split, folder in folders:
        files = map(os.path.splitext, trees.listing(folder)[1])
        names = sorted({stem for stem, suffix in files if suffix in ('.jpg', '.mat')})
        found += [Picture(split, f'{folder.name}/{name}', str(folder / name)) for name in names]
    if not any(picture.split == 'train' for picture in found):
        raise UserError(f'{faces} holds no picture; want {faces / SETS[0] / "NAME.jpg"} with NAME.mat beside it')
    return found


def _number(name: str) -> int:
    """What the dataset knows a picture by: 60 bits of its name's hash, so that no other picture matters."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:15], 16)
