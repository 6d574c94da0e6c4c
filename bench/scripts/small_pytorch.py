"""The 2-3-2 network by PyTorch: 300 steps on 100 rows."""

import numpy as np
import torch

torch.set_num_threads(1)  # the fastest for so little

rng = np.random.default_rng(0)
angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
ring = np.stack([np.cos(angle), np.sin(angle)], 1)
x = (np.concatenate([ring, 0.3 * ring]) + rng.normal(0, 0.1, (100, 2))).astype("float32")
t = np.repeat([0, 1], 50)
x, t = torch.tensor(x), torch.tensor(t)

net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 2))
loss = torch.nn.CrossEntropyLoss(reduction="sum")
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
costs = []
for _ in range(300):
    optimizer.zero_grad()
    value = loss(net(x), t)
    value.backward()
    optimizer.step()
    costs.append(value.item())
assert costs[-1] < costs[0]
