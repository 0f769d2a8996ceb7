"""A pipeline on an event loop: documents are fetched, counted in other processes, and collected by an actor.

    python examples/asyncio_pipeline.py [documents] [words in each]

The event loop never waits for a task: it awaits references, while an async generator goes on "fetching" (it sleeps, as
one does who waits for the network). An ObjectRef as an argument is awaited by the session, not by the loop.
"""

import asyncio
import random
import sys
import time
from collections import Counter

import scalepool

DOCUMENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
WORDS = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
VOCABULARY = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


async def fetch():
    """Yield documents as they come in."""
    for number in range(DOCUMENTS):
        await asyncio.sleep(0.002)
        yield " ".join(random.Random(number).choices(VOCABULARY, k=WORDS))


@scalepool.remote
def count(text):
    return Counter(text.split())


@scalepool.remote
class Collector:
    """Adds up what was counted."""

    def __init__(self):
        self.totals, self.documents = Counter(), 0

    async def add(self, counts):
        """Take in the counts of one document."""
        self.totals.update(counts)
        self.documents += 1

    async def result(self):
        """Return the sum, and of how many documents."""
        return self.totals, self.documents


async def beat(beats):
    while True:
        await asyncio.sleep(0.01)
        beats.append(time.perf_counter())


async def main():
    collector, beats = Collector.remote(), []
    beating = asyncio.create_task(beat(beats))
    added = [collector.add.remote(count.remote(text)) async for text in fetch()]
    await asyncio.gather(*added)
    beating.cancel()
    return *(await collector.result.remote()), len(beats)


start = time.perf_counter()
totals, documents, beats = asyncio.run(main())
seconds = time.perf_counter() - start
word, times = totals.most_common(1)[0]
print(f"{documents} documents, {totals.total():,} words in {seconds:.2f} s; most frequent is {word!r}, {times} times")
print(f"the event loop was free all the time: its heart beat {beats} times")
