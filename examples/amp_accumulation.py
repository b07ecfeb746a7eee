"""Mixed precision with gradient accumulation: losses and norms are those without the scale, skipped steps are named."""

import torch
from torch import nn

import loopscope
from loopscope_exporters.memory import MemoryExporter

NUM_ROUNDS, NUM_MICRO_STEPS, BATCH_SIZE = 20, 4, 64

torch.manual_seed(0)
torch.set_num_threads(1)
device = "cuda" if torch.cuda.is_available() else "cpu"
model = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
scaler = torch.amp.GradScaler(device, init_scale=2.0**20)  # so large that the first steps overflow float16

seen = MemoryExporter()
agent = loopscope.attach(model, optimizer, port=0, exporters=(seen,))

for _ in range(NUM_ROUNDS):
    for _ in range(NUM_MICRO_STEPS):
        inputs = torch.randn(BATCH_SIZE, 32, device=device)
        with torch.autocast(device, dtype=torch.float16):
            loss = nn.functional.mse_loss(model(inputs), inputs.sum(1, keepdim=True)) / NUM_MICRO_STEPS
        scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()

agent.detach()
for report in seen.steps:
    table = report.gradients
    print(f"step {report.step}: {report.micro_steps} micro-steps, loss {report.loss:.2f}, ", end="")
    if report.skipped:
        print(f"skipped at scale {report.grad_scale:,.0f}: not finite in layers {', '.join(table.nonfinite_layers)}")
    else:
        print(f"gradient norm {table.global_norm_pre_clip:.2f}, {table.global_norm:.2f} after clipping")
