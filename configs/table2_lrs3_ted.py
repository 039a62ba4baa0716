"""Table 2 of the paper on LRS3-TED: landmark-driven, K = 1, 8, 32 references from the first 64 frames.

    launch.py --config=configs/table2_lrs3_ted.py --mode=evaluate       # the checkpoint in runs/lrs3_ted

One checkpoint of the generator serves every K. Baselines and the published rows stand beside ours. The data are those
of configs/lrs3_ted.py.
"""

from ml_collections import ConfigDict

from configs import lrs3_ted


def get_config() -> ConfigDict:
    """LRS3-TED's config, evaluated by this protocol only."""
    config = lrs3_ted.get_config()
    config.evaluation.update({'protocols': ('landmark_driven',), 'references': (1, 8, 32)})
    return config
