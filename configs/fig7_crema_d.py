"""Fig. 7 of the paper: expressions on CREMA-D, as a picture of the same moments by every method.

    launch.py --config=configs/fig7_crema_d.py --mode=evaluate       # the checkpoints in runs/crema_d

writes WORKDIR/evaluation/audio_driven/grid.png beside the tables. The paper sets its frames beside those of
Vougioukas et al.: with --generated=NAME=DIR for each of several methods and --truth=DIR, videos of any method are
drawn in one grid, in WORKDIR/evaluation/folders. The data are those of configs/crema_d.py.
"""

from ml_collections import ConfigDict

from configs import crema_d


def get_config() -> ConfigDict:
    """CREMA-D's config, evaluated by this protocol only, with a grid of nine clips."""
    config = crema_d.get_config()
    config.evaluation.update({'protocols': ('audio_driven',), 'poses': ('true', 'phi', 'still'), 'grid': 9})
    return config
