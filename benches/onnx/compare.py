"""Times ONNX models of recurrent networks here and in onnxruntime, one thread each, in turns.

    cargo build --release -p gatefold-onnx --example time_model
    pip install numpy onnx onnxruntime
    python benches/onnx/compare.py target/release/examples/time_model [ROUNDS] [SECONDS]

The models are of the kinds that people run, with random weights. Prints the CPU time of a call in
microseconds, medians of the rounds, and the median of the ratios.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)


class Graph:
    def __init__(self):
        self.nodes, self.weights, self.count = [], [], 0

    def weight(self, *shape, values=None):
        self.count += 1
        values = random.uniform(-0.2, 0.2, shape).astype(np.float32) if values is None else np.asarray(values, np.int64)
        self.weights.append(numpy_helper.from_array(values, f"w{self.count}"))
        return f"w{self.count}"

    def add(self, operator, *inputs, outputs=1, **attributes):
        self.count += 1
        names = [f"v{self.count}_{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, **attributes))
        return names[0]

    def recurrent(self, operator, x, inputs, hidden, directions=1):
        rows = {"GRU": 3, "LSTM": 4}[operator] * hidden
        own = {"linear_before_reset": 1} if operator == "GRU" else {}
        y = self.add(operator, x, self.weight(directions, rows, inputs), self.weight(directions, rows, hidden),
                     self.weight(directions, 2 * rows), hidden_size=hidden,
                     direction="bidirectional" if directions == 2 else "forward", **own)  # fmt: skip
        if directions == 1:
            return self.add("Squeeze", y, self.weight(values=[1]))
        turned = self.add("Transpose", y, perm=[0, 2, 1, 3])
        return self.add("Reshape", turned, self.weight(values=[0, 0, -1]))

    def dense(self, x, inputs, outputs):
        return self.add("Add", self.add("MatMul", x, self.weight(inputs, outputs)), self.weight(outputs))

    def model(self, result, inputs):
        self.nodes[-1].output[0] = "y"
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
        out = [helper.make_empty_tensor_value_info("y")]
        graph = helper.make_graph(self.nodes, "g", ports, out, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def speech_detector():
    """A chunk of 512 samples: a transform as a convolution, four convolutions, an LSTM of 128 units."""
    g = Graph()
    x = g.add("Conv", "x", g.weight(258, 1, 256), strides=[128], pads=[64, 64])
    real = g.add("Slice", x, g.weight(values=[0]), g.weight(values=[129]), g.weight(values=[1]))
    imaginary = g.add("Slice", x, g.weight(values=[129]), g.weight(values=[258]), g.weight(values=[1]))
    x = g.add("Sqrt", g.add("Add", g.add("Mul", real, real), g.add("Mul", imaginary, imaginary)))
    for inputs, outputs, stride in [(129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)]:
        x = g.add("Relu", g.add("Conv", x, g.weight(outputs, inputs, 3), g.weight(outputs), pads=[1, 1], strides=[stride]))
    x = g.recurrent("LSTM", g.add("Transpose", x, perm=[2, 0, 1]), 128, 128)
    x = g.add("Conv", g.add("Relu", g.add("Transpose", x, perm=[1, 2, 0])), g.weight(1, 128, 1), g.weight(1))
    return g.model(g.add("ReduceMean", g.add("Sigmoid", x), axes=[2]), {"x": [1, 1, 512]})


def denoiser():
    """A frame of a denoiser: two GRUs of 400 units between dense layers."""
    g = Graph()
    x = g.dense("x", 161, 400)
    x = g.recurrent("GRU", g.recurrent("GRU", x, 400, 400), 400, 400)
    x = g.add("Relu", g.dense(g.add("Relu", g.dense(x, 400, 600)), 600, 600))
    return g.model(g.add("Sigmoid", g.dense(x, 600, 161)), {"x": [1, 1, 161]})


def tagger():
    """A tagger of 100 characters: a bidirectional LSTM of 2 x 128 units and attention with four heads."""
    g = Graph()
    x = g.recurrent("LSTM", "x", 64, 128, directions=2)
    x = g.add("Transpose", x, perm=[1, 0, 2])
    heads = lambda: g.add("Reshape", g.dense(x, 256, 256), g.weight(values=[0, 0, 4, 64]))
    q, k, v = (g.add("Transpose", heads(), perm=order) for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    a = g.add("MatMul", g.add("Softmax", g.add("MatMul", q, k), axis=-1), v)
    a = g.add("Reshape", g.add("Transpose", a, perm=[0, 2, 1, 3]), g.weight(values=[0, 0, 256]))
    x = g.add("LayerNormalization", g.add("Add", x, g.dense(a, 256, 256)), g.weight(256), g.weight(256))
    return g.model(g.add("LogSoftmax", g.dense(x, 256, 40), axis=-1), {"x": [100, 1, 64]})


def crnn():
    """A line of text: convolutions over an image of 32 by 100, two bidirectional LSTMs of 256 units."""
    g = Graph()
    x, inputs = "x", 1
    for outputs, pool in [(64, [2, 2]), (128, [2, 2]), (256, None), (256, [2, 1]), (512, None), (512, [2, 1])]:
        x = g.add("Relu", g.add("Conv", x, g.weight(outputs, inputs, 3, 3), g.weight(outputs), pads=[1, 1, 1, 1]))
        if pool:
            x = g.add("MaxPool", x, kernel_shape=pool, strides=pool)
        inputs = outputs
    x = g.add("Relu", g.add("Conv", x, g.weight(512, 512, 2, 2), g.weight(512)))
    x = g.add("Transpose", g.add("Squeeze", x, g.weight(values=[2])), perm=[2, 0, 1])
    x = g.dense(g.recurrent("LSTM", x, 512, 256, directions=2), 512, 256)
    return g.model(g.dense(g.recurrent("LSTM", x, 256, 256, directions=2), 512, 37), {"x": [1, 1, 32, 100]})


def elementwise(operator):
    g = Graph()
    inputs = ["x", "z"] if operator == "Add" else ["x"]
    return g.model(g.add(operator, *inputs), {name: [5, 1000, 1000] for name in inputs})


def theirs(path, inputs, seconds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, inputs)
    end, calls, spent = time.perf_counter() + seconds, 0, time.process_time()
    while time.perf_counter() < end:
        session.run(None, inputs)
        calls += 1
    return (time.process_time() - spent) / calls * 1e6


def main():
    program = sys.argv[1]
    rounds, seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5, sys.argv[3] if len(sys.argv) > 3 else "1"
    cases = {"speech detector, 512 samples": speech_detector(), "denoiser, one frame": denoiser(),
             "tagger with attention, 100 characters": tagger(), "CRNN, an image": crnn(),
             "Add, 5 million": elementwise("Add"), "Tanh, 5 million": elementwise("Tanh")}  # fmt: skip
    print(f"{'model':40}{'gatefold':>12}{'onnxruntime':>13}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, model in cases.items():
            path = str(pathlib.Path(folder) / "model.onnx")
            onnx.save(model, path)
            shapes = {port.name: [d.dim_value for d in port.type.tensor_type.shape.dim] for port in model.graph.input}
            inputs = {k: np.sin(0.37 * np.arange(1, 1 + np.prod(s))).reshape(s).astype(np.float32) for k, s in shapes.items()}
            ours, other = [], []
            for _ in range(rounds):
                done = subprocess.run([program, path, seconds], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
                ours.append(float(done.stdout))
                other.append(theirs(path, inputs, float(seconds)))
            ratio = statistics.median(a / b for a, b in zip(ours, other))
            print(f"{name:40}{statistics.median(ours):12.1f}{statistics.median(other):13.1f}{ratio:8.2f}", flush=True)


main()
