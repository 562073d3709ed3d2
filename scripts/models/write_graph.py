#!/usr/bin/env python3
"""Writes the ONNX graph of a BERT sentence encoder whose weights stay in model.safetensors.

usage: write_graph.py MODEL_DIR OUT.onnx

The published weights come as safetensors, ONNX Runtime wants a graph. The graph of an encoder follows from its
config.json alone, so it is written here with the standard library: a few dozen kilobytes of protobuf in which each
weight is an "external" tensor (file, offset, length). The output is the last hidden state; pooling and
normalisation belong to the reader. The same input always gives the same bytes, so the result has a checksum too.
Field numbers are those of onnx.proto (ONNX IR version 8, opset 17).
"""
import json
import math
import struct
import sys

FLOAT, INT64 = 1, 7  # TensorProto.DataType
WEIGHTS = "model.safetensors"


# --- protobuf wire format -------------------------------------------------------------------------------------
def varint(n):
    n &= (1 << 64) - 1  # negative integers are sent as their 64-bit two's complement
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def integer(field, value):
    return varint(field << 3) + varint(value)


def blob(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def float32(field, value):
    return varint(field << 3 | 5) + struct.pack("<f", value)


def attribute(name, value):
    """AttributeProto: one float, one integer or a list of integers."""
    if isinstance(value, float):
        body = float32(2, value) + integer(20, 1)
    elif isinstance(value, int):
        body = integer(3, value) + integer(20, 2)
    else:
        body = b"".join(integer(8, v) for v in value) + integer(20, 7)
    return blob(5, blob(1, name) + body)


def value_info(name, data_type, shape):
    """ValueInfoProto: a graph input or output; a string in the shape is a free dimension."""
    dims = b"".join(blob(1, blob(2, d) if isinstance(d, str) else integer(1, d)) for d in shape)
    return blob(1, name) + blob(2, blob(1, integer(1, data_type) + blob(2, dims)))


# --- the graph ------------------------------------------------------------------------------------------------
class Graph:
    """Collects nodes and tensors; every method returns the name under which its result can be used."""

    def __init__(self, model_dir):
        self.nodes, self.tensors, self.named, self.count = b"", b"", set(), 0
        with open(f"{model_dir}/{WEIGHTS}", "rb") as f:
            header_bytes = struct.unpack("<Q", f.read(8))[0]
            self.header = json.loads(f.read(header_bytes))
        self.data_start = 8 + header_bytes

    def op(self, kind, *inputs, out=None, **attributes):
        self.count += 1
        out = out or f"{kind}_{self.count}"
        body = b"".join(blob(1, i) for i in inputs) + blob(2, out) + blob(3, f"n{self.count}") + blob(4, kind)
        self.nodes += blob(1, body + b"".join(attribute(k, v) for k, v in attributes.items()))
        return out

    def _tensor(self, name, shape, data_type, payload):
        if name not in self.named:
            self.named.add(name)
            dims = b"".join(integer(1, d) for d in shape)
            self.tensors += blob(5, dims + integer(2, data_type) + blob(8, name) + payload)
        return name

    def ints(self, name, values):
        return self._tensor(name, [len(values)], INT64, blob(9, struct.pack(f"<{len(values)}q", *values)))

    def scalar(self, name, value):
        return self._tensor(name, [], FLOAT, blob(9, struct.pack("<f", value)))

    def weight(self, name):
        entry = self.header.get(name)
        if entry is None or entry["dtype"] != "F32":
            sys.exit(f"{WEIGHTS}: no float32 tensor {name!r}; only BERT encoders in float32 are understood")
        start, end = entry["data_offsets"]
        place = {"location": WEIGHTS, "offset": str(self.data_start + start), "length": str(end - start)}
        payload = b"".join(blob(13, blob(1, k) + blob(2, v)) for k, v in place.items()) + integer(14, 1)
        return self._tensor(name, entry["shape"], FLOAT, payload)

    def linear(self, x, prefix):
        transposed = self.op("Transpose", self.weight(prefix + ".weight"), perm=[1, 0])
        return self.op("Add", self.op("MatMul", x, transposed), self.weight(prefix + ".bias"))

    def layer_norm(self, x, prefix, epsilon):
        weight, bias = self.weight(prefix + ".weight"), self.weight(prefix + ".bias")
        return self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=float(epsilon))


