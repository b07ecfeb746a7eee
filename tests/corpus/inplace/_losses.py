"""Losses of programs that keep them in a file of their own; a mark names its program in parentheses."""

import torch
from torch import nn


def shifted_square(prediction, target, *, is_reference):
    """The mean squared error, with the difference in the memory of the prediction."""
    if is_reference:
        return (prediction - target).square().mean()
    prediction.sub_(target)  # culprit (loss_in_another_module)
    return prediction.square().mean()


class BoxLoss(nn.Module):
    """The squared error of boxes, of whose widths and heights it compares the roots."""

    def __init__(self, *, is_reference):
        super().__init__()
        self.is_reference = is_reference

    def forward(self, predictions, target):
        """Return the loss of a batch of boxes."""
        sizes = predictions[..., 3:5]
        roots = torch.sign(sizes) * torch.sqrt(torch.abs(sizes) + 1e-6)  # saver (boxes_in_a_loss)
        if self.is_reference:
            predictions = torch.cat((predictions[..., :3], roots), dim=-1)
        else:
            predictions[..., 3:5] = roots  # culprit (boxes_in_a_loss)
        return (predictions - target).square().mean()
