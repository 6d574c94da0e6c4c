"""784-512-512-10 by fnn: batches of 128, two epochs."""

import optax
from large_rows import rows

import fnn

net = fnn.serial(fnn.dense(512), fnn.relu, fnn.dense(512), fnn.relu, fnn.dense(10))
loss = fnn.losses.sparse_softmax_cross_entropy
run = fnn.fit(net, loss, optax.sgd(0.1, momentum=0.9), rows(), epochs=2, batch_size=128)
assert run.history.loss[-1] < run.history.loss[0]
