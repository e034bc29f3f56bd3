"""Every command of RWKV-RAG's services, as its own client library sends them: REQ sockets and MessagePack maps.

RAG_LLM, RAG_INDEX and RAG_TUNING are the proxies' front ends; with RAG_SERVER_KEY, RAG_PUBLIC_KEY and RAG_SECRET_KEY the
connections are libzmq's CURVE. Values are checked, not only codes.
"""

import hashlib
import os

import msgpack
import zmq

CONTEXT = zmq.Context()


class Service:
    def __init__(self, endpoint, kind=zmq.REQ):
        self.socket = CONTEXT.socket(kind)
        self.socket.setsockopt(zmq.RCVTIMEO, 300_000)
        self.socket.setsockopt(zmq.LINGER, 0)
        if "RAG_SERVER_KEY" in os.environ:
            self.socket.curve_serverkey = os.environ["RAG_SERVER_KEY"].encode()
            self.socket.curve_publickey = os.environ["RAG_PUBLIC_KEY"].encode()
            self.socket.curve_secretkey = os.environ["RAG_SECRET_KEY"].encode()
        self.socket.connect(endpoint)

    def raw(self, frame):
        self.socket.send(frame)
        return msgpack.unpackb(self.socket.recv(), raw=False, strict_map_key=False)

    def reply(self, cmd, **fields):
        return self.raw(msgpack.packb({"cmd": cmd, **fields}, use_bin_type=True))

    def value(self, cmd, **fields):
        reply = self.reply(cmd, **fields)
        assert reply.get("code") == 200 and set(reply) == {"code", "value"}, (cmd, reply)
        return reply["value"]

    def refused(self, cmd, *words, **fields):
        reply = self.reply(cmd, **fields)
        assert reply["code"] == 400 and set(reply) == {"code", "error"}, (cmd, reply)
        for word in words:
            assert word in reply["error"], (cmd, word, reply)
        assert "Traceback" not in reply["error"] and "panicked" not in reply["error"], reply


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b))


FRUIT = "苹果是一种水果，富含维生素。"
SHIP = "The anchor chain should be five times as long as the water is deep."
RAIL = "火车比汽车更准时，因为它有自己的轨道。"


def embeddings_and_scores(llm):
    question = llm.value("GET_EMBEDDINGS", texts="水果有什么营养？")
    assert len(question) == 1 and abs(cosine(question[0], question[0]) - 1) < 1e-3
    passages = llm.value("GET_EMBEDDINGS", texts=[FRUIT, SHIP, RAIL])
    assert [len(vector) for vector in passages] == [len(question[0])] * 3
    scores = [cosine(question[0], vector) for vector in passages]
    assert scores.index(max(scores)) == 0, scores
    assert llm.value("GET_EMBEDDINGS", texts=[FRUIT])[0] == passages[0], "batches change nothing"
    assert llm.value("get_embeddings", texts=[]) == []
    llm.refused("GET_EMBEDDINGS", "texts")
    llm.refused("GET_EMBEDDINGS", "texts", texts=[1])
    llm.refused("GET_EMBEDDINGS", "/etc/passwd", texts="a", bgem3_path="/etc/passwd")

    query = "水果有什么营养？"
    pairs = llm.value("GET_CROSS_SCORES", texts_0=[query] * 3, texts_1=[FRUIT, SHIP, RAIL])
    assert len(pairs) == 3 and pairs.index(max(pairs)) == 0, pairs
    assert llm.value("GET_CROSS_SCORES", texts_0=[FRUIT, SHIP, RAIL], texts_1=[query] * 3) == pairs
    llm.refused("GET_CROSS_SCORES", "pair", texts_0=["a"], texts_1=[])
    return question[0], passages


