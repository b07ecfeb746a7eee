"""Laws of the samples in a batch."""

from __future__ import annotations

import torch

from loopscope.probes.loader import num_samples_in


class _Counting(list[object]):
    """A list that counts the values taken from it."""

    num_taken = 0

    def __iter__(self):
        for value in super().__iter__():
            self.num_taken += 1
            yield value


def test_large_batch_without_tensors_is_not_walked_through():
    """Lists of numbers, however long, cost a few looks."""
    batch = _Counting([[1] * 1_000] * 1_000)

    assert num_samples_in({"tokens": batch}) is None
    assert batch.num_taken < 10


def test_first_tensor_tells_the_samples():
    """Its first dimension is the batch, whatever it is packed in."""
    assert num_samples_in({"names": ["a", "b"], "inputs": (torch.zeros(2, 3), torch.zeros(2))}) == 2
