"""784-512-512-10 by PyTorch: batches of 128, two epochs of shuffled rows."""

import torch
from large_rows import rows

x, t = map(torch.from_numpy, rows())
t = t.long()
nn = torch.nn
net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
loss, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
history = []
for _ in range(2):
    costs = []
    for rows_of_it in torch.randperm(len(x)).split(128):
        optimizer.zero_grad()
        value = loss(net(x[rows_of_it]), t[rows_of_it])
        value.backward()
        optimizer.step()
        costs.append(value.item())
    history.append(sum(costs) / len(costs))
assert history[-1] < history[0]
