"""What the text of a compiled TPU program says of its cost: cycles, and what chips send each other.

XLA's own `cost_analysis` counts the body of a loop once and a message between chips not at all. The program's text
has more: the TPU compiler's estimate of each fusion's cycles, the loops' bounds, and every collective.
"""

import collections
import dataclasses
import math
import re

BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2, 'f32': 4, 's32': 4, 'u32': 4, 'f64': 8,
         's64': 8, 'u64': 8, 'c64': 8}
COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute',
               'collective-broadcast', 'ragged-all-to-all')
# Names for what is there already, and what only calls others.
FREE = frozenset({'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id',
                  'replica-id', 'while', 'conditional', 'call', 'opt-barrier', 'iota', 'domain'})
# Custom calls that only lay out memory; of these `cost_analysis` knows the second to cost nothing.
LAYING_OUT = ('ConcatBitcast', 'AllocateBuffer')
_HEAD = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^\s+(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][a-z\d-]*)\((.*)$')
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_TARGETS = re.compile(r'\b(?:calls|to_apply|true_computation|false_computation)=%?([\w.-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a computation: `shape` is its result's text, `rest` what follows the opening parenthesis."""

    name: str
    shape: str
    opcode: str
    rest: str


Program = dict[str, list[Instruction]]


@dataclasses.dataclass
class Costs:
    """What a program costs one chip in one call.

    Attributes:
      cycles: the compiler's estimates, summed; a loop's times its trips.
      loops: how many loops have a known number of trips.
      open_loops: how many have none; their cycles and messages are counted once.
      custom_calls: how often `cost_analysis`, which enters a loop once, meets a custom call that it does not know.
      silent: opcode -> how many executed instructions have no estimate, and so count for nothing.
      messages: (collective, chips in a group, bytes) -> times. Bytes are those of the whole array: what is reduced,
        or what is there after a gather.
    """

    cycles: int = 0
    loops: int = 0
    open_loops: int = 0
    custom_calls: int = 0
    silent: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    messages: collections.Counter = dataclasses.field(default_factory=collections.Counter)


def read(text: str) -> Costs:
    """The costs of the program with this text (`compiled.as_text()`).

    Raises:
      ValueError: there is no entry computation, or a collective's groups are written in an unknown way.
    """
    program, entry = parse(text)
    costs = Costs()
    _visit(program, entry, 1, costs)
    return costs


def parse(text: str) -> tuple[Program, str]:
    """The computations by name, and the name of the entry."""
    program, entry, current = {}, None, []
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            current = program.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
            continue
        found = _INSTRUCTION.match(line)
        if found:
            current.append(Instruction(*found.groups()))
    if entry is None:
        raise ValueError('the text has no ENTRY computation: want that of a compiled program')
    return program, entry


def array_bytes(shape: str) -> list[int]:
    """Bytes of each array of a shape's text, without the padding of its layout; what holds no numbers has none."""
    return [BYTES[kind] * math.prod(int(n) for n in dims.split(',') if n)
            for kind, dims in _ARRAY.findall(shape) if kind in BYTES]


def group_size(rest: str) -> int | None:
    """Chips in one group of a collective; None where it names no groups (then all take part)."""
    iota = re.search(r'replica_groups=\[(\d+),(\d+)\]', rest)
    if iota:
        return int(iota[2])
    listed = re.search(r'replica_groups=\{\{([\d,]*)\}', rest)
    if listed:
        return len(listed[1].split(','))
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", rest)
    if mesh:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in re.findall(r"'([^']+)'", mesh[2]))
    found = re.search(r'replica_groups=(?!\{\})[^ ]+', rest)
    if found:
        raise ValueError(f'found {found[0]}, want groups as [2,4]<=[8], {{{{0,1}},{{2,3}}}} or mesh[..] {{..}}')
    return None


def _visit(program: Program, name: str, times: int, costs: Costs) -> None:
    """Add what `times` runs of a computation cost."""
    for instruction in program[name]:
        opcode, rest = instruction.opcode, instruction.rest
        cycles = _CYCLES.search(rest)
        costs.cycles += times * int(cycles[1]) if cycles else 0
        if not cycles and _is_work(instruction):
            costs.silent[opcode] += times
        costs.custom_calls += opcode == 'custom-call' and 'custom_call_target="AllocateBuffer"' not in rest
        _add_message(instruction, times, costs)
        if opcode == 'while':
            body, condition = (re.search(rf'\b{part}=%?([\w.-]+)', rest)[1] for part in ('body', 'condition'))
            trips = _trips(program[condition], rest)
            costs.loops += trips is not None
            costs.open_loops += trips is None
            _visit(program, body, times * (trips or 1), costs)
            _visit(program, condition, times * (trips or 1), costs)
        elif opcode == 'conditional':
            for branch in _branches(rest):  # all of them: which one runs is not known
                _visit(program, branch, times, costs)
        elif opcode in ('call', 'async-start'):
            _visit(program, _TARGETS.search(rest)[1], times, costs)
        elif opcode == 'fusion':  # its estimate is for all of it, but a message may hide inside
            _hidden_messages(program, _TARGETS.search(rest)[1], times, costs)


def _is_work(instruction: Instruction) -> bool:
    """Whether the core must do something for it: not for names and scalars, nor for what runs beside it."""
    return (instruction.opcode not in FREE and not instruction.opcode.endswith(('-start', '-done', '-update'))
            and instruction.opcode not in COLLECTIVES
            and not any(f'custom_call_target="{name}"' in instruction.rest for name in LAYING_OUT)
            and max(array_bytes(instruction.shape), default=0) > 8)


def _branches(rest: str) -> list[str]:
    listed = _BRANCHES.search(rest)
    return [name.strip(' %') for name in listed[1].split(',')] if listed else _TARGETS.findall(rest)


def _hidden_messages(program: Program, name: str, times: int, costs: Costs) -> None:
    for instruction in program[name]:
        _add_message(instruction, times, costs)
        if instruction.opcode == 'fusion':
            _hidden_messages(program, _TARGETS.search(instruction.rest)[1], times, costs)


def _add_message(instruction: Instruction, times: int, costs: Costs) -> None:
    kind = instruction.opcode.removesuffix('-start')
    if kind not in COLLECTIVES:
        return
    sizes = array_bytes(instruction.shape)
    group = group_size(instruction.rest) or 0
    if instruction.opcode == 'all-gather-start':  # returns what goes in, then what comes out
        sizes = sizes[len(sizes) // 2:]
    elif instruction.opcode == 'collective-permute-start':  # and two counters after both
        sizes = sizes[:1]
    elif kind == 'reduce-scatter':
        sizes = [size * max(group, 1) for size in sizes]
    costs.messages[kind, group, sum(sizes)] += times


def _trips(condition: list[Instruction], rest: str) -> int | None:
    """How often a loop runs: as the compiler says, or as `i < constant` from 0 in steps of 1, JAX's form."""
    stated = _TRIPS.search(rest)
    if stated:
        return int(stated[1])
    bounds = [match[1] for x in condition if x.opcode == 'constant' and (match := re.match(r'(\d+)\)', x.rest))]
    tests = [x for x in condition if x.opcode == 'compare' and 'direction=LT' in x.rest]
    return int(bounds[0]) if len(bounds) == len(tests) == 1 else None
