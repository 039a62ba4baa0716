"""The paper's Tables 1 and 2 as data: to stand beside our numbers, marked as published.

Chen et al., Talking-head Generation with Rhythmic Head Motion, ECCV 2020, Section 6. Years are those of its
references. 'Chen et al. 2020' is the paper itself.
"""

from collections.abc import Mapping

Row = tuple[str, dict[str, float]]

TABLES: Mapping[str, str] = {'audio_driven': 'Table 1', 'landmark_driven': 'Table 2'}

_TABLE_1 = ('LMD', 'CSIM', 'SSIM', 'FID')
_TABLE_2 = ('SSIM', 'CSIM', 'FID')

_PUBLISHED: Mapping[tuple[str, str], tuple[tuple[str, ...], tuple[tuple[str, tuple[float, ...]], ...]]] = {
    ('audio_driven', 'lrw'): (_TABLE_1, (
        ('Chung et al. 2017', (3.15, 0.44, 0.91, 132)),
        ('Chen et al. 2019', (3.27, 0.38, 0.84, 151)),
        ('Vougioukas et al. 2019', (3.62, 0.35, 0.88, 116)),
        ('Chen et al. 2020 (K = 1)', (3.13, 0.49, 0.76, 62)),
    )),
    ('audio_driven', 'voxceleb2'): (_TABLE_1, (
        ('Chung et al. 2017', (5.4, 0.29, 0.79, 159)),
        ('Chen et al. 2019', (4.9, 0.31, 0.82, 142)),
        ('Vougioukas et al. 2019', (6.3, 0.33, 0.85, 127)),
        ('Chen et al. 2020 (K = 1)', (3.37, 0.42, 0.74, 47)),
    )),
    ('landmark_driven', 'lrs3_ted'): (_TABLE_2, (
        ('Wiles et al. 2018', (0.57, 0.28, 172)),
        ('Chen et al. 2019', (0.66, 0.31, 294)),
        ('Zakharov et al. 2019 (K = 1)', (0.56, 0.27, 361)),
        ('Wang et al. 2019 (K = 1)', (0.59, 0.33, 161)),
        ('Chen et al. 2020 (K = 1)', (0.71, 0.37, 354)),
        ('Zakharov et al. 2019 (K = 8)', (0.65, 0.32, 284)),
        ('Wang et al. 2019 (K = 8)', (0.68, 0.36, 144)),
        ('Chen et al. 2020 (K = 8)', (0.76, 0.41, 324)),
        ('Zakharov et al. 2019 (K = 32)', (0.72, 0.41, 154)),
        ('Wang et al. 2019 (K = 32)', (0.69, 0.40, 132)),
        ('Chen et al. 2020 (K = 32)', (0.79, 0.44, 122)),
    )),
    ('landmark_driven', 'voxceleb2'): (_TABLE_2, (
        ('Wiles et al. 2018', (0.65, 0.31, 117.3)),
        ('Chen et al. 2019', (0.61, 0.39, 107.2)),
        ('Zakharov et al. 2019 (K = 1)', (0.64, 0.42, 88.0)),
        ('Wang et al. 2019 (K = 1)', (0.69, 0.48, 59.4)),
        ('Chen et al. 2020 (K = 1)', (0.71, 0.44, 40.8)),
        ('Zakharov et al. 2019 (K = 8)', (0.71, 0.54, 62.6)),
        ('Wang et al. 2019 (K = 8)', (0.72, 0.53, 42.6)),
        ('Chen et al. 2020 (K = 8)', (0.71, 0.50, 37.1)),
        ('Zakharov et al. 2019 (K = 32)', (0.75, 0.54, 51.8)),
        ('Wang et al. 2019 (K = 32)', (0.73, 0.60, 41.4)),
        ('Chen et al. 2020 (K = 32)', (0.78, 0.58, 35.7)),
    )),
}


def published(protocol: str, dataset: str) -> list[Row]:
    """The paper's rows for a protocol and a dataset, in its order: (label, {column: value}).

    Args:
      protocol: 'audio_driven' (Table 1) or 'landmark_driven' (Table 2); of others there are none.
      dataset: 'lrw', 'voxceleb2' or 'lrs3_ted'; of others there are none.

    Returns:
      [] where the paper has no such table.
    """
    columns, rows = _PUBLISHED.get((protocol, dataset), ((), ()))
    return [(label, dict(zip(columns, map(float, values), strict=True))) for label, values in rows]
