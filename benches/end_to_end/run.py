#!/usr/bin/env python3
"""Sluicegate beside nginx on one machine, end to end: CPU time per request, and what an AI cache hit takes.

    cargo build --release && benches/end_to_end/run.py [--seconds 5] [--rounds 3] [--binary target/release/sluicegate]

Needs nginx and wrk (Debian packages of these names) and two cores. Each proxy has one worker on core 0; wrk and the
origin share core 1. The figure is requests per CPU-second of the proxy's process (user + system time from /proc over
requests that wrk counted): unlike requests per second it does not suffer from what else the machine does. Runs
alternate (A B A B ...), the median counts, the spread is printed. Ports and files are temporary.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SIZES = {"1 KiB": ("1k", 1024), "100 KiB": ("100k", 100 * 1024)}
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def on_core(core, command, **kwargs):
    return subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], **kwargs)


def cpu_seconds(pid):
    """User and system time of a process and its children, in seconds."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def nginx(work, name, core, body):
    conf = work / f"{name}.conf"
    conf.write_text(
        f"""daemon off; worker_processes 1; pid {work}/{name}.pid; error_log {work}/{name}.log;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush off; keepalive_requests 1000000000;
client_body_temp_path {work}/{name}-b; proxy_temp_path {work}/{name}-p; fastcgi_temp_path {work}/{name}-f;
uwsgi_temp_path {work}/{name}-u; scgi_temp_path {work}/{name}-s;
{body} }}
"""
    )
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    return on_core(core, [binary, "-c", conf, "-p", work], stderr=subprocess.DEVNULL)


def wrk(port, path, seconds):
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", f"http://127.0.0.1:{port}{path}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        print(out, file=sys.stderr)
    return int(re.search(r"(\d+) requests in", out).group(1))


def measure(contestants, path, seconds, rounds):
    """Median requests per CPU-second by contestant, and the spread of each (max/min)."""
    figures = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (pid, port) in contestants.items():
            before = cpu_seconds(pid)
            requests = wrk(port, path, seconds)
            figures[name].append(requests / max(cpu_seconds(pid) - before, 1e-9))
    return {n: (statistics.median(f), max(f) / min(f)) for n, f in figures.items()}


