"""How functions, classes and exceptions travel when plain pickle cannot carry them.

``importable``   which modules a worker can import by name, and which must travel by value
``ledger``       the sender's memory: what was sent last under which token
``namespaces``   the receiver's memory: one namespace per module, and which token each name has
``exchange``     both of them for this process
``pickler``      the cloudpickle subclass that writes such values; ``rebuild`` is its counterpart
``fingerprint``  when a cached pickle of a function may be used again
``culprit``      where in a value the thing sits that does not pickle
``exceptions``   errors of tasks; ``traceback_text`` is the text that goes with them
"""

from __future__ import annotations
