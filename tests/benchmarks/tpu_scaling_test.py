"""What the scaling page is computed from: a compiled program's text, bytes over links, the largest batch."""

import json

import pytest

from benchmarks import aot_compile, hlo, scaling, scaling_page

PROGRAM = """HloModule jit_step, is_scheduled=true

%body.1 (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %fusion.1 = f32[8]{0:T(128)S(1)} fusion(%p), kind=kLoop, calls=%inner, backend_config={"estimated_cycles":"10"}
  %gathered = bf16[2,3]{1,0:T(8,128)(2,1)} all-gather(%fusion.1), replica_groups=[4,2]<=[8], dimensions={0}
  ROOT %t = (s32[], f32[8]) tuple(%p, %fusion.1)
}

%inner (q: f32[8]) -> f32[8] {
  ROOT %q = f32[8] custom-call(%r), backend_config={"estimated_cycles":"1000000"}
}

%until (p: (s32[], f32[8])) -> pred[] {
  %constant.8 = s32[]{:T(128)} constant(50)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %constant.8), direction=LT
}

%open (p: (s32[], f32[8])) -> pred[] {
  %n = s32[] get-tuple-element(%p), index=1
  ROOT %lt.1 = pred[] compare(%i, %n), direction=LT
}

%scattered (s: f32[16]) -> f32[4] {
  ROOT %rs = f32[4]{0} reduce-scatter(%s), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
}

ENTRY %main.4 (x: f32[8,3], y: f32[]) -> f32[8] {
  %x = f32[8,3]{1,0:T(8,128)} parameter(0)
  %a = (f32[8,3]{1,0}, /*index=1*/f32[]) all-reduce(%x, %y), replica_groups=mesh['a'=4,'b'=2] {'a','b'}, to_apply=%sum
  %ags = ((f32[8]{0}, f32[2]{0}), (f32[64]{0}, f32[16]{0})) all-gather-start(%x, %y), replica_groups=[1,8]<=[8]
  %agd = (f32[64]{0}, f32[16]{0}) all-gather-done(%ags)
  %while = (s32[], f32[8]) while(%a), condition=%until, body=%body.1, metadata={op_name="all-reduce"}
  %while.1 = (s32[], f32[8]) while(%a), condition=%open, body=%body.1
  %cps = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}
  %f = f32[4] fusion(%x), kind=kCustom, calls=%scattered, backend_config={"estimated_cycles":"7"}
  %cc = f32[8] custom-call(%x), custom_call_target="ConcatBitcast"
  %room = f32[8] custom-call(), custom_call_target="AllocateBuffer"
  %other = f32[8] custom-call(%x), custom_call_target="Other"
  ROOT %s = f32[8]{0} sort(%x), dimensions={0}, to_apply=%less
}
"""


def test_a_program_is_read():
    found = hlo.read(PROGRAM)
    assert found.cycles == 7 + 50 * 10 + 10
    assert (found.loops, found.open_loops, found.custom_calls) == (1, 1, 2)
    assert found.messages == {('all-reduce', 8, 8 * 3 * 4 + 4): 1, ('all-gather', 8, (64 + 16) * 4): 1,
                              ('all-gather', 2, 2 * 3 * 2): 51, ('collective-permute', 0, 20): 1,
                              ('reduce-scatter', 4, 4 * 4 * 4): 1}
    assert {name: found.silent[name] for name in ('sort', 'custom-call')} == {'sort': 1, 'custom-call': 1}
    assert 'fusion' not in found.silent


def test_what_cannot_be_read_is_refused():
    with pytest.raises(ValueError, match='no ENTRY'):
        hlo.read(PROGRAM.replace('ENTRY ', ''))
    with pytest.raises(ValueError, match=r'found replica_groups=V3'):
        hlo.read(PROGRAM.replace("mesh['a'=4,'b'=2] {'a','b'}", 'V3<=[8]'))


@pytest.mark.parametrize(('collective', 'sent'), [
    ('all-reduce', 2 * 750), ('all-gather', 750), ('reduce-scatter', 750), ('collective-permute', 1000)])
def test_bytes_round_a_ring_of_four(collective, sent):
    assert scaling.bytes_sent(collective, 1000, 4) == sent
    assert scaling.bytes_sent(collective, 1000, 1) == 0


def row(topology, group):
    """A case of 0.1 s of compute whose chips all-reduce 1 GB."""
    return {'topology': topology, 'chips': scaling.chips(topology), 'cycles': scaling.chip(topology).clock / 10,
            'optimal_seconds': 0.05 - 3, 'custom_calls': 3, 'batch_per_chip': 2,
            'messages': [{'collective': 'all-reduce', 'group': group, 'bytes': 10 ** 9, 'times': 1}]}


def test_an_estimate_adds_compute_and_messages():
    few, many = row('v5e:2x2', 4), row('v5e:4x4', 0)  # no group named: all chips
    assert scaling.estimate(few)[:2] == pytest.approx((0.1, 0.05))
    assert scaling.estimate(few).sending == pytest.approx(1.5e9 / 100e9)  # two links of 50 GB/s
    assert scaling.estimate(many).step == pytest.approx(0.1 + 1.875e9 / 100e9)
    assert scaling.efficiency(few, many) == pytest.approx(0.115 / 0.11875)
    assert scaling.efficiency(few, scaling.moved(few, 'v5e:4x4')) == scaling.efficiency(few, many)


def test_the_largest_batch_lies_on_the_line():
    assert scaling.largest_batch([(4, 500), (1, 200), (2, 300)], 1000) == 9
    assert scaling.largest_batch([(4, 500), (1, 200)], 999) == 8
    with pytest.raises(ValueError, match='two batch sizes'):
        scaling.largest_batch([(4, 500)], 1000)


def test_a_compilation_that_needs_too_much_memory_is_named():
    stderr = ('Traceback ..\njax.errors.JaxRuntimeError: RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. '
              'Ran out of memory in memory space hbm. Used 19.67G of 15.75G hbm.\n\nTotal ..')
    assert aot_compile.reason(stderr) == 'needs 19.67GiB of the 15.75GiB of memory that the compiler may use'
    assert aot_compile.reason('first\nlast\n') == 'last'


def test_the_page_shows_what_was_found():
    rows = json.loads((aot_compile.FOLDER / 'scaling.json').read_text())
    page = (aot_compile.FOLDER / 'scaling.md').read_text()
    assert scaling_page.document(rows) == page, 'draw it anew: python -m benchmarks.aot_compile --stages='
    for row in rows:
        assert (row['failed'] if 'failed' in row else f'{scaling.estimate(row).step * 1e3:.2f}') in page
