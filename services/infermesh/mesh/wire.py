"""Pieces of protobuf's wire format, for those who write or read a message without building it."""


def varint(number: int) -> bytes:
    """Returns a number from 0 as protobuf writes it: seven bits a byte, lowest first."""
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