def web(args, work, running):
    site = work / "www"
    for route in ("proxy", "hit"):
        (site / route).mkdir(parents=True)
        for name, size in SIZES.values():
            (site / route / name).write_bytes(b"x" * size)
    origin, ours, theirs = free_port(), free_port(), free_port()
    running.append(nginx(work, "origin", 1, f"server {{ listen 127.0.0.1:{origin}; root {site}; expires 1h; }}"))
    location = "proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection '';"
    peer = nginx(
        work, "peer", 0,
        f"""proxy_cache_path {work}/cache keys_zone=c:10m max_size=1g;
upstream o {{ server 127.0.0.1:{origin}; keepalive 64; }}
server {{ listen 127.0.0.1:{theirs};
location /proxy/ {{ {location} }} location /hit/ {{ {location} proxy_cache c; }} }}""",
    )
    (work / "web.yaml").write_text(
        f"""server: {{ threads: 1 }}
listeners: {{ web: {{ address: "127.0.0.1:{ours}" }} }}
upstreams: {{ o: {{ servers: ["127.0.0.1:{origin}"] }} }}
caches: {{ main: {{ memory: {{ size: 256MiB }} }} }}
observability: {{ access_log: false }}
routes:
  - {{ match: {{ path: /proxy/* }}, upstream: o }}
  - {{ match: {{ path: /hit/* }}, upstream: o, cache: true }}
"""
    )
    gate = on_core(0, [args.binary, "run", "-c", work / "web.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    running += [peer, gate]
    for port in (origin, ours, theirs):
        wait_for(port)
    contestants = {"nginx": (peer.pid, theirs), "sluicegate": (gate.pid, ours)}
    print("| case | nginx req/CPU-s | sluicegate req/CPU-s | CPU per request, × nginx | spread |\n|---|---|---|---|---|")
    for route in ("proxy", "hit"):
        for label, (name, _) in SIZES.items():
            got = measure(contestants, f"/{route}/{name}", args.seconds, args.rounds)
            (a, sa), (b, sb) = got["nginx"], got["sluicegate"]
            print(f"| {route} {label} | {a:,.0f} | {b:,.0f} | {a / b:.2f} | {sa:.2f}, {sb:.2f} |", flush=True)


class Caller:
    """A keep-alive connection whose cost is a fraction of what is measured."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def ask(self, text):
        body = json.dumps({"model": "cheap", "temperature": 0, "messages": [{"role": "user", "content": text}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
        started = time.perf_counter()
        self.socket.sendall(head.encode() + body)
        fields = {}
        while (line := self.file.readline().strip()):
            name, _, value = line.decode().partition(":")
            fields[name.lower()] = value.strip()
        self.file.read(int(fields["content-length"]))
        return (time.perf_counter() - started) * 1000, fields.get("x-sluicegate-source", "?")


def questions():
    """Forty questions that say nearly the same in other words."""
    verbs = ["reset", "change", "recover", "restore", "renew"]
    forms = ["How do I {} my password?", "How can I {} my password?", "How do I {} my password", "how can i {} my password?",
             "How do I {} the password?", "How can I {} the password?", "How do you {} a password?", "How to {} my password?"]
    return [form.format(verb) for verb in verbs for form in forms]


def ai(args, work, running):
    port, model = free_port(), free_port()
    (work / "ai.yaml").write_text(
        f"""listeners: {{ web: {{ address: "127.0.0.1:{port}" }} }}
observability: {{ access_log: false }}
ai:
  providers: {{ demo: {{ dialect: openai, base_url: "http://127.0.0.1:{model}/v1" }} }}
  models: {{ small: {{ provider: demo, model: demo-small }} }}
  tiers: {{ cheap: [small] }}
  embedders: {{ cold: {{ cache: 0, timeout: 1s }} }}
  vector_stores: {{ disk: {{ edge: {{ path: "{work}/vectors" }} }} }}
  caches: {{ both: {{ exact: {{}}, semantic: {{ embedder: cold, store: disk, threshold: 0.8 }} }} }}
routes: [ {{ match: {{ path: /v1/* }}, ai: {{ tier: cheap, cache: both }} }} ]
"""
    )
    demo = [args.binary, "demo", "--origin", f"127.0.0.1:{free_port()}", "--model", f"127.0.0.1:{model}", "--latency", "20ms"]
    running.append(subprocess.Popen(list(map(str, demo)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    running.append(subprocess.Popen([str(args.binary), "run", "-c", str(work / "ai.yaml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    wait_for(model)
    wait_for(port)
    caller = Caller(port)
    for text in ("How do I reset my password?", "How do I change my password?"):
        caller.ask(text)
    time.sleep(0.5)
    timings = {}
    for _ in range(10):
        # the last ten are the very question that was asked first: the exact cache's part
        for text in [*questions(), *["How do I reset my password?"] * 10]:
            took, source = caller.ask(text)
            timings.setdefault(source, []).append(took)
    print("\n| AI answer from | calls | p50 ms | p90 ms |\n|---|---|---|---|")
    for source, values in sorted(timings.items()):
        deciles = statistics.quantiles(values, n=10) if len(values) > 1 else values * 10
        print(f"| {source} | {len(values)} | {statistics.median(values):.2f} | {deciles[8]:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/sluicegate")
    parser.add_argument("--seconds", type=int, default=5, help="length of one wrk run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contestant for each case")
    parser.add_argument("--only", choices=["web", "ai"], help="one half")
    args = parser.parse_args()
    if not args.binary.exists():
        sys.exit(f"{args.binary} is not there; build it first: cargo build --release")
    os.environ.setdefault("SLUICEGATE_MODELS", str(ROOT / "models"))
    args.binary = args.binary.resolve()
    running = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        # nginx's worker gives up root and must be able to read the files
        work.chmod(0o755)
        try:
            if args.only != "ai":
                web(args, work, running)
            if args.only != "web":
                ai(args, work, running)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()


if __name__ == "__main__":
    main()
