"""A peer's side of `cargo xtask bench map`: another search library over the same chunks.

    python -I map.py PEER CORPUS STORE

Reads requests from standard input, one object a line, and answers each with one:

    {"do": "index"}
        {"words_s": 1.2, "all_s": 3.4, "settings": "...", "knobs": ["...", ...]}
    {"do": "ask", "question": 3, "filter": 2, "arm": "hybrid" or "vectors", "knob": 0}
        {"ms": 5.6, "chunks": [17, 4, ...]}

CORPUS holds `chunks.jsonl` (place and text; the line is the chunk's number), `vectors.f32` and `questions.json`.
A filter is a range of places. `knobs` are a peer's settings from fast to exact: whoever asks takes the first that
reaches the recall it wants. Every peer stems English words and gives back the passages' text, as Freehold does.
"""

import json
import os
import sys
import time
import types

BATCH = 10_000
NEAREST = 10
# Candidates that each arm gives where this program fuses them; as many as Freehold takes.
CANDIDATES = 100
RECIPROCAL_RANK_K = 60


class Corpus:
    """The files that all sides read."""

    def __init__(self, folder):
        self.folder = folder
        self.asked = None
        self.dimensions = 384

    def chunks(self):
        """Lists of (number, place, text)."""
        batch = []
        with open(os.path.join(self.folder, "chunks.jsonl"), encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                chunk = json.loads(line)
                batch.append((number, chunk["place"], chunk["text"]))
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def vectors(self):
        """The chunks' vectors as bytes, as many at once as `chunks` gives."""
        with open(os.path.join(self.folder, "vectors.f32"), "rb") as values:
            while bytes_read := values.read(BATCH * self.dimensions * 4):
                yield bytes_read

    def question(self, number):
        if self.asked is None:
            with open(os.path.join(self.folder, "questions.json"), encoding="utf-8") as text:
                self.asked = json.load(text)
        return self.asked["questions"][number]

    def bounds(self, question, number):
        """The places that a filter leaves, or None where it leaves all."""
        under = question["under"][number]
        return None if self.asked["shares"][number] == 10_000 else (under["low"], under["high"])


def fused(arms):
    """Reciprocal rank fusion."""
    scores = {}
    for arm in arms:
        for rank, chunk in enumerate(arm, 1):
            scores[chunk] = scores.get(chunk, 0.0) + 1.0 / (RECIPROCAL_RANK_K + rank)
    return sorted(scores, key=lambda chunk: -scores[chunk])[:NEAREST]


class Lance:
    """LanceDB: its own full-text index, IVF-PQ with refinement from the whole vectors, its own hybrid search."""

    SETTINGS = (
        "IVF_PQ by its defaults, refined; FTS with stemming and stop words by its defaults; BTREE on place; "
        "hybrid with its RRFReranker"
    )
    # Partitions looked at, and candidates compared by their whole vectors for each that is wanted.
    KNOBS = [(20, 5), (20, 20), (50, 20), (50, 50), (100, 100), (1000, 100)]

    def __init__(self, corpus, store):
        # The package loads tqdm, whose licence (MPL-2.0) isn't on our list, to draw bars that nobody sees here.
        bars = types.ModuleType("tqdm")
        bars.tqdm = lambda each, **_: each
        sys.modules["tqdm"] = bars
        # It would warn at every search of columns that a later version will name otherwise.
        os.environ["LANCEDB_LOG"] = "error"
        import lancedb
        import lancedb.index
        import pyarrow

        self.pyarrow, self.kinds, self.corpus = pyarrow, lancedb.index, corpus
        self.database = lancedb.connect(store)
        self.table = None

    def batches(self, schema, with_vectors):
        arrow = self.pyarrow
        vectors = self.corpus.vectors() if with_vectors else None
        for batch in self.corpus.chunks():
            columns = [
                arrow.array([number for number, _, _ in batch], arrow.int32()),
                arrow.array([place for _, place, _ in batch], arrow.int32()),
                arrow.array([text for _, _, text in batch], arrow.string()),
            ]
            if vectors is not None:
                count = len(batch) * self.corpus.dimensions
                values = arrow.Array.from_buffers(arrow.float32(), count, [None, arrow.py_buffer(next(vectors))])
                columns.append(arrow.FixedSizeListArray.from_arrays(values, self.corpus.dimensions))
            yield arrow.record_batch(columns, schema=schema)

    def make(self, name, with_vectors):
        arrow = self.pyarrow
        fields = [("chunk", arrow.int32()), ("place", arrow.int32()), ("text", arrow.string())]
        if with_vectors:
            fields.append(("vector", arrow.list_(arrow.float32(), self.corpus.dimensions)))
        schema = arrow.schema(fields)
        reader = arrow.RecordBatchReader.from_batches(schema, self.batches(schema, with_vectors))
        table = self.database.create_table(name, data=reader, schema=schema)
        table.create_index("text", config=self.kinds.FTS())
        return table

    def index(self):
        # A table of words alone stands by itself: vectors can't be put into it later without writing it anew.
        started = time.perf_counter()
        self.make("words", with_vectors=False)
        words_s = time.perf_counter() - started
        self.database.drop_table("words")
        started = time.perf_counter()
        self.table = self.make("chunks", with_vectors=True)
        self.table.create_index("place", config=self.kinds.BTree())
        self.table.create_index("vector", config=self.kinds.IvfPq(distance_type="cosine"))
        all_s = time.perf_counter() - started
        return words_s, all_s

    def ask(self, question, bounds, hybrid, knob):
        partitions, refine = knob
        if hybrid:
            query = self.table.search(query_type="hybrid", vector_column_name="vector", fts_columns="text")
            query = query.vector(question["vector"]).text(question["text"])
        else:
            query = self.table.search(question["vector"], vector_column_name="vector")
        query = query.distance_type("cosine").nprobes(partitions).refine_factor(refine).limit(NEAREST)
        if bounds is not None:
            query = query.where(f"place >= {bounds[0]} AND place < {bounds[1]}", prefilter=True)
        found = query.select(["chunk", "text"]).to_arrow()
        return found.column("chunk").to_pylist(), found.column("text").to_pylist()


class Sqlite:
    """SQLite with FTS5 and sqlite-vec: sign bits first, the best compared by their whole vectors."""

    SETTINGS = (
        "FTS5 with porter stemming over an external-content table; vec0 with sign bits, rescored by float vectors; "
        "place as a metadata column; WAL, synchronous=NORMAL, mmap; fused by reciprocal rank"
    )
    # Candidates by their signs for each that is wanted; None compares all whole vectors.
    KNOBS = [20, 50, 100, 200, 400, None]

    def __init__(self, corpus, store):
        import apsw
        import sqlite_vec

        os.makedirs(store, exist_ok=True)
        self.corpus = corpus
        self.db = apsw.Connection(os.path.join(store, "map.db"))
        self.db.enable_load_extension(True)
        self.db.load_extension(sqlite_vec.loadable_path())
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "mmap_size=8589934592", "cache_size=-262144"):
            self.db.execute(f"PRAGMA {pragma}").fetchall()

    def index(self):
        started = time.perf_counter()
        run = self.db.execute
        run("CREATE TABLE chunk (id INTEGER PRIMARY KEY, place INTEGER NOT NULL, text TEXT NOT NULL)")
        run(
            "CREATE VIRTUAL TABLE word USING fts5"
            "(text, content='chunk', content_rowid='id', tokenize='porter unicode61')"
        )
        for batch in self.corpus.chunks():
            with self.db:
                self.db.executemany("INSERT INTO chunk VALUES (?, ?, ?)", batch)
        run("CREATE INDEX chunk_place ON chunk (place)")
        run("INSERT INTO word (word) VALUES ('rebuild')")
        run("INSERT INTO word (word) VALUES ('optimize')")
        words_s = time.perf_counter() - started
        width = self.corpus.dimensions
        run(
            f"CREATE VIRTUAL TABLE vec USING vec0(id INTEGER PRIMARY KEY, place INTEGER, "
            f"signs bit[{width}], whole float[{width}] distance_metric=cosine)"
        )
        for batch, values in zip(self.corpus.chunks(), self.corpus.vectors()):
            rows = []
            for at, (number, place, _) in enumerate(batch):
                own = values[at * width * 4 : (at + 1) * width * 4]
                rows.append((number, place, own, own))
            with self.db:
                self.db.executemany("INSERT INTO vec VALUES (?, ?, vec_quantize_binary(?), ?)", rows)
        return words_s, time.perf_counter() - started

    def words(self, question, bounds):
        wanted = " OR ".join(f'"{word}"' for word in question["text"].split())
        if bounds is None:
            found = self.db.execute("SELECT rowid FROM word WHERE word MATCH ? ORDER BY rank LIMIT ?", (wanted, CANDIDATES))
        else:
            found = self.db.execute(
                "SELECT word.rowid FROM word JOIN chunk ON chunk.id = word.rowid "
                "WHERE word MATCH ? AND chunk.place >= ? AND chunk.place < ? ORDER BY rank LIMIT ?",
                (wanted, *bounds, CANDIDATES),
            )
        return [chunk for (chunk,) in found]

    def nearest(self, question, bounds, knob, limit):
        vector = question["blob"]
        within = "" if bounds is None else "AND place >= ? AND place < ?"
        bounds = bounds or ()
        if knob is None:
            found = self.db.execute(
                f"SELECT id FROM vec WHERE whole MATCH ? AND k = ? {within} ORDER BY distance", (vector, limit, *bounds)
            )
        else:
            found = self.db.execute(
                f"WITH coarse AS MATERIALIZED (SELECT id, whole FROM vec "
                f"WHERE signs MATCH vec_quantize_binary(?) AND k = ? {within}) "
                f"SELECT id FROM coarse ORDER BY vec_distance_cosine(whole, ?) LIMIT ?",
                (vector, max(knob * NEAREST, limit), *bounds, vector, limit),
            )
        return [chunk for (chunk,) in found]

    def ask(self, question, bounds, hybrid, knob):
        if "blob" not in question:
            import struct

            question["blob"] = struct.pack(f"<{len(question['vector'])}f", *question["vector"])
        if hybrid:
            chunks = fused([self.words(question, bounds), self.nearest(question, bounds, knob, CANDIDATES)])
        else:
            chunks = self.nearest(question, bounds, knob, NEAREST)
        marks = ", ".join("?" * len(chunks))
        return chunks, self.db.execute(f"SELECT text FROM chunk WHERE id IN ({marks})", chunks).fetchall()


