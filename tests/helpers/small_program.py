"""A little of everything, for test_environments: `python small_program.py FOLDER` prints `all is well` in the end.

What it says goes to the file `said` in that folder too, for it may have no stdout.
"""

import os
import sys

import numpy as np
import optax

import fnn


def say(folder, *things):
    with open(os.path.join(folder, "said"), "a", encoding="utf-8") as file:
        print(*things, file=file)
    print(*things)


def main(folder):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype("float32")
    labels = (x[:, 0] > 0).astype("int32")
    net, loss = fnn.serial(fnn.dense(4), fnn.tanh, fnn.dense(2)), fnn.losses.sparse_softmax_cross_entropy
    fnn.enable_compile_cache(os.path.join(folder, "programs"))
    more = {"epochs": 4, "batch_size": 16, "checkpoint_seconds": 0}
    run = fnn.fit(net, loss, optax.adam(0.01), (x, labels), checkpoint=os.path.join(folder, "run"), **more)
    again = fnn.fit(net, loss, optax.adam(0.01), (x, labels), checkpoint=os.path.join(folder, "run"), **more)
    assert np.array_equal(run.history.loss, again.history.loss)
    say(folder, repr(run), fnn.summary(net, (3,)), repr(net), repr(loss))
    say(folder, fnn.check_gradients(net, loss, run.params, run.state, x[:4], labels[:4]))
    fnn.save(os.path.join(folder, "net.fnn"), net, run)
    same, loaded = fnn.load(os.path.join(folder, "net.fnn"))
    assert np.array_equal(fnn.predict(same, loaded, x), fnn.predict(net, run, x))
    found = fnn.sweep(net, loss, lambda s: optax.sgd(s["lr"]), (x, labels), over={"lr": [0.1, 0.2]},
                      checkpoint=os.path.join(folder, "sweep"), **more)  # fmt: skip
    say(folder, found)
    found.to_csv(os.path.join(folder, "table.csv"))
    fnn.fit(net, loss, optax.sgd(0.1), lambda epoch: [(x, labels)], **more)
    say(folder, "all is well")


if __name__ == "__main__":
    main(sys.argv[1])
