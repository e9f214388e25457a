"""Where ranks that the launcher started again meet: not where those before them met.

The launcher's store outlives the ranks. A rank that looks there for another one's address may find
that of its dead predecessor, and waits for it or gives up; so each start has a place of its own.
"""

import os
from collections.abc import Mapping
from datetime import timedelta

import torch.distributed
from torch._C._distributed_c10d import PrefixStore, TCPStore

from runners.train.memory import restarts


def rejoin(backend: str, timeout: timedelta, environ: Mapping[str, str] = os.environ) -> None:
    """Join the process group of this start of the ranks; the first start is left to accelerate."""
    start = restarts(environ)
    if start == 0:
        return
    ranks = int(environ["WORLD_SIZE"])
    address, port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
    store = TCPStore(address, port, ranks, is_master=False, timeout=timeout)
    torch.distributed.init_process_group(
        backend,
        store=PrefixStore(f"restart-{start}", store),
        rank=int(environ["RANK"]),
        world_size=ranks,
        timeout=timeout,
    )
