"""The shells: they carry bytes between the decisions of ``_core`` and the outside that ``_net``, ``_store`` and ``_proc`` touch."""
