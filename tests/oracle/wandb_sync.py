"""A job's folder of wandb, uploaded by `wandb sync` to a server played here: every update arrives.

    wandb_sync.py OFFLINE_RUN_FOLDER UPDATES

`cargo xtask oracle` runs it with PyPI `wandb`.
"""

import gzip
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading

FOLDER, UPDATES = sys.argv[1], int(sys.argv[2])
runs, lines, summaries, done = [], [], [], []


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = json.loads(body or "{}")
        answer = {"data": {}}
        if "upsertBucket" in request.get("query", ""):
            runs.append(request["variables"])
            project = {"id": "p", "name": request["variables"]["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "r", "name": request["variables"]["name"], "displayName": "", "description": "",
                      "config": "{}", "sweepName": None, "project": project, "historyLineCount": 0}
            answer = {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        elif "createRunFiles" in request.get("query", ""):
            to = f"http://127.0.0.1:{server.server_port}/kept"
            files = [{"name": name, "uploadUrl": to} for name in request["variables"]["files"]]
            answer = {"data": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}}
        elif self.path.endswith("/file_stream"):
            files = request.get("files", {})
            lines.extend(files.get("wandb-history.jsonl", {}).get("content", []))
            summaries.extend(files.get("wandb-summary.json", {}).get("content", []))
            if "exitcode" in request:
                done.append(request["exitcode"])
            answer = {}
        self.answer(answer)

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.answer({})

    do_GET = do_PUT

    def answer(self, answer):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as place:
    environment = dict(os.environ, WANDB_BASE_URL=f"http://127.0.0.1:{server.server_port}", WANDB_API_KEY="a" * 40,
                       HOME=place, WANDB_DIR=place, WANDB_CACHE_DIR=place, WANDB_ERROR_REPORTING="false")
    command = [sys.executable, "-m", "wandb", "sync", FOLDER]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
history = [json.loads(line) for line in lines]
try:
    assert runs and runs[0]["project"] == "oracle" and runs[0]["displayName"] == "state", runs
    config = json.loads(runs[0]["config"])
    assert config["method"]["value"] == "state" and config["dataset"]["value"] == "few", config
    assert [line["_step"] for line in history] == list(range(1, UPDATES + 1)), history
    assert all(line["loss"] > 0 and line["lr"] > 0 and line["tokens"] > 0 for line in history), history
    assert json.loads(summaries[-1])["loss"] == history[-1]["loss"], summaries
    assert done == [0], done
except (AssertionError, KeyError, IndexError) as error:
    sys.exit(f"{error!r}\n{ran.stdout}\n{ran.stderr}")
print(f"wandb sync: {len(history)} updates, settings, last values and the end arrived")