class Faiss:
    """A Python stack: faiss for vectors, tantivy for words, fused in Python."""

    SETTINGS = (
        "faiss IVF of 4 times the root of the chunks, 16-bit floats, filters as bitmaps; tantivy with stemming, "
        "filters as ranges; fused by reciprocal rank"
    )
    # Lists looked at; the last is all of them.
    KNOBS = [4, 16, 64, 256, 1024, 1 << 20]
    TRAINED_PER_LIST = 50

    def __init__(self, corpus, store):
        import faiss
        import numpy
        import tantivy

        self.faiss, self.numpy, self.tantivy = faiss, numpy, tantivy
        self.corpus, self.store = corpus, store
        os.makedirs(os.path.join(store, "words"), exist_ok=True)
        schema = tantivy.SchemaBuilder()
        schema.add_unsigned_field("chunk", stored=True, indexed=True, fast=True)
        schema.add_unsigned_field("place", indexed=True, fast=True)
        schema.add_text_field("text", stored=True, tokenizer_name="en_stem")
        self.schema = schema.build()
        self.words = tantivy.Index(self.schema, path=os.path.join(store, "words"))
        self.places = self.near = self.searcher = None

    def index(self):
        started = time.perf_counter()
        writer = self.words.writer(heap_size=512_000_000, num_threads=os.cpu_count() or 1)
        places = []
        for batch in self.corpus.chunks():
            for number, place, text in batch:
                document = self.tantivy.Document()
                document.add_unsigned("chunk", number)
                document.add_unsigned("place", place)
                document.add_text("text", text)
                writer.add_document(document)
                places.append(place)
        writer.commit()
        writer.wait_merging_threads()
        self.words.reload()
        self.searcher = self.words.searcher()
        self.places = self.numpy.array(places, dtype="int32")
        words_s = time.perf_counter() - started
        self.index_vectors(len(places))
        return words_s, time.perf_counter() - started

    def index_vectors(self, count):
        numpy, faiss, width = self.numpy, self.faiss, self.corpus.dimensions
        lists = max(1, int(4 * count**0.5))
        self.near = faiss.index_factory(width, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        path = os.path.join(self.corpus.folder, "vectors.f32")
        everything = numpy.memmap(path, dtype="<f4", mode="r", shape=(count, width))
        step = max(1, count // (lists * self.TRAINED_PER_LIST))
        self.near.train(numpy.ascontiguousarray(everything[::step]))
        for first in range(0, count, BATCH):
            self.near.add(numpy.ascontiguousarray(everything[first : first + BATCH]))
        faiss.write_index(self.near, os.path.join(self.store, "vectors.faiss"))

    def by_words(self, question, bounds):
        tantivy = self.tantivy
        query = self.words.parse_query(question["text"], ["text"])
        if bounds is not None:
            within = tantivy.Query.range_query(
                self.schema, "place", tantivy.FieldType.Unsigned, bounds[0], bounds[1], include_upper=False
            )
            within = tantivy.Query.const_score_query(within, 0.0)
            query = tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, within)])
        hits = self.searcher.search(query, CANDIDATES, count=False).hits
        return [self.searcher.doc(address)["chunk"][0] for _, address in hits]

    def nearest(self, question, bounds, knob, limit):
        numpy, faiss = self.numpy, self.faiss
        vector = numpy.array([question["vector"]], dtype="float32")
        options = {"nprobe": min(knob, self.near.nlist)}
        if bounds is not None:
            allowed = (self.places >= bounds[0]) & (self.places < bounds[1])
            # Kept by name: the selector looks at these bits without owning them.
            bits = numpy.packbits(allowed, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)
        _, found = self.near.search(vector, limit, params=faiss.SearchParametersIVF(**options))
        return [int(chunk) for chunk in found[0] if chunk >= 0]

    def text(self, chunk):
        query = self.tantivy.Query.term_query(self.schema, "chunk", chunk)
        _, address = self.searcher.search(query, 1, count=False).hits[0]
        return self.searcher.doc(address)["text"][0]

    def ask(self, question, bounds, hybrid, knob):
        if hybrid:
            chunks = fused([self.by_words(question, bounds), self.nearest(question, bounds, knob, CANDIDATES)])
        else:
            chunks = self.nearest(question, bounds, knob, NEAREST)
        return chunks, [self.text(chunk) for chunk in chunks]


PEERS = {"lancedb": Lance, "sqlite": Sqlite, "faiss": Faiss}


def answer(peer, corpus, request):
    if request["do"] == "index":
        words_s, all_s = peer.index()
        knobs = [str(knob) for knob in peer.KNOBS]
        return {"words_s": words_s, "all_s": all_s, "settings": peer.SETTINGS, "knobs": knobs}
    question = corpus.question(request["question"])
    bounds = corpus.bounds(question, request["filter"])
    knob = peer.KNOBS[request["knob"]]
    started = time.perf_counter()
    chunks, texts = peer.ask(question, bounds, request["arm"] == "hybrid", knob)
    ms = (time.perf_counter() - started) * 1e3
    if len(texts) != len(chunks):
        raise ValueError(f"{len(chunks)} chunks came with {len(texts)} texts")
    return {"ms": ms, "chunks": chunks}


def main():
    kind, folder, store = sys.argv[1:4]
    # Libraries may print what they like; replies go where nothing else does.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    corpus = Corpus(folder)
    peer = PEERS[kind](corpus, store)
    for line in sys.stdin:
        try:
            reply = answer(peer, corpus, json.loads(line))
        except Exception as error:  # whatever a library raises is this peer's answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
