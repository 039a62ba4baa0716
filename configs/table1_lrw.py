"""Table 1 of the paper on LRW: audio-driven, one reference, the key frame.

    launch.py --config=configs/table1_lrw.py --mode=evaluate       # the checkpoints in runs/lrw

Rows: true head motion (the headline), head motion by Phi, still head; baselines and the published rows beside them.
Phi is not trained on clips of 29 frames: without a checkpoint of it, its row says so. The data are those of
configs/lrw.py, of whose 25,000 test clips all are taken: --config.evaluation.clips=1000 takes so many, spread evenly.
"""

from ml_collections import ConfigDict

from configs import lrw


def get_config() -> ConfigDict:
    """LRW's config, evaluated by this protocol only."""
    config = lrw.get_config()
    config.evaluation.update({'protocols': ('audio_driven',), 'poses': ('true', 'phi', 'still')})
    return config