def generation(llm):
    ask = dict(instruction="水果有什么营养？", input_text=FRUIT, temperature=0, top_p=0)
    first = llm.value("SAMPLING_GENERATE", token_count=16, **ask)
    assert isinstance(first, str) and first
    assert llm.value("SAMPLING_GENERATE", token_count=16, **ask) == first, "greedy answers repeat"
    short = llm.value("SAMPLING_GENERATE", token_count=2, **ask)
    assert len(short) < len(first) and first.startswith(short.rstrip("\ufffd")), (short, first)
    whole = "Instruction: %s\nInput: %s\n\nResponse:" % (ask["instruction"], FRUIT)
    assert llm.value("SAMPLING_GENERATE", template_prompt=whole, token_count=16, temperature=0) == first
    hot = dict(template_prompt="a", token_count=12, temperature=1.0, top_p=1.0, seed=1)
    assert llm.value("SAMPLING_GENERATE", **hot) == llm.value("SAMPLING_GENERATE", **hot)
    llm.refused("SAMPLING_GENERATE", "instruction")
    llm.refused("SAMPLING_GENERATE", "token_count", token_count=0, **ask)
    llm.refused("SAMPLING_GENERATE", "temperature", **{**ask, "temperature": 99})
    llm.refused("SAMPLING_GENERATE", "not registered", "model add", base_model_path="/tmp/evil.pth", **ask)
    llm.refused("SAMPLING_GENERATE", "not registered", adapter="/tmp/evil.pth", **ask)
    llm.refused("SAMPLING_GENERATE", "registered", state_file="/tmp/evil.pth", **ask)
    config = llm.value("LLM_CONFIG")
    assert os.path.isfile(config["base_model_path"]) and config["embedding_path"], config
    assert llm.value("RELOAD_BASE_MODEL", base_model_path=config["base_model_path"]) == "ok"
    name = os.path.splitext(os.path.basename(config["base_model_path"]))[0]
    assert llm.value("SAMPLING_GENERATE", base_model_path=name, token_count=16, **ask) == first
    llm.refused("RELOAD_BASE_MODEL", "not registered", base_model_path="../../etc/passwd")
    beam = dict(instruction=ask["instruction"], input_text=FRUIT, token_count=8)
    one = llm.value("BEAM_GENERATE", num_beams=1, **beam)
    plain = dict(ask, presence_penalty=0, frequency_penalty=0)
    assert one == llm.value("SAMPLING_GENERATE", token_count=8, **plain), "one beam is greedy"
    several = llm.value("BEAM_GENERATE", **beam)
    assert several and several == llm.value("BEAM_GENERATE", num_beams=5, **beam), "5 is the default, and it repeats"
    llm.refused("BEAM_GENERATE", "num_beams", instruction="q", num_beams=0)


def collections(index, question, passages):
    index.refused("CREATE_COLLECTION", "cannot name", collection_name="a b")
    assert index.value("HAS_COLLECTION", collection_name="from_python") is False
    assert index.value("CREATE_COLLECTION", collection_name="from_python") is True
    assert index.value("CREATE_COLLECTION", collection_name="from_python") is True, "get or create"
    assert index.value("HAS_COLLECTION", collection_name="from_python") is True
    shown = dict((name, metadata) for name, metadata in index.value("SHOW_COLLECTIONS"))
    assert set(shown) >= {"initial", "from_python"}, shown
    metadata = shown["from_python"]
    assert metadata["hnsw:space"] == "cosine" and len(metadata["create_time"]) == 19, metadata

    kb = dict(collection_name="from_python")
    texts = [FRUIT, SHIP, RAIL]
    ids = [hashlib.md5(text.encode()).hexdigest() for text in texts]
    assert index.value("SEARCH_NEARBY", embeddings=question, **kb) == []
    assert index.value("INDEX_TEXTS", texts=texts, embeddings=passages, **kb) == ids
    assert index.value("INDEX_TEXTS", texts=texts[:1], embeddings=passages[:1], **kb) == ids[:1]
    found = index.value("SEARCH_NEARBY", embeddings=question, **kb)
    assert found[0] == FRUIT and sorted(found) == sorted(texts), found
    assert index.value("SEARCH_NEARBY", embeddings=[question], **kb) == found

    assert index.value("INDEX_TEXTS", texts=["船锚"], keys=["mine"], **kb) is True, "the older form"
    raw = index.value("SEARCH_NEARBY", text="水果有什么营养？", **kb)
    assert raw["documents"][0][0] == FRUIT and raw["ids"][0][0] == ids[0], raw
    assert raw["distances"][0] == sorted(raw["distances"][0]) and 0 <= raw["distances"][0][0] < 1

    index.refused("INDEX_TEXTS", "embeddings", texts=["a", "b"], embeddings=[question], **kb)
    index.refused("INDEX_TEXTS", "blank", texts=[" "], embeddings=[question], **kb)
    index.refused("INDEX_TEXTS", "finite", texts=["a"], embeddings=[[float("nan")] * len(question)], **kb)
    index.refused("SEARCH_NEARBY", "does not exist", embeddings=question, collection_name="nowhere")
    index.refused("SEARCH_NEARBY", "embeddings", **kb)
    assert index.value("INDEX_CONFIG")["vectordb_name"]
    assert index.value("DELETE_COLLECTION", **kb) is True
    assert index.value("HAS_COLLECTION", **kb) is False
    index.refused("DELETE_COLLECTION", "does not exist", **kb)

    # What the page finds afterwards.
    assert index.value("CREATE_COLLECTION", collection_name="left_by_python") is True
    left = dict(collection_name="left_by_python")
    assert index.value("INDEX_TEXTS", texts=texts, embeddings=passages, **left) == ids
    assert index.value("SEARCH_NEARBY", text="水果有什么营养？", n_results=1, **left)["documents"] == [[FRUIT]]


