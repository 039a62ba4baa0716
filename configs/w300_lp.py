"""The unprojection network on 300W-LP at full size: PRNet's network, data and loss (Feng et al., ECCV 2018).

    launch.py --config=configs/w300_lp.py --mode=prepare --config.data.media=DIR --config.data.bfm=BFM
    launch.py --config=configs/w300_lp.py --config.dtype=bfloat16                   # trains
    launch.py --config=configs/w300_lp.py --mode=evaluate                           # on AFLW2000-3D

Tree: DIR/300W_LP/{AFW,HELEN,IBUG,LFPW,AFW_Flip,..}/NAME.jpg with NAME.mat, DIR/AFLW2000/NAME.jpg with NAME.mat,
BFM/BFM.mat, BFM/BFM_UV.mat (input_pipeline/datasets/w300_lp/README.md). Training needs neither folder.
Disk: 0.8 MB a picture, most of it its float32 map: 100 GB of TFRecords in WORKDIR/data, and another 100 GB of cached
records in WORKDIR/data/cache, which may go when preparation is done; floats of 16 bits would not tell neighbouring
pixels of the crop apart finely enough.
Preparation: 30 ms a picture on one core (with a random face model of the published size), so 1.0 core-hours, and
0.9 GB of memory a process. Training: 200,000 steps of 16 pictures, 26 epochs, on one accelerator.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = 'unprojection') -> ConfigDict:
    """The config; `argument` can only be 'unprojection', the one stage that these data can train."""
    if argument != 'unprojection':
        raise ValueError(f'unknown stage {argument!r}; 300W-LP has single pictures, which train only unprojection')
    config = common.base('w300_lp')
    config.data.dataset = 'w300_lp'
    config.unprojection.data.update({'shift': 20.0, 'scale': 0.15})  # its faces are in all poses and places
    common.select(config, argument)
    return config
