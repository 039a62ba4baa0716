"""Table 2 of the paper on VoxCeleb2: landmark-driven, K = 1, 8, 32 references from the first 64 frames.

    launch.py --config=configs/table2_voxceleb2.py --mode=evaluate       # the checkpoint in runs/voxceleb2

One checkpoint of the generator serves every K. Baselines and the published rows stand beside ours. The data are those
of configs/voxceleb2.py.
"""

from ml_collections import ConfigDict

from configs import voxceleb2


def get_config() -> ConfigDict:
    """VoxCeleb2's config, evaluated by this protocol only."""
    config = voxceleb2.get_config()
    config.evaluation.update({'protocols': ('landmark_driven',), 'references': (1, 8, 32)})
    return config
