"""Times PyTorch's nn.LSTM and nn.GRU, which run on cuDNN, with a linear head that gives one value a step.

    python3 cudnn.py SHAPES LAYERS CELLS [SECONDS]      such as  64,128,256,256:32,50,16,64 1,2 lstm,gru 0.2

Prints one JSON object a line: for every shape, cell and number of layers, inference and a training step (squared
error, Adam) in float32 without and with TF32, and inference in float16. `device` leaves the batch on the card and
waits until the card is idle. `host`, in float32 only, begins with the batch in the processor's memory and ends when
the output, or the loss, is back there, as `gatefold bench` does. Three runs to warm up, then at least seven that count.
"""

import json
import sys
import time

import torch

WARM_UPS = 3
LEAST_RUNS = 7
MOST_RUNS = 200


def timed(run, seconds):
    """The median and the quartiles of what `run` takes, in milliseconds."""
    for _ in range(WARM_UPS):
        run()
    torch.cuda.synchronize()
    runs = []
    begin = time.perf_counter()
    while len(runs) < LEAST_RUNS or (len(runs) < MOST_RUNS and time.perf_counter() - begin < seconds):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        runs.append((time.perf_counter() - start) * 1e3)
    runs.sort()
    at = lambda share: runs[round(share * (len(runs) - 1))]
    return {"median_ms": at(0.5), "quartiles_ms": [at(0.25), at(0.75)], "runs": len(runs)}


class Net(torch.nn.Module):
    def __init__(self, cell, inputs, hidden, layers):
        super().__init__()
        self.recurrent = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](inputs, hidden, layers)
        self.head = torch.nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(self.recurrent(x)[0])


def measure(shape, cell, layers, seconds):
    """Yields a result for each precision and mode, and in float32 for each place of the batch."""
    batch, steps, inputs, hidden = shape
    torch.manual_seed(1)
    x = torch.randn(steps, batch, inputs)
    y = torch.randn(steps, batch, 1)
    for precision in ("float32", "tf32", "float16"):
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        kind = torch.float16 if precision == "float16" else torch.float32
        net = Net(cell, inputs, hidden, layers).cuda().to(kind)
        there_x, there_y = x.cuda().to(kind), y.cuda().to(kind)

        def infer(batch_x):
            with torch.inference_mode():
                return net(batch_x)

        runs = [("infer", "device", lambda: infer(there_x))]
        if precision == "float32":
            runs.append(("infer", "host", lambda: infer(x.cuda()).cpu()))
        optimizer = torch.optim.Adam(net.parameters(), fused=True)

        def train(batch_x, batch_y):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(net(batch_x), batch_y)
            loss.backward()
            optimizer.step()
            return loss

        if precision != "float16":
            runs.append(("train", "device", lambda: train(there_x, there_y)))
        if precision == "float32":
            runs.append(("train", "host", lambda: train(x.cuda(), y.cuda()).item()))
        for mode, place, run in runs:
            yield {"precision": precision, "mode": mode, "place": place, **timed(run, seconds)}


def main():
    shapes = [tuple(map(int, shape.split(","))) for shape in sys.argv[1].split(":")]
    layer_counts = [int(count) for count in sys.argv[2].split(",")]
    cells = sys.argv[3].split(",")
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 0.5
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA device")
    print(json.dumps({
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": torch.cuda.get_device_name(),
    }), flush=True)
    for shape in shapes:
        for layers in layer_counts:
            for cell in cells:
                case = {"shape": shape, "cell": cell, "layers": layers}
                try:
                    for result in measure(shape, cell, layers, seconds):
                        print(json.dumps({**case, **result}), flush=True)
                except RuntimeError as error:  # out of memory, say: the other shapes are still worth it
                    print(json.dumps({**case, "error": str(error)[:500]}), flush=True)


main()
