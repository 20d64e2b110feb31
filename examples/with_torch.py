"""Batches for PyTorch, prepared by a cluster while the model trains. Needs torch. `python examples/with_torch.py`.

`imap` keeps `buffersize` batches ahead of the training, and takes endless iterables too. Batches travel as NumPy arrays, so the
workers need no PyTorch.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import IterableDataset

from scaler import Client, SchedulerClusterCombo


def prepare(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Read, decode and augment a batch; here it is made up."""
    dice = np.random.default_rng(seed)
    points = dice.normal(size=(64, 3)).astype(np.float32)
    return points, points @ np.array([1.0, -2.0, 3.0], dtype=np.float32)


class Batches(IterableDataset):  # type: ignore[misc]  # mypy does not read PyTorch's types
    def __init__(self, client: Client, count: int) -> None:
        self.client = client
        self.count = count

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for points, values in self.client.imap(prepare, range(self.count), buffersize=16):
            yield torch.from_numpy(points), torch.from_numpy(values)


def main() -> None:
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        for points, values in torch.utils.data.DataLoader(Batches(client, 200), batch_size=None):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(points).squeeze(1), values)
            loss.backward()
            optimizer.step()
    print("weights:", [round(weight) for weight in model.weight[0].tolist()])


if __name__ == "__main__":
    main()
