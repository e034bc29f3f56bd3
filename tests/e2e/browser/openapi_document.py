"""Checks the served OpenAPI document against the specification, and real answers against the document."""

import json
import os
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

url, key = os.environ["RAG_URL"], os.environ["RAG_KEY"]


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, method=method)
    request.add_header("authorization", f"Bearer {key}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request) as response:
        return response.status, json.load(response)


with urllib.request.urlopen(url + "/api/v1/openapi.json") as response:
    document = json.load(response)
validate(document)


def check(method, path, template=None, body=None):
    """The answer has the shape that the document promises for it."""
    status, answer = call(method, path, body)
    operation = document["paths"][template or path][method.lower()]
    schema = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": document["components"]}).validate(answer)
    return answer


kb = "/api/v1/kbs/{kb}"
check("GET", "/api/v1/kbs")
check("GET", "/api/v1/kbs/initial", kb)
listed = check("GET", "/api/v1/kbs/initial/documents", f"{kb}/documents")
one = f"/api/v1/kbs/initial/documents/{listed['documents'][0]['id']}"
check("GET", one, f"{kb}/documents/{{document}}")
check("GET", f"{one}/chunks", f"{kb}/documents/{{document}}/chunks")
check("GET", f"{one}/text?end=50", f"{kb}/documents/{{document}}/text")
check("GET", "/api/v1/jobs")
check("GET", "/api/v1/plugins")
check("GET", "/api/v1/models")
check("GET", "/api/v1/status")
check("GET", "/api/v1/keys")
check("GET", "/api/v1/session")
check("GET", "/v1/models")
question = {"question": "What does a falling barometer announce?"}
check("POST", "/api/v1/kbs/initial/search", f"{kb}/search", question)
check("POST", "/api/v1/kbs/initial/ask", f"{kb}/ask", {**question, "answer_tokens_max": 4, "recall": True})
check("POST", "/v1/embeddings", body={"model": "default", "input": "x"})
check("POST", "/v1/rerank", body={"query": "x", "documents": ["x", {"text": "y"}]})
check("POST", "/v1/completions", body={"model": "default", "prompt": "x", "max_tokens": 2})
chat = {"model": "kb:initial", "messages": [{"role": "user", "content": question["question"]}], "max_tokens": 4}
check("POST", "/v1/chat/completions", body=chat)

operations = [operation for item in document["paths"].values() for operation in item.values()]
ids = [operation["operationId"] for operation in operations]
assert len(ids) == len(set(ids)), "operation ids are unique"
assert all(operation.get("summary") for operation in operations), "every operation says what it does"

print("ok")
