"""Table 1 of the paper on VoxCeleb2: audio-driven, one reference, the key frame.

    launch.py --config=configs/table1_voxceleb2.py --mode=evaluate       # the checkpoints in runs/voxceleb2

Rows: true head motion (the headline), head motion by Phi, still head; baselines and the published rows beside them.
It wants checkpoints of the generator and of `expression`, and for Phi's row of `head_motion`. The data are those of
configs/voxceleb2.py.
"""

from ml_collections import ConfigDict

from configs import voxceleb2


def get_config() -> ConfigDict:
    """VoxCeleb2's config, evaluated by this protocol only."""
    config = voxceleb2.get_config()
    config.evaluation.update({'protocols': ('audio_driven',), 'poses': ('true', 'phi', 'still')})
    return config
