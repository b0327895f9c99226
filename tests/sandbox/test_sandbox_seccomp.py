"""The system call filter, run by an interpreter of classic BPF written for the test."""

import errno
import re
import struct
from pathlib import Path

import pytest

from mistral_local.tools.sandbox import bpf
from mistral_local.tools.sandbox.seccomp import ALLOWED, REFUSED, filter_program, machines
from mistral_local.tools.sandbox.syscall_numbers import AARCH64, X86_64

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {"x86_64": X86_64, "aarch64": AARCH64}
EPERM, ENOSYS = bpf.error(errno.EPERM), bpf.error(errno.ENOSYS)


def verdict(machine: str, call: int | str, *arguments: int, architecture: int | None = None) -> int:
    """What the kernel would answer: the semantics of linux/bpf_common.h for the instructions that occur."""
    number = NUMBERS[machine][call] if isinstance(call, str) else call
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = (
        struct.pack("<iIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *padded) if number < 1 << 31 else b""
    )
    program = list(struct.iter_unpack("<HBBI", filter_program(machine)))
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x06:
            return operand
        else:
            test = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            at += if_true if test[code] else if_false


each_machine = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


@each_machine
def test_every_named_call_gets_its_answer(machine: str) -> None:
    numbers = NUMBERS[machine]
    assert {verdict(machine, name) for name in ALLOWED if name in numbers} == {bpf.ALLOW}
    assert {verdict(machine, name) for name in REFUSED if name in numbers} == {EPERM}
    known = set(numbers.values())
    assert {verdict(machine, number) for number in range(600) if number not in known} == {ENOSYS}
    assert len(numbers) > 250


@each_machine
def test_no_call_is_both_allowed_and_refused_or_misspelt(machine: str) -> None:
    names = [*ALLOWED, *REFUSED, "clone", "clone3", "socketpair", "ioctl", "prctl", "prlimit64"]
    assert len(names) == len(set(names))
    assert set(NUMBERS[machine]) <= set(names) <= set(X86_64) | set(AARCH64)
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


@each_machine
def test_arguments_decide_where_a_call_is_harmless_only_in_part(machine: str) -> None:
    thread = 0x3D0F00  # what glibc's pthread_create asks for
    assert verdict(machine, "clone", thread) == bpf.ALLOW
    assert verdict(machine, "clone", 17) == EPERM
    assert verdict(machine, "clone", 0x4111) == EPERM  # vfork
    for new in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, "clone", thread | new) == EPERM
    assert verdict(machine, "clone3", thread) == ENOSYS
    assert verdict(machine, "socketpair", 1, 1 | 0o2000000 | 0o4000) == bpf.ALLOW
    assert verdict(machine, "socketpair", 1, 2) == EPERM
    assert verdict(machine, "socketpair", 2, 1) == EPERM
    assert verdict(machine, "ioctl", 0, 0x5401) == bpf.ALLOW
    assert verdict(machine, "ioctl", 0, 0x5412) == EPERM
    assert verdict(machine, "ioctl", 0, 0x1_0000_5412) == EPERM  # the kernel drops the upper half
    assert verdict(machine, "prctl", 15) == bpf.ALLOW
    assert verdict(machine, "prctl", 22) == EPERM
    assert verdict(machine, "prlimit64", 0) == bpf.ALLOW
    assert verdict(machine, "prlimit64", 1) == EPERM


@each_machine
def test_calls_of_another_architecture_kill(machine: str) -> None:
    other = {"x86_64": 0x40000003, "aarch64": 0x40000028}[machine]  # i386 and 32-bit ARM
    assert verdict(machine, "read", architecture=other) == bpf.KILL_PROCESS
    assert (verdict(machine, 0x40000000) == bpf.KILL_PROCESS) == (machine == "x86_64")


@each_machine
def test_the_program_fits_and_never_jumps_out(machine: str) -> None:
    program = list(struct.iter_unpack("<HBBI", filter_program(machine)))
    assert len(program) <= 4096  # BPF_MAXINSNS
    for at, (code, if_true, if_false, _) in enumerate(program):
        if code & 0x07 == 0x05:
            assert at + 1 + max(if_true, if_false) < len(program)
    assert program[-1][0] == 0x06
    assert machines() == ["aarch64", "x86_64"]


def test_a_jump_that_is_too_long_is_refused() -> None:
    with pytest.raises(AssertionError, match="255"):
        bpf.if_equal(1, bpf.answer(0) * 256)


@pytest.mark.parametrize(
    ("header", "numbers"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", X86_64),
        ("/usr/include/asm-generic/unistd.h", AARCH64),
    ],
)
def test_the_numbers_are_those_of_the_kernels_headers(header: str, numbers: dict[str, int]) -> None:
    if not Path(header).exists():
        pytest.skip(f"{header} is not installed")
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    shared = set(found) & set(numbers)
    assert {name: int(found[name]) for name in shared} == {name: numbers[name] for name in shared}
    assert len(shared) > 240
