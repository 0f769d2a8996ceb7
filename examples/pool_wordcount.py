"""Count the words of the standard library's own sources with a Pool.

    python examples/pool_wordcount.py [number of files]

The only line that is not plain multiprocessing is the import. No ``if __name__ == "__main__":`` is needed.
"""

import collections
import pathlib
import re
import sys
import sysconfig
import time

from scalepool.multiprocessing import Pool

WORD = re.compile(r"[a-z]+")


def count_words(path):
    """Return how often each word stands in one file."""
    text = path.read_text(encoding="utf-8", errors="replace").lower()
    return collections.Counter(WORD.findall(text))


most = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
library = pathlib.Path(sysconfig.get_path("stdlib"))
sources = [path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts][:most]

started = time.perf_counter()
serial = collections.Counter()
for counts in map(count_words, sources):
    serial.update(counts)
serial_s = time.perf_counter() - started

started = time.perf_counter()
with Pool() as pool:
    parallel = collections.Counter()
    for counts in pool.imap_unordered(count_words, sources, chunksize=16):
        parallel.update(counts)
parallel_s = time.perf_counter() - started

if parallel != serial:
    sys.exit("the results differ")
print(f"{len(sources)} files, {serial.total():,} words; most frequent: {serial.most_common(5)}")
print(f"serial {serial_s:.2f} s, Pool {parallel_s:.2f} s, results equal")
