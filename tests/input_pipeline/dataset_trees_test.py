"""What the readers of the published datasets find in miniature trees of empty files."""

import re

import pytest

from input_pipeline.datasets import trees
from input_pipeline.datasets.builder import builder_class
from input_pipeline.datasets.w300_lp import w300_lp_dataset_builder
from talkinghead_jax.errors import UserError

DATASETS = ('voxceleb2', 'lrs3_ted', 'lrw', 'grid', 'crema_d')


def _grow(root, *names, **texts):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts.get(path.suffix[1:], ''))


def _found(dataset, root):
    """The sources, with paths relative to `root`."""
    return [tuple(value.removeprefix(f'{root}/') for value in source)
            for source in builder_class(dataset).sources(root)]


def test_voxceleb2(tmp_path):
    _grow(tmp_path,
          'dev/mp4/id00012/21Uxsk56VDQ/00001.mp4', 'dev/mp4/id00012/21Uxsk56VDQ/00002.mp4',
          'dev/mp4/id00012/_-x/00001.mp4', 'dev/mp4/id00015/0fijmz4vTVU/00003.mp4',
          'dev/aac/id00012/21Uxsk56VDQ/00002.m4a', 'dev/aac/id00015/0fijmz4vTVU/00003.wav',
          'dev/mp4/id00012/21Uxsk56VDQ/00002.wav',  # beside the video: media.audio_for knows it
          'dev/mp4/id00012/21Uxsk56VDQ/._00001.mp4', 'dev/mp4/.DS_Store', 'dev/mp4/id00012/.cache/00009.mp4',
          'dev/mp4/id00012/21Uxsk56VDQ/00001_aligned.mp4', 'dev/mp4/id00012/21Uxsk56VDQ/00001.txt',
          'dev/mp4/lists/a/00001.mp4', 'vox2_meta.csv',
          'test/mp4/id00017/01dfn2spqyE/00001.mp4', 'test/aac/id00017/01dfn2spqyE/00001.m4a')
    assert _found('voxceleb2', tmp_path) == [
        ('dev/mp4/id00012/21Uxsk56VDQ/00001.mp4', 'train', 'id00012/21Uxsk56VDQ/00001', 'id00012', '', ''),
        ('dev/mp4/id00012/21Uxsk56VDQ/00002.mp4', 'train', 'id00012/21Uxsk56VDQ/00002', 'id00012',
         'dev/aac/id00012/21Uxsk56VDQ/00002.m4a', ''),
        ('dev/mp4/id00012/_-x/00001.mp4', 'train', 'id00012/_-x/00001', 'id00012', '', ''),
        ('dev/mp4/id00015/0fijmz4vTVU/00003.mp4', 'train', 'id00015/0fijmz4vTVU/00003', 'id00015',
         'dev/aac/id00015/0fijmz4vTVU/00003.wav', ''),
        ('test/mp4/id00017/01dfn2spqyE/00001.mp4', 'test', 'id00017/01dfn2spqyE/00001', 'id00017',
         'test/aac/id00017/01dfn2spqyE/00001.m4a', ''),
    ]


def test_voxceleb2_as_the_test_archives_unpack_and_without_folders_of_the_kind(tmp_path):
    _grow(tmp_path, 'dev/id00012/21Uxsk56VDQ/00001.mp4', 'dev/aac/id00012/21Uxsk56VDQ/00001.m4a',
          'mp4/id00017/01dfn2spqyE/00001.mp4', 'aac/id00017/01dfn2spqyE/00001.m4a')
    assert _found('voxceleb2', tmp_path) == [
        ('dev/id00012/21Uxsk56VDQ/00001.mp4', 'train', 'id00012/21Uxsk56VDQ/00001', 'id00012',
         'dev/aac/id00012/21Uxsk56VDQ/00001.m4a', ''),
        ('mp4/id00017/01dfn2spqyE/00001.mp4', 'test', 'id00017/01dfn2spqyE/00001', 'id00017',
         'aac/id00017/01dfn2spqyE/00001.m4a', ''),
    ]
    for speaker in range(119):
        (tmp_path / f'mp4/id{speaker:05d}').mkdir(exist_ok=True)
    with pytest.raises(UserError, match='119 speakers, more than the 118 of the test set; want the development set'):
        _found('voxceleb2', tmp_path)


