"""The tables of an evaluation of whole videos in every format, read back by independent readers."""

import csv
import json
import re

import numpy as np
import pytest
from protocol_results import CLIP_METRICS, FRAME_METRICS, MISSING, POOLED, make_results

from talkinghead_jax.errors import UserError
from talkinghead_jax.metrics.intervals import bootstrap
from talkinghead_jax.protocols import published
from talkinghead_jax.protocols.results import TRUTH
from talkinghead_jax.report import protocol_model, protocol_tables

HOSTILE = 'a_b & 50% {#1} \\x $y$ ~^ | <i> [z], "q" *s*'
PUBLISHED = published.published('audio_driven', 'voxceleb2')


@pytest.fixture(scope='module', name='results')
def _results():
    results = make_results()
    return make_results(labels={**results.labels, 'phi': HOSTILE})


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory, results):
    folder = tmp_path_factory.mktemp('tables')
    (folder / 'printed.txt').write_text(protocol_tables.write(folder, results))
    return folder


def read_csv(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_number_its_interval_and_its_clips(folder, results):
    found = {(line['row'], line['metric']): line for line in read_csv(folder / 'table.csv')
             if line['kind'] in ('ours', 'baseline')}
    assert len(found) == 3 * 7 + 1
    for (row, metric), line in found.items():
        assert float(line['mean']) == pytest.approx(results.mean(row, metric), rel=1e-12)
        assert line['kind'] == ('baseline' if row in results.baselines else 'ours')
        if metric != POOLED:
            want = bootstrap(results.per_clip[row][metric], results.clips['speaker_id'])
            assert [float(line['low']), float(line['high'])] == [want.low, want.high]
    assert found['phi', 'lmd@mean20-mediapipe']['clips'] == '5'
    assert found['true', POOLED]['low'] == ''
    assert found['phi', 'ssim@authors']['label'] == HOSTILE
    assert {(line['row'], line['metric']) for line in found.values() if line['best'] == '1'} == {
        ('true', metric) for metric in (*FRAME_METRICS, POOLED, 'rotation_deg')} | {('phi', 'beat_gain')}


def test_csv_marks_the_published_and_the_missing(folder):
    lines = read_csv(folder / 'table.csv')
    of_paper = [line for line in lines if line['kind'] == 'published']
    assert len(of_paper) == 4 * 4
    assert {(line['label'], line['metric']): float(line['mean']) for line in of_paper}[
        'Chen et al. 2020 (K = 1)', 'lmd@mean20-mediapipe'] == 3.37
    assert [line['mean'] + line['low'] + line['note'] for line in lines if line['kind'] == 'not computed'] == [
        'not computed: needs syncnet_v2.model']


def test_json_says_the_same_and_the_recipes(folder, results):
    found = json.loads((folder / 'table.json').read_text())
    rows = {row['row']: row for row in found['rows']}
    for line in read_csv(folder / 'table.csv'):
        if line['kind'] in ('ours', 'baseline'):
            cell = rows[line['row']]['values'][line['metric']]
            assert cell['mean'] == float(line['mean'])
            assert cell['low'] == (float(line['low']) if line['low'] else None)
    assert [row['columns'] for row in found['published']] == [values for _, values in PUBLISHED]
    assert {row['kind'] for row in found['published']} == {'published'}
    assert found['metrics']['csim_gt@mobilefacenet']['weights'] == results.recipes['csim_gt@mobilefacenet']['weights']
    assert not found['metrics'][MISSING]['computed']
    assert all(MISSING not in row['values'] for row in found['rows'])
    assert found['intervals'] == '95 % bootstrap over 3 speakers'
    assert rows[TRUTH]['values'].keys() == {'beat_gain'}


def test_markdown_has_whole_tables_and_the_published_below(folder, results):
    page = (folder / 'table.md').read_text()
    blocks = [block.split('\n') for block in page.strip().split('\n\n') if block.startswith('|')]
    for block in blocks:
        assert len({len(re.findall(r'(?<!\\)\|', line)) for line in block}) == 1
    labels = [re.split(r'(?<!\\)\|', line)[1].strip() for line in blocks[0][2:]]
    assert labels[0] == 'Ours (true pose)'
    assert labels[4:] == [f'{label} (published)' for label, _ in PUBLISHED]
    assert '| **60.0** |' in blocks[0][2]
    assert blocks[0][-1].endswith('| 3.37 | 0.42 | 0.74 | 47 |')
    assert '(5 of 6 clips)' in blocks[0][3]
    assert blocks[0][0] == ('|  | lmd@mean20-mediapipe (px) ↓ | csim_gt@mobilefacenet ↑ | ssim@authors ↑ | '
                            'fid@pytorch-fid ↓ |')
    assert f'| {results.by_yaw["true"]["psnr@rgb"][:, 0, 0].sum() / 275:.1f} (275) |' in page


def test_notes_tell_recipes_hashes_and_what_is_missing(folder, results):
    digest = results.recipes['csim_gt@mobilefacenet']['weights']['mobilefacenet']
    for name in ('table.md', 'table.tex'):
        page = (folder / name).read_text().replace('\\_', '_').replace('{[}', '[')
        for words in (f'weights of mobilefacenet: {digest[:12]}.', 'size: 112 px', '(version 1)', 'over 3 speakers',
                      'lse_c@syncnet: not computed: needs syncnet_v2.model.', 'biased upwards: only 455 frames.',
                      "Published LMD cannot be compared with lmd@mean20-mediapipe: the paper's landmarks are dlib's",
                      'Table 1 of Chen et al. 2020', 'Reference frame: the key frame, repeated.'):
            assert words in page, (name, words)
        assert digest[:13] not in page


def cells_of(row):
    """A row's cells: split at each & that is neither escaped nor in braces."""
    depth, cells, k = 0, [''], 0
    while k < len(row):
        piece = row[k:k + 2] if row[k] == '\\' else row[k]
        depth += (piece == '{') - (piece == '}')
        if piece == '&' and depth == 0:
            cells.append('')
        else:
            cells[-1] += piece
        k += len(piece)
    assert depth == 0
    return cells


def test_latex_is_balanced_and_every_row_has_its_columns(folder):
    source = (folder / 'table.tex').read_text()
    bare = re.sub(r'\\[\\{}$&%#_]', '', source)
    assert bare.count('{') == bare.count('}')
    assert bare.count('$') % 2 == 0
    opened = re.findall(r'\\begin\{(\w+)\}', source)
    assert sorted(opened) == sorted(re.findall(r'\\end\{(\w+)\}', source))
    for columns, body in re.findall(r'\\begin\{tabular\}\{(\w+)\}\n(.*?)\\end\{tabular\}', source, re.S):
        rows = [line for line in body.split('\n') if line and not re.fullmatch(r'\\\w+rule', line)]
        assert rows
        assert all(row.endswith(' \\\\') for row in rows)
        assert {len(cells_of(row[:-3])) for row in rows} == {len(columns)}
    assert '\\textbf{60.0}' in source
    assert ('a\\_b \\& 50\\% \\{\\#1\\} \\textbackslash{}x \\$y\\$ \\textasciitilde{}\\textasciicircum{} $|$ $<$i$>$ '
            '{[}z]') in source
    assert source.count('(published)') == 4
    assert source.isascii()
    unescaped = source.replace('\\shortstack[r]', '').replace('$^\\circ$', '')
    assert not re.search(r'(?<!\\)[#_^~]|(?<!\{)\[', unescaped)


def test_per_clip_rows_are_kept(folder, results):
    lines = read_csv(folder / 'per_clip.csv')
    assert len(lines) == 6 * 4
    assert list(lines[0])[5:] == [*FRAME_METRICS, *CLIP_METRICS]
    phi = [line for line in lines if line['row'] == 'phi']
    assert [line['clip_id'] for line in phi] == results.clips['clip_id'].tolist()
    assert [int(line['frames']) for line in phi] == results.clips['frames'].tolist()
    assert phi[1]['lmd@mean20-mediapipe'] == ''
    for metric in ('ssim@authors', 'rotation_deg'):
        np.testing.assert_array_equal([float(line[metric]) for line in phi], results.per_clip['phi'][metric])


def test_yaw_bins_hold_means_and_frames(folder, results):
    lines = [line for line in read_csv(folder / 'yaw.csv')
             if (line['row'], line['metric']) == ('true', 'ssim@authors')]
    assert [(line['yaw_from_deg'], line['yaw_to_deg'], line['frames']) for line in lines] == [
        ('0.0', '15.0', '275'), ('15.0', '30.0', '120'), ('30.0', '45.0', '60'), ('45.0', '90.0', '0')]
    total = results.by_yaw['true']['ssim@authors'].sum(axis=0)
    np.testing.assert_allclose([float(line['mean']) for line in lines[:3]], total[:3, 0] / total[:3, 1])
    assert lines[3]['mean'] == ''
    kept = json.loads((folder / 'table.json').read_text())['yaw']
    assert {'row': 'true', 'metric': 'ssim@authors', 'from': 45.0, 'to': 90.0, 'mean': None, 'frames': 0} in kept


def test_the_printed_table_is_aligned(folder):
    printed = (folder / 'printed.txt').read_text()
    lines = [line for line in printed.split('\n\n')[0].split('\n') if 'not computed' not in line]
    assert len({len(line) for line in lines if line.endswith('lower')}) == 1
    end = lines[0].index('Ours (true pose)') + len('Ours (true pose)')
    for line in lines[1:]:
        assert line[end - 1] != ' ' or line[end - 2].isdigit() or line[end - 2] in ']–'
    assert re.search(r'lse_c@syncnet +not computed: needs syncnet_v2\.model\n', printed)
    assert re.search(r'fid@pytorch-fid +60\.0\* ', printed)
    assert re.search(r'\npublished, .*LMD +CSIM +SSIM +FID\n', printed)
    assert str(folder / 'table.md') in printed


@pytest.mark.parametrize(('speakers', 'names', 'kind'), [
    (['a', 'a', 'b'], ['a', 'a', 'b'], 'speakers'), (['a', '', 'b'], ['a', 'y', 'b'], 'speakers'),
    (['', '', ''], ['x', 'y', 'z'], 'clips'), (['a', 'a', 'a'], ['x', 'y', 'z'], 'clips')])
def test_intervals_are_over_speakers_where_they_are_known(speakers, names, kind):
    got = protocol_model.groups({'clip_id': np.array(['x', 'y', 'z']), 'speaker_id': np.array(speakers)})
    assert (got[0].tolist(), got[1]) == (names, kind)


def test_folders_of_videos_have_no_published_rows_and_one_method_is_not_best(tmp_path):
    results = make_results(protocol='folders', dataset='', baselines=('phi', 'reference', TRUTH))
    printed = protocol_tables.write(tmp_path, results)
    page = (tmp_path / 'table.md').read_text()
    for shown in (printed, page, (tmp_path / 'table.csv').read_text(), (tmp_path / 'table.tex').read_text()):
        assert 'published' not in shown.lower()
    assert '**' not in page
    assert page.startswith('# folders: 6 clips')


def test_a_column_of_the_paper_stays_where_our_metric_was_not_computed(tmp_path):
    results = make_results(notes={POOLED: 'not computed: needs inception.pth'})
    for of in results.pooled.values():
        of.clear()
    protocol_tables.write(tmp_path, results)
    page = (tmp_path / 'table.md').read_text()
    assert re.search(r'\| Ours \(true pose\) .*\| – \|\n', page)
    assert '| 0.74 | 47 |' in page
    assert '- fid@pytorch-fid: not computed: needs inception.pth.\n' in page


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=re.escape(str(tmp_path / 'file'))):
        protocol_tables.write(tmp_path / 'file' / 'folder', make_results())
