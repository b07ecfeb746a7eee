"""Programs that ask for a tensor's value in so many words.

A mark `# -> kind` stands at the line of a sync, `# -> kind x3` where the line waits three times, `# -> a, b` where it
waits in two ways. What has no mark waits for nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
import statistics

import numpy as np
import torch


def item():
    loss = torch.ones(4).sum()
    for _ in range(3):
        total = loss.item()  # -> item x3
    return total


def branch():
    loss = torch.ones(4).sum()
    if loss > 3:  # -> bool
        loss = loss * 2
    while loss < 20:  # -> bool x3
        loss = loss * 2
    return loss


def boolean_operators():
    flag, other = torch.tensor(True), torch.tensor(False)
    first = flag and other  # -> bool
    second = not flag  # -> bool
    assert bool(flag)  # -> bool
    return first, second


def is_nonzero():
    return torch.ones(1).is_nonzero()  # -> bool


def floats():
    loss = torch.ones(4).sum()
    values = [float(loss) for _ in range(4)]  # -> float x4
    values.append(max(values[0], float(loss)))  # -> float
    return values


def integers():
    count = torch.tensor(3)
    return int(count)  # -> int


def index():
    count, names = torch.tensor(2), ["a", "b", "c"]
    for _ in range(count):  # -> int
        pass
    return names[count]  # -> int


def complex_number():
    return complex(torch.tensor(1 + 2j))  # -> complex


def lists():
    return torch.ones(3).tolist()  # -> tolist


def to_numpy():
    loss = torch.ones(3)
    loss.numpy()  # -> numpy
    return np.asarray(loss)  # -> numpy


def to_cpu():
    x = torch.ones(3)
    host = x.cpu()  # -> cpu
    host.tolist()
    host.sum().item()
    return host.numpy()


def printed():
    loss = torch.ones(3).sum()
    with contextlib.redirect_stdout(io.StringIO()):
        print("loss", loss)  # -> print
        print(loss, loss)  # -> print x2
    return repr(loss)  # -> print


def formatted():
    loss = torch.ones(3).sum()
    texts = [f"{loss:.3f}"]  # -> format
    texts.append(f"{loss}")  # -> format
    texts.append("{:.2f}".format(loss))  # noqa: UP032 - the other form  # -> format
    return texts


def as_text():
    loss = torch.ones(3)
    texts = [str(loss)]  # -> print
    texts.append(f"{loss!r}")  # -> print
    texts.append(f"{loss!s}")  # -> print
    texts.append("%s" % loss)  # noqa: UP031 - the other form  # -> print
    return texts


@dataclasses.dataclass
class _Output:
    loss: torch.Tensor
    step: int = 0


def generated_methods():
    output, other = _Output(torch.ones(())), _Output(torch.ones(()))
    text = str(output)  # -> print
    return text, output == other  # -> bool


def percent():
    loss = torch.ones(3).sum()
    return "%f %d" % (loss, loss)  # noqa: UP031 - the other form  # -> float, int


def synchronizing():
    with contextlib.suppress(RuntimeError, AssertionError):
        torch.cuda.synchronize()  # -> synchronize
    with contextlib.suppress(RuntimeError, AssertionError):
        torch.accelerator.synchronize()  # -> synchronize
    torch.cpu.synchronize()  # -> synchronize


def in_a_comprehension_and_a_generator():
    losses = [torch.ones(()) for _ in range(3)]
    total = sum(loss.item() for loss in losses)  # -> item x3
    return total, [loss.item() for loss in losses]  # -> item x3


def in_a_lambda():
    read = lambda loss: loss.item()  # noqa: E731 - the line of the lambda  # -> item
    return read(torch.ones(()))


def over_several_lines():
    x = torch.ones(4)
    first = (
        x.square().mean().item()  # -> item
    )
    second = float(  # -> float
        x.square().mean(),
    )
    return (
        first,
        second,
        max(
            first,
            x.sum().item(),  # -> item
        ),
    )


def a_parameter_and_a_buffer():
    model = torch.nn.BatchNorm1d(4)
    model.weight.sum().item()  # -> item
    return model.weight.tolist(), model.num_batches_tracked.item()  # -> tolist, item


def sorted_values():
    losses = [torch.tensor(3.0), torch.tensor(1.0)]
    losses.sort()  # -> bool
    return min(losses)  # -> bool


def membership():
    values = [torch.tensor(1), torch.tensor(2)]
    return torch.tensor(2) in values  # -> bool x2


def raises():
    with contextlib.suppress(RuntimeError):
        torch.ones(3).item()
    with contextlib.suppress(RuntimeError):
        bool(torch.ones(3))


def through_the_standard_library():
    loss = torch.ones(())
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.Logger("training")  # noqa: LOG001 - nobody else shall hear it
    logger.addHandler(handler)
    logger.warning("loss %s", loss)  # -> print
    logger.warning("loss %.3f", loss)  # -> float
    statistics.fmean([loss, loss])  # -> float x2
    return math.sqrt(loss)  # -> float


def sizes_from_tensors():
    x, count = torch.ones(4), torch.tensor(2)
    torch.zeros(count)  # -> operator
    x.view(count, 2)  # -> operator
    return x[:count]  # -> int


def validated_distribution():
    return torch.distributions.Normal(torch.zeros(2), torch.ones(2), validate_args=True)  # -> bool x2


def contains():
    return 1.0 in torch.ones(3)  # -> item