def test_voxceleb2_with_one_clip_in_two_places(tmp_path):
    _grow(tmp_path, 'test/mp4/id00017/a/00001.mp4', 'mp4/id00017/a/00001.mp4')
    with pytest.raises(UserError, match=r'test/mp4/id00017/a/00001.mp4 .* are both the clip id00017/a/00001; want'):
        _found('voxceleb2', tmp_path)


def test_lrs3_ted(tmp_path):
    words = 'Text:  AND THEN   IT IS GONE\nConf:  4\n'
    timed = words + '\nWORD START END ASDSCORE\nAND 0.1 0.2 4.2\n'
    _grow(tmp_path, 'pretrain/00j9bKdiOjk/00001.mp4', 'pretrain/00j9bKdiOjk/00001.txt', txt=timed)
    _grow(tmp_path, 'trainval/00j9bKdiOjk/50001.mp4', 'trainval/00j9bKdiOjk/50001.txt',
          'trainval/00j9bKdiOjk/50002.mp4', 'trainval/00j9bKdiOjk/50001_crop.mp4', 'trainval/00j9bKdiOjk/._50001.mp4',
          'test/-x/00001.mp4', 'test/-x/00001.txt', 'test/.DS_Store', 'lrs3_v0.4.txt', txt=words)
    _grow(tmp_path, 'test/-x/00002.mp4', 'test/-x/00002.txt', txt='no such line\n')
    (tmp_path / 'trainval/00j9bKdiOjk/50002.txt').symlink_to('nowhere')  # as good as no text
    assert _found('lrs3_ted', tmp_path) == [
        ('pretrain/00j9bKdiOjk/00001.mp4', 'train', 'pretrain/00j9bKdiOjk/00001', '00j9bKdiOjk', '',
         'AND THEN IT IS GONE'),
        ('test/-x/00001.mp4', 'test', 'test/-x/00001', '-x', '', 'AND THEN IT IS GONE'),
        ('test/-x/00002.mp4', 'test', 'test/-x/00002', '-x', '', ''),
        ('trainval/00j9bKdiOjk/50001.mp4', 'train', 'trainval/00j9bKdiOjk/50001', '00j9bKdiOjk', '',
         'AND THEN IT IS GONE'),
        ('trainval/00j9bKdiOjk/50002.mp4', 'train', 'trainval/00j9bKdiOjk/50002', '00j9bKdiOjk', '', ''),
    ]


@pytest.mark.parametrize('root', ['', 'lipread_mp4/'])
def test_lrw(tmp_path, root):
    _grow(tmp_path, *(f'{root}{name}' for name in (
        'ABOUT/train/ABOUT_00001.mp4', 'ABOUT/train/ABOUT_00001.txt', 'ABOUT/train/._ABOUT_00001.mp4',
        'ABOUT/train/ABOUT_00001_crop.mp4', 'ABOUT/train/OTHER_00001.mp4', 'ABOUT/more/ABOUT_00001.mp4',
        'ABOUT/val/ABOUT_00001.mp4', 'ABOUT/test/ABOUT_00050.mp4', 'YOUNG/test/YOUNG_00001.mp4')))
    named = [('ABOUT/test/ABOUT_00050', 'test', 'ABOUT'), ('ABOUT/train/ABOUT_00001', 'train', 'ABOUT'),
             ('ABOUT/val/ABOUT_00001', 'validation', 'ABOUT'), ('YOUNG/test/YOUNG_00001', 'test', 'YOUNG')]
    assert _found('lrw', tmp_path) == [(f'{root}{name}.mp4', split, name, name, '', word)
                                       for name, split, word in named]


