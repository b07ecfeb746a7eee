"""Laws of the samples in a batch."""

from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("size", [8, 5])
def test_a_list_of_images_counts_the_images(size):
    """Images of different sizes come as a list: their number counts, not the channels of the first one."""
    images = tuple(torch.zeros(3, 10 + index, 10) for index in range(size))
    targets = tuple({"boxes": torch.zeros(2, 4)} for _ in range(size))

    assert num_samples_in((images, targets), batch_size=8) == size


@pytest.mark.parametrize(("first", "expected"), [(8, 8), (7, 7), (500, None)])
def test_the_first_dimension_must_not_contradict_the_loader(first, expected):
    """A full batch, the last one, and the nodes of a graph, which are no samples."""
    assert num_samples_in([torch.zeros(first, 2), torch.zeros(first)], batch_size=8) == expected
