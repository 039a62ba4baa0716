"""Which flags of `--mode=generate` go together, and what counts as done."""

import json

import pytest

from talkinghead_jax.errors import UserError
from talkinghead_jax.synthesis import request


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / 'clip.mp4'
    path.write_bytes(b'film')
    return str(path)


@pytest.mark.parametrize(('names', 'options'), [
    ((), {}),
    (('source', 'audio'), {'pose': 'still', 'preprocess': 'full', 'output': 'a.mkv'}),
    (('source', 'driving'), {'finetune_steps': 9, 'finetune_size': 128}),
    (('source', 'audio', 'ref_pose'), {'pose': 'reference'}),
])
def test_what_goes_together_is_accepted(clip, names, options):
    request.check(dict.fromkeys(names, clip), **options)


@pytest.mark.parametrize(('names', 'options', 'words'), [
    (('audio',), {}, '--audio needs --source'),
    (('source',), {}, '--source needs --audio'),
    (('source', 'audio', 'driving'), {}, 'exclude each other'),
    (('source', 'driving'), {'pose': 'still'}, '--driving brings its own head pose'),
    (('source', 'driving', 'ref_pose'), {}, '--driving brings its own head pose'),
    (('source', 'audio'), {'pose': 'reference'}, 'want --ref_pose=CLIP'),
    ((), {'preprocess': 'full'}, 'the picture of --source'),
    (('source', 'audio'), {'finetune_size': 128}, '--finetune_size=128 needs --finetune_steps'),
    ((), {'output': 'film.avi'}, r'--output=film.avi: want a name that ends in .mp4, .mov or .mkv'),
])
def test_what_does_not_is_refused(clip, names, options, words):
    with pytest.raises(UserError, match=words):
        request.check(dict.fromkeys(names, clip), **options)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r'--source=nowhere\.mp4: no such file'):
        request.check({'source': 'nowhere.mp4'})


def test_a_video_is_current_only_with_its_comparison_and_the_same_record(tmp_path):
    output, record = tmp_path / 'out.mp4', {'seed': 0, 'sizes': (1, 2)}
    for path in (output, request.concat_path(output)):
        assert not request.is_current(output, record)
        path.write_bytes(b'film')
    output.with_suffix('.provenance.json').write_text(json.dumps(record))
    assert request.concat_path(output).name == 'out_concat.mp4'
    assert request.is_current(output, record)
    assert not request.is_current(output, {**record, 'seed': 1})
