"""The sentence model's weights in onnxruntime as the other side of a comparison. It lives in an
environment of its own, whose interpreter is named by JAMMI_ONNX_PYTHON (`python3 -m venv DIR;
DIR/bin/pip install onnxruntime onnx tokenizers`); this file never imports it."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from jammi_lab.features.vectors.encoders.minilm import PACKAGE

VARIABLE = "JAMMI_ONNX_PYTHON"
ROOT = Path(__file__).resolve().parent.parent
Side = Callable[[Sequence[str]], float]
"""Encodes texts and gives the processor time that it took."""

_SERVE = """
for line in sys.stdin:
    texts = json.loads(line)
    began = time.process_time()
    encode(texts)
    print(time.process_time() - began, flush=True)
"""
_OURS = (
    "import json, sys, time\nfrom jammi_lab.features.vectors.encoders.minilm import MiniLM\nencode = "
    "MiniLM().encode\n" + _SERVE
)
# The graph as it is exported from the model's usual code; onnxruntime itself puts together what it
# can (layers, attention, GELU).
_OTHER = (
    """
import itertools, json, struct, sys, time
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

model, made = sys.argv[1:]
body = open(f"{model}/model.safetensors", "rb").read()
(length,) = struct.unpack_from("<Q", body)
weights = {}
for name, entry in json.loads(body[8 : 8 + length]).items():
    if name != "__metadata__" and entry["dtype"] == "F32":
        first, last = entry["data_offsets"]
        weights[name.removeprefix("bert.")] = np.frombuffer(body, "<f4", (last - first) // 4, 8 + length + first).reshape(entry["shape"])
nodes, constants = [], []

def const(name, value):
    constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name

def op(kind, inputs, output, **attributes):
    nodes.append(helper.make_node(kind, inputs, [output], **attributes))
    return output

def linear(x, name, out):
    product = op("MatMul", [x, const(out + ".w", weights[name + ".weight"].T)], out + ".m")
    return op("Add", [product, const(out + ".b", weights[name + ".bias"])], out)

def norm(x, name, out):
    gain, bias = const(out + ".g", weights[name + ".weight"]), const(out + ".c", weights[name + ".bias"])
    return op("LayerNormalization", [x, gain, bias], out, axis=-1, epsilon=1e-12)

places = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
zero = const("zero", np.array([0], np.int64))
x = op("Gather", [const("words", weights["embeddings.word_embeddings.weight"]), "ids"], "embedded")
op("Slice", [const("places", places), zero, op("Shape", ["ids"], "length", start=1, end=2), zero], "placed")
x = norm(op("Add", [x, "placed"], "summed"), "embeddings.LayerNorm", "first")
const("split", np.array([0, 0, 12, 32], np.int64)), const("merge", np.array([0, 0, 384], np.int64))
for name, value in (("scale", 32**-0.5), ("root", 2**0.5), ("one", 1), ("half", 0.5)):
    const(name, np.array(value, np.float32))
for i in range(6):
    at, n = f"encoder.layer.{i}.", f"layer{i}."
    parts = []
    for part, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        y = op("Reshape", [linear(x, at + "attention.self." + part, n + part), "split"], n + part + ".r")
        parts.append(op("Transpose", [y], n + part + ".t", perm=order))
    scores = op("Mul", [op("MatMul", parts[:2], n + "dots"), "scale"], n + "scores")
    mixed = op("MatMul", [op("Softmax", [scores], n + "shares", axis=-1), parts[2]], n + "mixed")
    mixed = op("Reshape", [op("Transpose", [mixed], n + "back", perm=[0, 2, 1, 3]), "merge"], n + "merged")
    dense = linear(mixed, at + "attention.output.dense", n + "dense")
    x = norm(op("Add", [dense, x], n + "more"), at + "attention.output.LayerNorm", n + "norm")
    up = linear(x, at + "intermediate.dense", n + "up")
    y = op("Add", [op("Erf", [op("Div", [up, "root"], n + "g1")], n + "g2"), "one"], n + "g3")
    y = op("Mul", [op("Mul", [up, y], n + "g4"), "half"], n + "g5")
    x = norm(op("Add", [linear(y, at + "output.dense", n + "down"), x], n + "sum"), at + "output.LayerNorm", n + "out")
mean = op("ReduceMean", [x, const("rows", np.array([1], np.int64))], "mean", keepdims=0)
op("Div", [mean, op("ReduceL2", [mean, const("last", np.array([-1], np.int64))], "length2", keepdims=1)], "vectors")
inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"])]
outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 384])]
built = helper.make_model(helper.make_graph(nodes, "minilm", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 18)])
built.ir_version = 9
onnx.save(built, made)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(256)

def encode(texts):
    ids = [found.ids for found in tokenizer.encode_batch(texts)]
    out = np.empty((len(ids), 384), np.float32)
    for size, same in itertools.groupby(sorted(range(len(ids)), key=lambda i: len(ids[i])), key=lambda i: len(ids[i])):
        rows = list(same)
        step = max(1, 1024 // size)
        for at in range(0, len(rows), step):
            some = rows[at : at + step]
            (out[some],) = session.run(None, {"ids": np.array([ids[i] for i in some], np.int64)})
    return out
"""
    + _SERVE
)


def interpreter() -> str | None:
    """The interpreter that has it; None when nobody said."""
    return os.environ.get(VARIABLE) or None


@contextlib.contextmanager
def sides(python: str, folder: Path) -> Iterator[tuple[Side, Side]]:
    """Both sides, each in a process of its own on one core.

    Both may use every instruction that the processor has: what the environment says to OpenBLAS
    alone is left out.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {PACKAGE} is not installed")
    model = str(Path(spec.origin).parent / "model")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")} | {
        "PYTHONPATH": str(ROOT),
        "TOKENIZERS_PARALLELISM": "false",
    }
    with contextlib.ExitStack() as stack:
        yield (
            _side(stack, [sys.executable, "-c", _OURS], environment),
            _side(stack, [python, "-c", _OTHER, model, str(folder / "minilm.onnx")], environment),
        )


def _side(stack: contextlib.ExitStack, command: Sequence[str], environment: dict[str, str]) -> Side:
    child = stack.enter_context(
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    )
    assert child.stdin is not None
    assert child.stdout is not None
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(child.pid, {max(os.sched_getaffinity(0))})
    asked, answered = child.stdin, child.stdout

    def encode(texts: Sequence[str]) -> float:
        asked.write(json.dumps(texts) + "\n")
        asked.flush()
        return float(answered.readline())

    return encode
