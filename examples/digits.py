"""The demo as a plain script: a convolutional network on scikit-learn's digits, attached by one line."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import loopscope

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
dataset = TensorDataset(images, torch.tensor(digits.target))
training, validation = (DataLoader(part, 32, shuffle=True) for part in random_split(dataset, [0.8, 0.2]))

model = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
agent = loopscope.attach(model, optimizer, port=0)
print(f"metrics: {agent.url}/metrics")

for _ in range(5):
    for batch, targets in training:
        loss = nn.functional.cross_entropy(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # passes without steps are no epochs
        hits = torch.cat([model(batch).argmax(1) == targets for batch, targets in validation])
    print(f"validation accuracy {hits.float().mean():.1%}")

agent.detach()  # at the end of the process it detaches itself; here its last words are wanted before
for report in agent.epochs:
    norms = zip(report.gradients.layers, report.gradients.mean, strict=True)
    layers = "".join(f"   layer {layer}: {norm:.3f}" for layer, norm in norms)
    print(f"epoch {report.epoch}: {report.num_steps} steps, loss {report.loss:.3f}, mean gradient norm{layers}")