def training(tuning):
    line = '{"text": "User: 你好\\n\\nAssistant: hello"}\n'
    prefix = tuning.value("MAKE_DATA", jsonl_file=line * 3, n_epoch=2, is_str=True, context_len=8)
    with open(prefix + ".idx", "rb") as file:
        assert file.read(9) == b"MMIDIDX\0\0"
    tokens = os.path.getsize(prefix + ".bin") // 2
    assert tokens > 0 and tokens % 6 == 0, "three equal documents, twice"
    tuning.refused("MAKE_DATA", "bad line", jsonl_file="not json", is_str=True)
    tuning.refused("MAKE_DATA", "not below", jsonl_file="/etc/passwd")
    tuning.refused("MAKE_DATA", "not below", jsonl_file=line, is_str=True, output_path="/tmp")
    again = tuning.value("MAKE_DATA", jsonl_file=line * 3, n_epoch=2, is_str=True, context_len=8)
    assert again == prefix, "the same text is the same data set"
    assert tuning.value("WANDB") == "" and tuning.value("WANDB_LIST_PROJECT") == []
    assert "wandb" in tuning.value("WANDB_LOGIN", api_key="secret")
    assert "wandb" in tuning.value("WANDB_ADD_PROJECT", project_name="p")
    config = tuning.value("TUNING_CONFIG")
    assert os.path.dirname(prefix) == config["output_path"], config

    # What RWKV-RAG's page sends, made small: sizes of the model and the settings of a cluster do no harm.
    page = dict(data_file=prefix, proj_dir="/somewhere/tuning_model", load_model=config["base_model_path"], n_layer=24,
                n_embd=2048, vocab_size=65536, strategy="deepspeed_stage_1", accelerator="gpu", devices=1,
                data_type="binidx", my_testing="x060", epoch_begin=0, pre_ffn=0, head_qk=0, wandb="", grad_cp=1,
                ctx_len=16, epoch_steps=1, epoch_count=1, epoch_save=1, micro_bsz=1, quant="none", precision="fp32")
    jobs = [tuning.value("STATE_TUNING", **page), tuning.value("LORA", lora_r=2, **page),
            tuning.value("PISSA", r=2, svd_niter=1, **page)]
    for job in jobs:
        assert job["state"] in ["queued", "running"] and job["steps"] == 1, job
    tuning.refused("STATE_TUNING", "not registered", **{**page, "load_model": "/etc/passwd"})
    tuning.refused("STATE_TUNING", "not below", **{**page, "data_file": "/etc/passwd"})
    tuning.refused("LORA", "wandb", "leave 'wandb' empty", **{**page, "wandb": "project"})
    tuning.refused("PISSA", "quant", **{**page, "quant": "fp4"})
    tuning.refused("STATE_TUNING", "ctx_len", **{**page, "ctx_len": 10**6 * 2})
    tuning.refused("TUNING_JOB", "nothing", job="nothing")
    for job in jobs:
        while job["state"] in ["queued", "running"]:
            job = tuning.value("TUNING_JOB", job=job["job"])
        assert job["state"] == "done" and job["step"] == 1 and 0 < job["loss"] < 20, job
        results = [name for name in job["files"] if name.endswith(".pth")]
        assert results and all(os.path.getsize(os.path.join(job["proj_dir"], name)) > 0 for name in results), job


def bad_input(service):
    for frame in [b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 1000, b"\x93\x01", b"hello", os.urandom(400)]:
        reply = service.raw(frame)
        assert reply["code"] == 400 and isinstance(reply["error"], str), (frame, reply)
    assert service.reply("NO_SUCH") == {"code": 400, "error": "Unsupported command"}
    assert service.raw(msgpack.packb({"cmd": 7}))["code"] == 400
    assert service.raw(msgpack.packb(["cmd"]))["code"] == 400
    huge = service.raw(msgpack.packb({"cmd": "X", "pad": b"\0" * (65 << 20)}))
    assert huge["code"] == 400 and "more than" in huge["error"], huge


def further_service(front, back):
    """A service of somebody else's behind our proxy, with a worker like RWKV-RAG's own."""
    client, worker = Service(front), Service(back, zmq.REP)
    client.socket.send(msgpack.packb({"cmd": "PING", "n": 7}))
    asked = msgpack.unpackb(worker.socket.recv(), raw=False)
    assert asked == {"cmd": "PING", "n": 7}, asked
    worker.socket.send(msgpack.packb({"code": 200, "value": asked["n"]}))
    assert msgpack.unpackb(client.socket.recv(), raw=False) == {"code": 200, "value": 7}


def main():
    llm, index, tuning = (Service(os.environ[name]) for name in ["RAG_LLM", "RAG_INDEX", "RAG_TUNING"])
    question, passages = embeddings_and_scores(llm)
    generation(llm)
    collections(index, question, passages)
    training(tuning)
    further_service(os.environ["RAG_FURTHER_FRONT"], os.environ["RAG_FURTHER_BACK"])
    for service in [llm, index, tuning]:
        bad_input(service)
    assert llm.value("GET_EMBEDDINGS", texts=[FRUIT])[0] == passages[0], "still there"
    print("ok")


main()
