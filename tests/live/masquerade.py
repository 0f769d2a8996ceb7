"""Have the kernel hide behind this host whoever sends through it (NAT), without nft or iptables.

Run on the host. Exits with an error where the kernel has no nf_tables or no masquerading.
"""

from __future__ import annotations

import os
import socket
import struct

_NETLINK_NETFILTER = 12
_BATCH_BEGIN, _BATCH_END, _NFTABLES = 0x10, 0x11, 10
_NEW_TABLE, _NEW_CHAIN, _NEW_RULE = 0, 3, 6
_REQUEST, _ACK, _CREATE, _APPEND = 1, 4, 0x400, 0x800
_NESTED = 0x8000
_IPV4 = 2
_POST_ROUTING, _SOURCE_NAT = 4, 100
_NAME = b"hidden\0"
_CHAIN = b"leaving\0"


def attribute(number: int, data: bytes) -> bytes:
    return struct.pack("HH", len(data) + 4, number) + data + bytes(-len(data) % 4)


def message(kind: int, flags: int, family: int, resource: int, data: bytes = b"") -> bytes:
    body = struct.pack(">BBH", family, 0, resource) + data
    return struct.pack("IHHII", len(body) + 16, kind, _REQUEST | flags, 1, 0) + body


def batch() -> bytes:
    """Return: a table, a chain for what leaves, and in it the rule to masquerade."""
    hook = attribute(1, struct.pack(">I", _POST_ROUTING)) + attribute(2, struct.pack(">I", _SOURCE_NAT))
    chain = attribute(1, _NAME) + attribute(3, _CHAIN) + attribute(4 | _NESTED, hook) + attribute(7, b"nat\0")
    masquerade = attribute(1, b"masq\0") + attribute(2 | _NESTED, b"")
    rule = attribute(1, _NAME) + attribute(2, _CHAIN) + attribute(4 | _NESTED, attribute(1 | _NESTED, masquerade))
    orders = [(_NEW_TABLE, attribute(1, _NAME)), (_NEW_CHAIN, chain), (_NEW_RULE, rule)]
    new = _ACK | _CREATE | _APPEND
    return b"".join(
        [
            message(_BATCH_BEGIN, 0, 0, _NFTABLES),
            *(message(_NFTABLES << 8 | kind, new, _IPV4, 0, data) for kind, data in orders),
            message(_BATCH_END, 0, 0, _NFTABLES),
        ]
    )


def main() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
        link.settimeout(5.0)
        link.send(batch())
        answers = 0
        while answers < 3:
            data = link.recv(65_536)
            while data:
                length, kind = struct.unpack_from("IH", data)
                error = struct.unpack_from("i", data, 16)[0] if kind == 2 else 0
                if error:
                    raise SystemExit(f"the kernel refused a rule: {os.strerror(-error)}")
                answers += 1
                data = data[(length + 3) & ~3 :]


if __name__ == "__main__":
    main()
