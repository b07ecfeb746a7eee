"""Programs whose operators wait for the device inside; marks as in scalars.py."""

from __future__ import annotations

import torch
from torch.nn import functional


def mask_read():
    x = torch.arange(6.0)
    first = x[x > 2]  # -> mask
    return first, x[torch.tensor([1, 0, 1, 0, 1, 0], dtype=torch.bool)]  # -> mask


def mask_backward():
    x = torch.arange(6.0, requires_grad=True)
    kept = x[x > 2]  # -> mask
    kept.sum().backward()  # -> mask


def mask_write():
    x, mask = torch.arange(6.0), torch.tensor([True, False] * 3)
    x[mask] = 0.0
    x[mask] = torch.tensor(1.0)
    x[mask] = torch.ones(3)  # -> mask
    x[mask] = x.mean()  # -> mask
    x[mask] = x.mean().cpu()  # -> cpu
    x[mask] += 1  # -> mask x2
    return x


def mask_of_rows():
    x = torch.ones(4, 2)
    mask = x.sum(1) > 1
    rows = x[mask, 0]  # -> mask
    x[mask, torch.tensor([0])] = 2.0  # -> mask
    return rows


def nonzero():
    x = torch.arange(4.0)
    torch.nonzero(x)  # -> nonzero
    x.nonzero(as_tuple=True)  # -> nonzero
    return torch.argwhere(x)  # -> nonzero


def where_with_one_argument():
    x = torch.arange(4.0)
    (rows,) = torch.where(x > 1)  # -> nonzero
    return rows


def unique():
    x = torch.tensor([1, 1, 2])
    torch.unique(x)  # -> unique
    x.unique(return_counts=True)  # -> unique
    return torch.unique_consecutive(x)  # -> unique


def masked_select():
    x = torch.arange(4.0)
    torch.masked_select(x, x > 1)  # -> masked_select
    return x.masked_select(x > 2)  # -> masked_select


def one_hot():
    labels = torch.tensor([0, 2])
    return functional.one_hot(labels)  # -> operator


def repeat_interleave():
    x, repeats = torch.ones(3), torch.tensor([1, 2, 3])
    x.repeat_interleave(2)
    x.repeat_interleave(repeats, output_size=6)
    return x.repeat_interleave(repeats)  # -> operator


def integer_tensor_as_index():
    x, row = torch.ones(3, 2), torch.tensor(1)
    return x[row]  # -> operator


def equal():
    return torch.equal(torch.ones(3), torch.ones(3))  # -> operator


def to_the_host():
    x = torch.ones(3)
    host = x.to("cpu")  # -> copy
    host.tolist()
    x.to(device="cpu")  # -> copy
    x.to(torch.device("cpu"))  # -> copy
    x.to("cpu", non_blocking=True)
    host.to("cpu")
    return host


def to_the_host_with_its_graph():
    x = torch.ones(3, requires_grad=True)
    loss = x.sum()
    loss.to("cpu").item()  # -> copy
    loss.cpu().item()  # -> cpu
    loss.item()  # -> item
    loss.to("cpu").backward()  # -> copy


def to_the_host_over_several_lines():
    x = torch.ones(3)
    host = x.to(  # -> copy
        "cpu",
        torch.float64,
    )
    return host.sum().item()


def to_whatever_is_there():
    return torch.ones(()).to("cuda" if torch.cuda.is_available() else "cpu").item()  # -> item


def module_to_the_host():
    return torch.nn.Linear(2, 2).to("cpu")  # -> copy x2


def sums_on_the_host():
    total, batch = torch.zeros(3), torch.ones(3)
    total += batch.cpu()  # -> cpu
    largest = batch.max().cpu()  # -> cpu
    (largest + 1).item()
    (largest * batch).tolist()  # -> tolist
    torch.stack([largest, largest]).tolist()
    batch[total.long()].sum().item()  # -> item
    return total.numpy()


def to_the_host_and_back():
    x = torch.ones(3)
    host = x.cpu()  # -> cpu
    back = host.to(x.device)  # -> copy
    back.sum().item()  # -> item
    host.to(x.device, non_blocking=True).tolist()  # -> tolist
    return host.tolist()


def made_on_the_host():
    x, device = torch.ones(3), "cpu"
    total = torch.zeros(3, device="cpu")
    total += x.cpu()  # -> cpu
    total.tolist()
    torch.tensor([1, 2], device=torch.device("cpu")).tolist()
    return torch.zeros(3, device=device).tolist()  # -> tolist


def copied_into_the_host():
    x = torch.ones(3)
    host = torch.zeros(3).cpu()  # -> cpu
    host.copy_(x)  # -> copy
    x.copy_(host)  # -> copy
    host.copy_(x, non_blocking=True)
    return host


def inside_a_helper_of_torch():
    x = torch.ones(4, 3)
    return torch.isclose(x, x).all().item()  # -> item


def all_close():
    return torch.allclose(torch.ones(3), torch.ones(3))  # -> operator


def sizes_inside():
    count = torch.tensor(2)
    x = torch.ones(4)
    torch.arange(count)  # -> operator
    return x.topk(count)  # -> operator


def sampled_tokens():
    torch.normal(torch.zeros(2), torch.ones(2))  # -> operator
    torch.normal(torch.zeros(2), 1.0)
    return torch.multinomial(torch.ones(4), 4, replacement=True)


def bincount():
    return torch.bincount(torch.tensor([0, 1, 1]))  # -> operator


def histograms_and_memberships():
    x = torch.randn(20)
    torch.histc(x, bins=4, min=-1, max=1)
    torch.histc(x)  # -> operator
    torch.isin(x, x[:2])
    return torch.isin(x, torch.randn(100))  # -> operator


def numbers_of_the_device():
    x = torch.randn(4)
    lowest = x.min()
    x.masked_fill(x > 0, 0.0)
    x.masked_fill(x > 0, torch.tensor(0.0))
    x.masked_fill(x > 0, lowest)  # -> operator
    x.index_fill(0, torch.tensor([1]), lowest)  # -> operator
    return torch.linspace(lowest, 0, 5)  # -> operator


def decompositions():
    x = torch.eye(3)
    torch.linalg.qr(x)
    torch.linalg.svd(x)  # -> operator
    return torch.linalg.eigh(x)  # -> operator


def on_lines_of_one_call():
    x = torch.arange(6.0)
    return torch.cat(
        [
            x[x > 2],  # -> mask
            x.masked_select(x > 3),  # -> masked_select
        ]
    )