def test_grid(tmp_path):
    spoken = '0 9000 sil\n9000 14000 bin\n14000 19000 blue\n19000 20000 sp\n20000 21000 at\n21000 24000 f\n' \
             '24000 29000 two\n29000 36000 now\n36000 74500 sil\n'
    _grow(tmp_path, 's1/align/bbaf2n.align', align=spoken)
    _grow(tmp_path, 's3/align/brbk7n.align', align='0 74500 sil\n')
    _grow(tmp_path,
          's1/bbaf2n.mpg', 's1/video/mpg_6000/bbaf2n.mpg',  # the better film wins
          's1/bbaf2n.mp4', 's1/bbaf2n_crop.mpg', 's1/._bbaf2n.mpg', 's1/notes.mpg', 's1/Thumbs.db',
          's3/brbk7n.mpg', 's3/brbk7n.mp4',  # the publisher's format wins
          's3/video/lrwz9a.mpg', 'video/s20/video/mpg_6000/pwwk1p.mpg', 's20/pwwk1p.mpg', 'video/s22/sgizzs.mpg',
          'audio_50k/s1/bbaf2n.wav', 'audio_25k/s3/brbk7n.wav', 's3_50kHz/lrwz9a.wav', 's1/bbaf2n.wav',
          's21/audio/bbaf2n.wav', 'bgbb1a.mpg')
    assert _found('grid', tmp_path) == [
        ('s1/video/mpg_6000/bbaf2n.mpg', 'test', 's1/bbaf2n', 's1', 'audio_50k/s1/bbaf2n.wav',
         'bin blue at f two now'),
        ('s3/brbk7n.mpg', 'train', 's3/brbk7n', 's3', '', 'bin red by k seven now'),
        ('s3/video/lrwz9a.mpg', 'train', 's3/lrwz9a', 's3', 's3_50kHz/lrwz9a.wav', 'lay red with z nine again'),
        ('video/s20/video/mpg_6000/pwwk1p.mpg', 'test', 's20/pwwk1p', 's20', '', 'place white with k one please'),
        ('video/s22/sgizzs.mpg', 'test', 's22/sgizzs', 's22', '', 'set green in z zero soon'),
    ]


def test_crema_d(tmp_path):
    _grow(tmp_path,
          'VideoFlash/1001_DFA_ANG_XX.flv', 'VideoFlash/1001_IEO_HAP_HI.flv', 'VideoFlash/1040_ITH_SAD_X.flv',
          'VideoMP4/1001_IEO_HAP_HI.mp4', 'video/mp4/1074_TIE_NEU_XX.mp4', 'VideoFlash/1083_WSI_FEA_LO.flv',
          'AudioWAV/1001_DFA_ANG_XX.wav', 'AudioWAV/1001_IEO_HAP_HI.wav', 'AudioWAV/1040_ITH_SAD_XX.wav',
          'AudioMP3/1083_WSI_FEA_LO.mp3', 'AudioWAV/1091_WSI_FEA_LO.wav',
          'VideoFlash/._1001_DFA_ANG_XX.flv', 'VideoFlash/1001_DFA_ANG_XX_crop.mp4', 'VideoFlash/1001_ABC_ANG_XX.flv',
          'VideoFlash/1092_DFA_ANG_XX.flv', 'VideoFlash/1001_DFA_ANG_QQ.flv', '.git/1002_DFA_ANG_XX.flv',
          'SentenceFilenames.csv')
    assert _found('crema_d', tmp_path) == [
        ('VideoFlash/1001_DFA_ANG_XX.flv', 'train', '1001_DFA_ANG_XX', '1001', 'AudioWAV/1001_DFA_ANG_XX.wav',
         "Don't forget a jacket."),
        ('VideoFlash/1040_ITH_SAD_X.flv', 'train', '1040_ITH_SAD_XX', '1040', 'AudioWAV/1040_ITH_SAD_XX.wav',
         "I think I have a doctor's appointment."),
        ('VideoFlash/1083_WSI_FEA_LO.flv', 'test', '1083_WSI_FEA_LO', '1083', '',
         "We'll stop in a couple of minutes."),
        ('VideoMP4/1001_IEO_HAP_HI.mp4', 'train', '1001_IEO_HAP_HI', '1001', 'AudioWAV/1001_IEO_HAP_HI.wav',
         "It's eleven o'clock."),
        ('video/mp4/1074_TIE_NEU_XX.mp4', 'validation', '1074_TIE_NEU_XX', '1074', '',
         'That is exactly what happened.'),
    ]


