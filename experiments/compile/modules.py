"""Reading compiled modules: the loops, and in a turn of each the kernels, the all-reduces and the bytes that they move.

A module's text has a line for each instruction: `%name = f32[2,3]{1,0} opcode(%operand, ...), attributes`.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "opt-barrier"}
"""Instructions that compute nothing; those whose names end in -done wait for others."""

ASYNCHRONOUS_COPIES = {"copy-start", "slice-start", "dynamic-slice-start"}
VIEWS = {"bitcast", "reshape", "transpose", "copy", "convert"}
"""Instructions in a fusion through which what reads a parameter is followed."""

HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*->.*\{$")
INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
CALLED = re.compile(r"(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)")


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      shape: Of what it returns, as text.
      rest: The operands and attributes.
    """

    name: str
    shape: str
    opcode: str
    rest: str
    root: bool

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.split("), ")[0])

    @property
    def called(self) -> list[str]:
        """The names of the computations that it calls, without the condition of a loop."""
        branches = re.search(r"branch_computations=\{([^}]*)\}", self.rest)
        listed = re.findall(r"[\w.\-]+", branches[1]) if branches else []
        return CALLED.findall(self.rest) + listed


@dataclass(frozen=True)
class Loop:
    """A loop of a module, or the module itself, whose body runs once.

    Attributes:
      name: Where the program has it: the names of the enclosing scans and derivatives.
      turns: How often the body runs; None if the text does not say.
      kernels: Those that the body launches in a turn, without the loops inside.
      all_reduces: Those of a turn, without the loops inside.
      moved: Bytes that its kernels read and write in the device's memory in a turn, without the loops inside.
    """

    name: str
    turns: int | None
    kernels: int
    all_reduces: int
    moved: float
    loops: tuple["Loop", ...] = field(default=())

    def everywhere(self) -> Iterator["Loop"]:
        """Itself and all loops inside."""
        yield self
        for loop in self.loops:
            yield from loop.everywhere()

    def total(self, what: str) -> float:
        """`kernels`, `all_reduces` or `moved` of a turn, with all turns of the loops inside."""
        return getattr(self, what) + sum((loop.turns or 1) * loop.total(what) for loop in self.loops)


class Module:
    """The computations of a compiled module, by name."""

    def __init__(self, text: str) -> None:
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = name = ""
        for line in text.splitlines():
            if found := HEADER.match(line):
                name = found[2]
                self.computations[name] = []
                self.entry = name if found[1] else self.entry
            elif name and (found := INSTRUCTION.match(line)):
                root, own, shape, opcode, rest = found.groups()
                self.computations[name].append(Instruction(own, shape, opcode, rest, bool(root)))

    @cached_property
    def whole(self) -> Loop:
        """The module as a loop that turns once."""
        return self._loop("", self.entry, 1)

    def _loop(self, name: str, body: str, turns: int | None) -> Loop:
        kernels, reduces, moved, loops = self._counted(body)
        return Loop(name, turns, kernels, reduces, moved, tuple(loops))

    def _counted(self, name: str) -> tuple[int, int, float, list[Loop]]:
        """Kernels, all-reduces, bytes and loops of a computation and what it calls; of branches the largest."""
        kernels, reduces, moved, loops = 0, 0, 0.0, []
        shapes = {instruction.name: instruction.shape for instruction in self.computations[name]}
        for instruction in self.computations[name]:
            if instruction.opcode == "while":
                (body,) = CALLED.findall(instruction.rest)
                loops.append(self._loop(_path(instruction), body, self._turns(instruction)))
            elif instruction.opcode in ("call", "conditional"):
                inside = max((self._counted(called) for called in instruction.called), key=lambda one: one[0])
                kernels, reduces, moved = kernels + inside[0], reduces + inside[1], moved + inside[2]
                loops += inside[3]
            elif instruction.opcode in ("all-reduce", "all-reduce-start"):
                reduces += 1
            elif instruction.opcode in ASYNCHRONOUS_COPIES:
                moved += self._moved(instruction, shapes)
            elif _is_kernel(instruction):
                kernels += 1
                moved += self._moved(instruction, shapes)
        return kernels, reduces, moved, loops

    def _turns(self, loop: Instruction) -> int | None:
        """What the compiler says, or the only number to which the condition compares."""
        if known := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.rest)
        lines = self.computations.get(condition[1], []) if condition else []
        numbers = {int(one.rest.split(")")[0]) for one in lines if one.opcode == "constant" and "s32[]" in one.shape}
        return numbers.pop() if len(numbers) == 1 else None

    def _moved(self, kernel: Instruction, shapes: Mapping[str, str]) -> float:
        """What it reads and writes; of arrays that it indexes only the parts that it takes or replaces."""
        inside = self.computations.get(kernel.called[0], []) if kernel.opcode == "fusion" else [kernel]
        users: dict[str, list[Instruction]] = {}
        own = {one.name: one for one in inside}
        for one in inside:
            for operand in one.operands:
                users.setdefault(operand, []).append(one)
        if kernel.opcode in ASYNCHRONOUS_COPIES:
            written = size(ARRAY.findall(kernel.shape)[:1])
        else:
            results = [one for one in inside if one.root] or [kernel]
            names = results[0].operands if results[0].opcode == "tuple" else [results[0].name]
            written = sum(_written(name, own, kernel.shape, shapes) for name in names)
        parameters = [one.name for one in inside if one.opcode == "parameter"] if kernel.opcode == "fusion" else []
        order = {int(own[name].rest.split(")")[0]): name for name in parameters}
        read = 0.0
        for i, operand in enumerate(kernel.operands):
            shape = shapes.get(operand, "")
            read += _read(order.get(i, operand), shape, users)
        return written + read


