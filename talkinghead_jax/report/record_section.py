"""One prepared record as a section of a page: a clip's frames, mesh and signals, or a picture and its map."""

import html
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from talkinghead_jax import specs
from talkinghead_jax.report import elements, overlays, pictures, signals

FRAMES = 8  # of a clip that are shown
_FRAME_SIZE, _MESH_SIZE = 224, 512  # px, of pictures that are shown smaller: dense displays have more

Record = Mapping[str, Any]
Decode = Callable[[bytes], np.ndarray]


def show(anchor: str, split: str, number: int, record: Record, metadata: Mapping[str, np.ndarray],
         decode: Decode) -> tuple[str, str]:
    """Name and section of a record.

    Args:
      anchor: of the section.
      split: where the record is from.
      number: and under which number, which names a position map.
      record: `specs.CLIP` or `specs.POSITION_MAP`.
      metadata: `triangles`, and `uv_mask` for a position map.
      decode: JPEG -> (S, S, 3) uint8.
    """
    if 'position_map' in record:
        name = f'{split} {number}'
        return name, elements.section(anchor, name, _position_map(record, metadata, decode))
    name = record['clip_id']
    return name, elements.section(anchor, name, _clip(split, record, metadata['triangles'], decode))


def strip(record: Record, most: int = FRAMES) -> list[int]:
    """Frames to show, at most `most` > 3: key frame, closed mouth, one without a face, and others spread evenly."""
    total = len(record['pose'])
    special = {int(record['key_frame']), int(record['closed_mouth_frame'])}
    gaps = signals.gaps(record['detected'])
    if gaps:
        first, last = max(gaps, key=lambda gap: gap[1] - gap[0])
        special.add((first + last) // 2)
    for others in range(most, 0, -1):
        frames = special | set(np.linspace(0, total - 1, others).round().astype(int).tolist())
        if len(frames) <= most:
            break
    return sorted(frames)


def _clip(split: str, record: Record, triangles: np.ndarray, decode: Decode) -> str:
    key = int(record['key_frame'])
    mesh = overlays.mesh(decode(record['video'][key]), np.asarray(record['mesh_vertices']),
                         np.asarray(record['mesh_visibility']) > 0, triangles, _MESH_SIZE)
    frames = ''.join(_frame(record, t, decode) for t in strip(record))
    spoken = f'<p class="spoken">{html.escape(record["transcript"])}</p>' if record['transcript'] else ''
    return (f'<header>{spoken}{elements.definitions(facts(split, record))}</header>'
            f'<div class="views">{_picture(mesh, f"mesh of the key frame, {_seconds(key)}", _key("seen", "hidden"))}'
            f'<div class="frames">{frames}</div></div>'
            + elements.chart(signals.chart(record), f'signals of {record["clip_id"]}', '', dpi=120))


def facts(split: str, record: Record) -> dict[str, str]:
    """Name -> value of what is told about a clip, its preparation's parameters among them."""
    detected, confidence = np.asarray(record['detected']), np.asarray(record['confidence'])
    mean = f'{confidence[detected].mean():.2f}' if detected.any() else '–'
    level = float(record['speech_level'])
    known = {
        'split': split, 'speaker': record['speaker_id'], 'frames': str(len(detected)),
        'length': f'{len(detected) / specs.FRAME_RATE:.2f} s', 'face found in': f'{detected.mean():.1%}',
        'mean confidence': mean, 'speech': f'{20 * np.log10(level / 2 ** 15):.0f} dBFS' if level > 0 else 'silent',
    }
    return known | {name: value for name, value in _preparation(record['preparation']).items() if name not in known}


def _preparation(text: str) -> dict[str, str]:
    """The parameters in readable words, whatever they are: another preparation may have others."""
    try:
        given = json.loads(text)
    except ValueError:
        given = text
    if not isinstance(given, dict):
        return {'preparation': text}
    options = given.pop('options', {})
    if isinstance(options, dict):
        given = {'version': None, **given, **{name: value for name, value in options.items() if name != 'crop'}}
        given['crop'] = ', '.join(filter(None, (options.get('crop', ''), _square(given.get('crop')))))
    given = {'preparation' if name == 'version' else name: value for name, value in given.items()}
    return {name.replace('_', ' '): _words(value) for name, value in given.items() if value not in (None, '')}


def _square(crop: Any) -> str:
    """The crop in the film's pixels."""
    if isinstance(crop, dict) and all(isinstance(crop.get(name), int | float) for name in ('left', 'top', 'side')):
        return f'{crop["side"]:g} px square at ({crop["left"]:g}, {crop["top"]:g})'
    return _words(crop or '')


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{name} {_words(item)}' for name, item in value.items())
    if isinstance(value, list) and len(value) > 4:
        return f'{len(value)} values'
    return ', '.join(map(_words, value)) if isinstance(value, list) else str(value)


def _frame(record: Record, t: int, decode: Decode) -> str:
    found = bool(record['detected'][t])
    marks = [text for text, true in (('key frame', t == record['key_frame']),
                                     ('mouth most closed', t == record['closed_mouth_frame'])) if true]
    caption = ''.join(f'<span class="mark">{text}</span>' for text in marks)
    caption += '' if found else '<span class="mark guessed">face not found</span>'
    drawn = overlays.landmarks(decode(record['video'][t]), record['landmarks'][t], found, _FRAME_SIZE)
    return _picture(drawn, _seconds(t), caption)


def _position_map(record: Record, metadata: Mapping[str, np.ndarray], decode: Decode) -> str:
    positions, mask, triangles = record['position_map'], metadata['uv_mask'] > 0, metadata['triangles']
    image, vertices = decode(record['image']), positions[mask]
    if triangles.max(initial=-1) >= len(vertices) or triangles.max(initial=-1) < len(vertices) / 2:
        triangles = np.zeros((0, 3), np.int32)  # those of the dataset's clips, whose mesh is another: dots will do
        towards = np.ones(len(vertices), bool)
    else:
        towards = overlays.facing(vertices, triangles)
    low, high = vertices[:, 2].min(), vertices[:, 2].max()
    mesh = overlays.mesh(image, vertices, towards, triangles, _MESH_SIZE)
    return ('<div class="faces">' + _picture(image, 'picture')
            + _picture(mesh, 'mesh of the map', _key('towards the viewer', 'away'))
            + _picture(overlays.depth(positions, mask, _MESH_SIZE // 2), f'depth, {low:.0f} … {high:.0f} px '
                       '(bright = near)') + '</div>')


def _picture(picture: np.ndarray, name: str, caption: str = '') -> str:
    """A figure; `caption` is HTML after the name."""
    source = pictures.data_url(overlays.jpeg(picture), 'image/jpeg')
    return (f'<figure><img src="{source}" alt="{html.escape(name)}"><figcaption>{html.escape(name)}{caption}'
            '</figcaption></figure>')


def _key(visible: str, hidden: str) -> str:
    """What the colours of a mesh mean."""
    return ''.join(f'<span class="key" style="background:rgb{color}"></span>{text}'
                   for color, text in ((overlays.VISIBLE, visible), (overlays.HIDDEN, hidden)))


def _seconds(t: int) -> str:
    return f'{t / specs.FRAME_RATE:.2f} s'
