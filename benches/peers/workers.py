"""PyTorch and onnxruntime, as `compare` asks them: one JSON object a line, as peers in Rust answer it (protocol/).

    OMP_NUM_THREADS=2 python workers.py torch|onnxruntime

PyTorch also makes the networks: {"make": {…}} writes random weights and a batch into a folder.
"""

import gc
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable

import numpy as np

Call = Callable[[], Any]
THREADS = int(os.environ["OMP_NUM_THREADS"])


class Torch:
    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.version = torch.__version__
        torch.set_num_threads(THREADS)

    def network(self, case: dict) -> "torch.nn.ModuleDict":
        nn = self.torch.nn
        cell = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[case["cell"]]
        both = case["directions"] == 2
        rnn = cell(case["input"], case["hidden"], case["layers"], bidirectional=both)
        return nn.ModuleDict({"rnn": rnn, "head": nn.Linear(case["directions"] * case["hidden"], 1)})

    def make(self, case: dict) -> None:
        folder = Path(case["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        self.torch.manual_seed(1)
        state = {name: tensor.numpy() for name, tensor in self.network(case).state_dict().items()}
        write_safetensors(folder / "weights.safetensors", state)
        for name, width in (("input", case["input"]), ("target", 1)):
            self.torch.randn(case["steps"], case["batch"], width).numpy().tofile(folder / f"{name}.f32")

    def load(self, case: dict) -> Call:
        torch = self.torch
        net = self.network(case)
        weights = read_safetensors(Path(case["folder"]) / "weights.safetensors")
        net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        rnn, head = net["rnn"], net["head"]
        x, y = (torch.from_numpy(array) for array in batch(case))

        def infer() -> Any:
            with torch.inference_mode():
                return head(rnn(x)[0])

        optimizer = torch.optim.Adam(net.parameters(), lr=0.001, fused=True)

        def train() -> float:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(head(rnn(x)[0]), y)
            loss.backward()
            optimizer.step()
            return loss.item()

        steps = itertools.cycle(x.split(1))
        state = None

        def stream() -> Any:
            nonlocal state
            with torch.inference_mode():
                output, state = rnn(next(steps), state)
                return head(output)

        if case["mode"] != "train":
            net.eval()
        return {"infer": infer, "train": train, "stream": stream}[case["mode"]]


class OnnxRuntime:
    def __init__(self) -> None:
        import onnxruntime

        self.onnxruntime = onnxruntime
        self.version = onnxruntime.__version__

    def load(self, case: dict) -> Call:
        if case["mode"] == "train":
            raise ValueError("inference only")
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        name = "step.onnx" if case["mode"] == "stream" else "model.onnx"
        path = str(Path(case["folder"]) / name)
        session = self.onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        x, _ = batch(case)
        if case["mode"] == "infer":
            return lambda: session.run(["output"], {"input": x})[0]
        return self.stream(session, x, case)

    def stream(self, session: Any, x: np.ndarray, case: dict) -> Call:
        """Buffers bound once for each step, so that a call costs no more than it must. The states take turns."""
        value = self.onnxruntime.OrtValue.ortvalue_from_numpy
        names = [name.name.removeprefix("initial_") for name in session.get_inputs()[1:]]
        zeros = lambda: value(np.zeros((1, case["batch"], case["hidden"]), np.float32))  # it keeps the array's memory
        states = [{name: zeros() for name in names} for _ in range(2)]
        output = value(np.zeros((1, case["batch"], 1), np.float32))
        bindings = []
        for step, now in enumerate(x):
            binding = session.io_binding()
            binding.bind_ortvalue_input("input", value(now[None].copy()))
            binding.bind_ortvalue_output("output", output)
            for name in names:
                binding.bind_ortvalue_input(f"initial_{name}", states[step % 2][name])
                binding.bind_ortvalue_output(f"final_{name}", states[(step + 1) % 2][name])
            bindings.append(binding)
        assert len(bindings) % 2 == 0, "the last step leaves its states where the first one looks for them"
        steps = itertools.cycle(bindings)

        def call() -> Any:
            session.run_with_iobinding(next(steps))
            return output

        return call


def batch(case: dict) -> tuple[np.ndarray, np.ndarray]:
    folder = Path(case["folder"])
    read = lambda name: np.fromfile(folder / f"{name}.f32", np.float32).reshape(case["steps"], case["batch"], -1)
    return read("input"), read("target")


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:begin])
    header.pop("__metadata__", None)

    def array(entry: dict) -> np.ndarray:
        start, end = entry["data_offsets"]
        return np.frombuffer(raw[begin + start : begin + end], "<f4").reshape(entry["shape"]).copy()

    return {name: array(entry) for name, entry in header.items()}


def values(call: Call, calls: int) -> list[float]:
    """The results of the first calls, flat."""

    def flat(result: Any) -> list[float]:
        array = result.numpy() if hasattr(result, "numpy") else np.asarray(result)
        return array.astype(np.float64).ravel().tolist()

    return [value for _ in range(calls) for value in flat(call())]


def timed(call: Call, calls: int) -> list[float]:
    """Microseconds of each call. The garbage collector waits."""
    times = []
    gc.disable()
    for _ in range(calls):
        start = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - start) / 1e3)
    gc.enable()
    return times


def main() -> None:
    engine = {"torch": Torch, "onnxruntime": OnnxRuntime}[sys.argv[1]]()
    call = None
    for line in sys.stdin:
        ((request, body),) = json.loads(line).items()
        if request == "version":
            answer = {"version": engine.version}
        elif request == "make":
            engine.make(body)
            answer = {}
        elif request == "load":
            checked = {"infer": 1, "train": 3, "stream": body["steps"]}[body["mode"]]
            try:
                call = engine.load(body)
                answer = {"values": values(call, checked)}
            except Exception as why:
                answer = {"refused": str(why)}
        else:
            answer = {"us": timed(call, body["calls"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
