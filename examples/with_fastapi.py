"""A web service whose requests are computed by a cluster. Needs fastapi and uvicorn. `python examples/with_fastapi.py 8000`.

One `AsyncClient` serves all requests, and waits in no thread. A caller that goes away cancels what runs for it.
"""

import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from scaler import AsyncClient, SchedulerClusterCombo

PARTS = 4


def hits(darts: int, seed: int) -> int:
    dice = random.Random(seed)
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(darts))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # Where a cluster runs already, its address is all that is needed.
    with SchedulerClusterCombo(n_workers=2) as cluster:
        async with AsyncClient(cluster.get_address()) as client:
            app.state.client = client
            yield


app = FastAPI(lifespan=lifespan)


@app.get("/pi")
async def pi(darts: int = 100_000) -> float:
    counts: list[int] = await app.state.client.map(hits, [darts // PARTS] * PARTS, range(PARTS))
    return 4 * sum(counts) / (darts // PARTS * PARTS)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