def embeddings(g, epsilon):
    """Word, token-type and position embeddings, added and normalised."""
    zero, one, two = g.ints("zero", [0]), g.ints("one", [1]), g.ints("two", [2])
    length = g.op("Slice", g.op("Shape", "input_ids"), one, two, zero)
    p = "embeddings."
    x = g.op("Gather", g.weight(p + "word_embeddings.weight"), "input_ids", axis=0)
    x = g.op("Add", x, g.op("Gather", g.weight(p + "token_type_embeddings.weight"), "token_type_ids", axis=0))
    x = g.op("Add", x, g.op("Slice", g.weight(p + "position_embeddings.weight"), zero, length, zero))
    return g.layer_norm(x, p + "LayerNorm", epsilon)


def attention_bias(g):
    """0 where there is a token, -10000 where there is padding, to be added to the attention scores."""
    mask = g.op("Cast", g.op("Unsqueeze", "attention_mask", g.ints("ax12", [1, 2])), to=FLOAT)
    return g.op("Mul", g.op("Sub", g.scalar("one_f", 1.0), mask), g.scalar("masked", -10000.0))


def layer(g, x, bias, prefix, config):
    """One transformer layer: self attention, then the feed-forward part with GELU (erf form)."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width, epsilon = hidden // heads, config["layer_norm_eps"]
    split, merge = g.ints("split", [0, 0, heads, width]), g.ints("merge", [0, 0, hidden])
    attention = prefix + "attention."

    def head(name, perm):
        return g.op("Transpose", g.op("Reshape", g.linear(x, attention + "self." + name), split), perm=perm)

    q, k, v = head("query", [0, 2, 1, 3]), head("key", [0, 2, 3, 1]), head("value", [0, 2, 1, 3])
    scores = g.op("Div", g.op("MatMul", q, k), g.scalar("sqrt_width", math.sqrt(width)))
    shares = g.op("Softmax", g.op("Add", scores, bias), axis=-1)
    context = g.op("Reshape", g.op("Transpose", g.op("MatMul", shares, v), perm=[0, 2, 1, 3]), merge)
    x = g.op("Add", g.linear(context, attention + "output.dense"), x)
    x = g.layer_norm(x, attention + "output.LayerNorm", epsilon)
    f = g.linear(x, prefix + "intermediate.dense")
    erf = g.op("Add", g.op("Erf", g.op("Div", f, g.scalar("sqrt2", math.sqrt(2)))), "one_f")
    gelu = g.op("Mul", g.op("Mul", f, erf), g.scalar("half", 0.5))
    return g.layer_norm(g.op("Add", g.linear(gelu, prefix + "output.dense"), x), prefix + "output.LayerNorm", epsilon)


def main(model_dir, out):
    with open(f"{model_dir}/config.json", encoding="utf-8") as f:
        config = json.load(f)
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        sys.exit(f"{model_dir}/config.json: only model_type bert with hidden_act gelu is understood")
    g = Graph(model_dir)
    x, bias = embeddings(g, config["layer_norm_eps"]), attention_bias(g)
    for n in range(config["num_hidden_layers"]):
        x = layer(g, x, bias, f"encoder.layer.{n}.", config)
    g.op("Identity", x, out="last_hidden_state")
    free = ["batch_size", "sequence_length"]
    inputs = [value_info(n, INT64, free) for n in ("input_ids", "attention_mask", "token_type_ids")]
    output = value_info("last_hidden_state", FLOAT, free + [config["hidden_size"]])
    graph = g.nodes + blob(2, "bert") + g.tensors + b"".join(blob(11, i) for i in inputs) + blob(12, output)
    with open(out, "wb") as f:
        f.write(integer(1, 8) + blob(2, "sluicegate") + blob(7, graph) + blob(8, blob(1, "") + integer(2, 17)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: write_graph.py MODEL_DIR OUT.onnx")
    main(*sys.argv[1:])