@pytest.mark.parametrize('dataset', DATASETS)
def test_another_tree_is_refused_in_one_sentence(dataset, tmp_path):
    with pytest.raises(UserError, match=re.escape(f'{tmp_path} holds nothing; want ')):
        _found(dataset, tmp_path)
    _grow(tmp_path, *(f'somebody/{i}.mp4' for i in range(2)), *(f'clip{i}.mp4' for i in range(4)))
    with pytest.raises(UserError) as caught:
        _found(dataset, tmp_path)
    wanted = ' '.join(builder_class(dataset).MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    found = 'somebody, clip0.mp4, clip1.mp4, clip2.mp4 and 1 more'
    assert str(caught.value) == f'{tmp_path} holds {found}; want {wanted}'


@pytest.mark.parametrize('dataset', DATASETS)
def test_a_readme_names_the_config(dataset):
    assert f'configs/{dataset}.py' in builder_class(dataset).get_metadata().description


def test_folder_of_clips(tmp_path):
    _grow(tmp_path, 'loose.mp4', 'train.mov', 'Zoë/b/clip.v2.MP4', 'Zoë/a.webm', 'Zoë/notes.txt', 'Zoë/.a.mp4',
          '.Trash/gone.mp4', 'test/Ann/c.mpg', 'validation/d.flv', 'Ann/test/e.mkv')
    (tmp_path / 'Ann/film.mp4').mkdir()
    assert _found('folder_of_clips', tmp_path) == [
        ('Ann/test/e.mkv', 'train', 'Ann/test/e', 'Ann', '', ''),
        ('Zoë/a.webm', 'train', 'Zoë/a', 'Zoë', '', ''),
        ('Zoë/b/clip.v2.MP4', 'train', 'Zoë/b/clip.v2', 'Zoë', '', ''),
        ('loose.mp4', 'train', 'loose', 'loose', '', ''),
        ('test/Ann/c.mpg', 'test', 'Ann/c', 'Ann', '', ''),
        ('train.mov', 'train', 'train', 'train', '', ''),
        ('validation/d.flv', 'validation', 'd', 'd', '', ''),
    ]
    _grow(tmp_path, 'Ann/c.mp4')
    with pytest.raises(UserError, match=r'Ann/c\.mp4 and .*test/Ann/c\.mpg are both the clip Ann/c; want only one'):
        _found('folder_of_clips', tmp_path)


@pytest.fixture
def denied(tmp_path, monkeypatch):
    """A folder that nobody may read."""
    _grow(tmp_path, 'Ann/AFW/b.mp4', 'Zoë/a.mp4', 'Ann/AFW/AFW_1.jpg', 'Ann/AFW/AFW_1.mat')
    folder, scan = tmp_path / 'Ann/AFW', trees.os.scandir

    def guarded(path):
        if str(path) == str(folder):
            raise PermissionError(13, 'Permission denied')
        return scan(path)

    monkeypatch.setattr(trees.os, 'scandir', guarded)
    return folder


def test_a_folder_that_cannot_be_read_is_told_in_one_sentence(denied):
    assert trees.listing(denied.parent / 'nowhere') == ([], [])
    sentence = f'cannot read the folder {denied}: Permission denied; want one that can be read'
    with pytest.raises(UserError) as caught:
        w300_lp_dataset_builder.pictures(denied.parent)
    assert str(caught.value) == sentence
    for dataset in ('folder_of_clips', 'grid', 'crema_d'):  # its clips would be lost without a word
        with pytest.raises(UserError) as caught:
            _found(dataset, denied.parents[1])
        assert str(caught.value) == sentence
