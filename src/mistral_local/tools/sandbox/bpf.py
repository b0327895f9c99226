"""Classic BPF for seccomp: the few instructions that the filter needs, as bytes.

Layouts: `struct sock_filter` (linux/filter.h) and `struct seccomp_data` (linux/seccomp.h), both little-endian here.
"""

import struct

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
EPERM, ENOSYS = 1, 38

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT = 0x15, 0x35, 0x45

NUMBER_OFFSET, ARCHITECTURE_OFFSET = 0, 4


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)


def load(offset: int) -> bytes:
    """Load 32 bits of seccomp_data into the accumulator."""
    return _instruction(_LOAD, offset)


def load_argument(index: int) -> bytes:
    """Load the low half of a system call's argument."""
    return load(16 + 8 * index)


def keep_bits(mask: int) -> bytes:
    """Clear all bits of the accumulator but these."""
    return _instruction(_AND, mask)


def answer(action: int) -> bytes:
    """End the filter with ALLOW, KILL_PROCESS or an error."""
    return _instruction(_RETURN, action)


def error(number: int) -> int:
    """The action that fails the call with this errno."""
    return 0x00050000 | number


def if_equal(value: int, then: bytes) -> bytes:
    """Run `then` if the accumulator is the value, else go on behind it."""
    return _instruction(_JUMP_EQUAL, value, 0, _length(then)) + then


def unless_equal(value: int, then: bytes) -> bytes:
    """Run `then` if the accumulator is anything but the value."""
    return _instruction(_JUMP_EQUAL, value, _length(then), 0) + then


def if_at_least(value: int, then: bytes) -> bytes:
    """Run `then` if the accumulator, unsigned, is not below the value."""
    return _instruction(_JUMP_AT_LEAST, value, 0, _length(then)) + then


def if_any_bit(mask: int, then: bytes) -> bytes:
    """Run `then` if the accumulator has any bit of the mask."""
    return _instruction(_JUMP_ANY_BIT, mask, 0, _length(then)) + then


def _length(block: bytes) -> int:
    instructions = len(block) // 8
    assert instructions < 256, "a jump reaches 255 instructions"
    return instructions
