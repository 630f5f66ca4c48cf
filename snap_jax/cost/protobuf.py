"""Write protobuf messages without generated code and without a dependency.

Any protobuf library reads them back with the schema. A field is a key (number << 3 | wire type) and a value: a varint,
or a length and that many bytes; see protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterable

_VARINT, _LENGTH = 0, 2


def varint(value: int) -> bytes:
    """Encode an integer: seven bits per byte, lowest first, the top bit set on all but the last byte.

    A negative number is encoded as an unsigned 64-bit number.

    >>> varint(300).hex(), varint(-1).hex()
    ('ac02', 'ffffffffffffffffff01')
    """
    rest, found = value & (2**64 - 1), bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(found) + bytes([rest])


def number(field: int, value: int) -> bytes:
    """Encode an integer, enum or bool field; a zero is left out. For a field of a oneof use `present`."""
    return present(field, value) if value else b""


def present(field: int, value: int) -> bytes:
    """Encode an integer, enum or bool field, zero included."""
    return varint(field << 3 | _VARINT) + varint(value)


def chunk(field: int, value: bytes) -> bytes:
    """Encode a string, bytes or message field."""
    return varint(field << 3 | _LENGTH) + varint(len(value)) + value


def packed(field: int, values: Iterable[int]) -> bytes:
    """Encode a repeated integer, enum or bool field; left out if there are none."""
    content = b"".join(map(varint, values))
    return chunk(field, content) if content else b""


def delimited(message: bytes) -> bytes:
    """Encode a message in a stream of messages: its length, then itself."""
    return varint(len(message)) + message
