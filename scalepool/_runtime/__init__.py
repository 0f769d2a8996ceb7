"""The shells: they carry bytes between the decisions of ``_core`` and the outside.

Sockets, shared memory and processes are touched by ``_net``, ``_store`` and ``_proc``; the shells tie those to the hub.
"""