def size(shape: str | Sequence[tuple[str, ...]]) -> float:
    """Bytes of an array, or of all in a tuple, that are in the device's memory, not in a space near its cores."""
    arrays = ARRAY.findall(shape) if isinstance(shape, str) else shape
    total = 0.0
    for dtype, dimensions, layout in arrays:
        bits = re.search(r"\d+", dtype)
        if not re.search(r"S\([1-9]\d*\)", layout) and dtype != "token":
            numbers = [int(one) for one in re.findall(r"\d+", dimensions)]
            total += math.prod(numbers) * (int(bits[0]) / 8 if bits else 1)
    return total


def _is_kernel(instruction: Instruction) -> bool:
    """Whether it is launched: scalars are computed by the core that launches, unless they are in a fusion."""
    opcode = instruction.opcode
    if opcode in FREE or opcode.endswith("-done") or '"AllocateBuffer"' in instruction.rest:
        return False
    scalar = re.match(r"\w+\[\]", instruction.shape) is not None
    return opcode in ("fusion", "custom-call") or not scalar


def _read(name: str, shape: str, users: Mapping[str, Sequence[Instruction]]) -> float:
    whole = size(shape)
    total = 0.0
    for user in users.get(name, []):
        first = user.operands[:1] == [name]
        if user.opcode in VIEWS:
            total += _read(user.name, shape, users) if user.name in users else whole
        elif first and user.opcode in ("gather", "dynamic-slice", "slice"):
            total += min(whole, size(re.sub(r"S\(\d+\)", "", user.shape)))
        elif not (first and user.opcode == "dynamic-update-slice"):
            total = whole
    return min(whole, total)


def _written(name: str, own: Mapping[str, Instruction], result: str, shapes: Mapping[str, str]) -> float:
    """Bytes of one result of a kernel: those that replace others where it updates a part of an array."""
    one = own.get(name)
    while one is not None and one.opcode in VIEWS and one.operands and one.operands[0] in own:
        one = own[one.operands[0]]
    if one is None:
        return 0.0
    if one.opcode == "dynamic-update-slice":
        update = one.operands[1]
        return size(result) and size(own[update].shape if update in own else shapes.get(update, ""))
    return size(own[name].shape)


def _path(instruction: Instruction) -> str:
    """Of jit(run)/while/body/closed_call/transpose(jvp())/while: "backwards", of others how deep it is."""
    found = re.search(r'op_name="([^"]*)"', instruction.rest)
    path = found[1] if found else ""
    return "backward" if "transpose(" in path else "forward" if "jvp(" in path else "loop"
