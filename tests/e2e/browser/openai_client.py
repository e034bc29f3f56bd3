"""Uses a running host through the OpenAI client, as a program written for OpenAI would."""

import base64
import math
import os
import struct

import openai

client = openai.OpenAI(base_url=os.environ["RAG_URL"] + "/v1", api_key=os.environ["RAG_KEY"], max_retries=0)

models = [model.id for model in client.models.list()]
assert "kb:initial" in models, models
generator, embedder = models[0], models[1]
assert client.models.retrieve("kb:initial").id == "kb:initial"

# A knowledge base, whole.
question = [{"role": "user", "content": "怎样连同配置文件一起删除软件包？"}]
answer = client.chat.completions.create(model="kb:initial", messages=question, max_tokens=24)
message = answer.choices[0].message
assert message.role == "assistant" and "\n\n来源：\n[1] apt-手册.md" in message.content, message
citation = message.model_extra["citations"][0]
assert citation["document"] == "apt-手册.md" and citation["quote"] in citation["passage"], citation
assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0

# Streamed, with a history and token counts.
history = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "What is this book about?"},
    {"role": "assistant", "content": "Sailing."},
    {"role": "user", "content": "How long should the anchor chain be?"},
]
stream = client.chat.completions.create(
    model="kb:initial", messages=history, stream=True, max_tokens=24, stream_options={"include_usage": True}
)
chunks = list(stream)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert "\n\nSources:\n[1] sailing.md" in text, text
last = [chunk for chunk in chunks if chunk.choices][-1].choices[0]
assert last.finish_reason in ("stop", "length") and last.delta.model_extra["citations"][0]["document"] == "sailing.md"
assert chunks[-1].usage.completion_tokens > 0

# The bare model: whole, streamed, continued; the same seed says the same.
hello = [{"role": "user", "content": "Hello"}]
plain = client.chat.completions.create(model=generator, messages=hello, max_tokens=8, temperature=0)
assert plain.choices[0].message.content is not None and plain.usage.completion_tokens <= 8
streamed = client.chat.completions.create(model=generator, messages=hello, max_tokens=8, temperature=0, stream=True)
said = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
assert said.strip() == plain.choices[0].message.content.strip(), (said, plain)
first, second = (
    client.completions.create(model="default", prompt="从前有一座山，", max_tokens=8, seed=7, temperature=1.0).choices[0].text
    for _ in range(2)
)
assert first == second and first, (first, second)

# Embeddings: unit length, the same in both encodings, near for near texts.
floats = client.embeddings.create(model=embedder, input=["删除软件包", "卸载软件", "falling barometer"], encoding_format="float")
vectors = [row.embedding for row in floats.data]
assert all(abs(math.sqrt(sum(x * x for x in vector)) - 1) < 1e-3 for vector in vectors)
dot = lambda a, b: sum(x * y for x, y in zip(a, b))
assert dot(vectors[0], vectors[1]) > dot(vectors[0], vectors[2])
packed = client.embeddings.with_raw_response.create(model=embedder, input="删除软件包", encoding_format="base64")
raw = base64.b64decode(packed.http_response.json()["data"][0]["embedding"])
unpacked = struct.unpack(f"<{len(raw) // 4}f", raw)
assert len(unpacked) == len(vectors[0]) and dot(unpacked, vectors[0]) > 0.999
# The client asks for Base64 by itself when no encoding is named.
assert len(client.embeddings.create(model=embedder, input="x").data[0].embedding) == len(vectors[0])

# Errors become the client's own exceptions.
for wanted, call in [
    (openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-4", messages=hello)),
    (openai.NotFoundError, lambda: client.chat.completions.create(model="kb:unknown_kb", messages=hello)),
    (openai.BadRequestError, lambda: client.chat.completions.create(model=generator, messages=[])),
    (openai.BadRequestError, lambda: client.embeddings.create(model=embedder, input=[])),
    (openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list()),
]:
    try:
        call()
    except wanted as error:
        assert error.message and error.code, error
    else:
        raise AssertionError(f"no {wanted.__name__}")

print("ok")
