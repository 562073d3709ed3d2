#!/usr/bin/env python3
"""Cache hits of Sluicegate, nginx (`proxy_cache`) and Varnish side by side, in one run on one machine.

    cargo build --release && benches/end_to_end/hits.py [--seconds 3] [--rounds 5] [--cases 1k,tls,10m-h2] [--p99]

Needs nginx, wrk, h2load and openssl; Varnish and hitch take part where they are installed. Each server has one worker
on core 0; the load generator and the origin share core 1. The figure is requests per CPU-second of the server: requests
counted by the load generator over user + system time from /proc, of the server's process and its children. Unlike
requests per second it does not suffer from what else the machine does. Runs alternate (A B C A B C ...), the median
counts, the spread (largest over smallest) is printed. nginx runs with `tcp_nopush off`: with it on, answers of 100 KiB
wait for a delayed acknowledgement. TLS is 1.3 with AES-256-GCM and one P-256 certificate for all.

`--p99` measures latency instead: every server is asked at one equal rate, half of what the slowest of them reached, by
h2load over 64 connections, and the 50th and 99th percentile of its per-request times are printed in microseconds.

`--disk` measures hits that memory does not hold, over plain HTTP/1.1: many objects of each size, asked for in turn, while
Sluicegate's memory level has 1 MiB. nginx keeps its objects in files always.

A case is a size (1k, 100k, 10m), a transport (plain, tls, h2) or both (`100k-tls`). Files, ports and processes are
temporary. A whole run takes seconds x rounds x 9 x contestants.
"""

import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from run import ROOT, cpu_seconds, free_port, nginx, on_core, wait_for

SIZES = {"1k": 1024, "100k": 100 * 1024, "10m": 10 * 1024 * 1024}
CONNECTIONS = {"1k": 64, "100k": 64, "10m": 16}
# How many objects of a size a run with `--disk` asks for in turn.
MANY = {"1k": 4000, "100k": 400, "10m": 8}
TRANSPORTS = ("plain", "tls", "h2")
SUITE = "TLS_AES_256_GCM_SHA384"


def certificate(work):
    cert, key = work / "cert.pem", work / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test", "-keyout", key, "-out", cert]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    key.chmod(0o644)
    (work / "both.pem").write_text(key.read_text() + cert.read_text())
    return cert, key


def start_nginx(work, origin, cert, key):
    plain, tls = free_port(), free_port()
    process = nginx(
        work, "peer", 0,
        f"""proxy_cache_path {work}/cache keys_zone=c:10m max_size=1g;
ssl_certificate {cert}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites {SUITE};
upstream o {{ server 127.0.0.1:{origin}; keepalive 64; }}
server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2;
location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_cache c; }} }}""",
    )
    return [process], {"plain": plain, "tls": tls, "h2": tls}


def start_sluicegate(work, origin, cert, key, binary, name, levels="memory: { size: 256MiB }"):
    plain, tls = free_port(), free_port()
    conf = work / f"{name}.yaml"
    conf.write_text(
        f"""server: {{ threads: 1 }}
listeners:
  web: {{ address: "127.0.0.1:{plain}" }}
  secure: {{ address: "127.0.0.1:{tls}", tls: {{ certificates: [bench], min_version: "1.3" }} }}
certificates: {{ bench: {{ cert: "{cert}", key: "{key}" }} }}
upstreams: {{ o: {{ servers: ["127.0.0.1:{origin}"] }} }}
caches: {{ main: {{ {levels} }} }}
observability: {{ access_log: false }}
routes: [ {{ upstream: o, cache: true }} ]
"""
    )
    log = (work / f"{name}.log").open("w")
    return [on_core(0, [binary, "run", "-c", conf], stdout=log, stderr=log)], {"plain": plain, "tls": tls, "h2": tls}


def start_varnish(work, origin):
    varnishd, hitch = shutil.which("varnishd") or "/usr/sbin/varnishd", shutil.which("hitch") or "/usr/sbin/hitch"
    if not pathlib.Path(varnishd).exists():
        return [], {}
    port = free_port()
    command = [varnishd, "-F", "-j", "none", "-n", work / "varnish", "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin}",
               "-s", "malloc,256m", "-p", "thread_pools=1"]
    processes = [on_core(0, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
    ports = {"plain": port}
    if pathlib.Path(hitch).exists():
        tls = free_port()
        command = [hitch, f"--backend=[127.0.0.1]:{port}", f"--frontend=[127.0.0.1]:{tls}", "--workers=1", "--quiet",
                   "--tls-protos=TLSv1.3", *(["--user=nobody"] if os.geteuid() == 0 else []), work / "both.pem"]
        processes.append(on_core(0, command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        ports["tls"] = tls
    return processes, ports


def h2load(transport, port, name, *more):
    scheme = "http" if transport == "plain" else "https"
    kind = [] if transport == "h2" else ["--h1"]
    command = ["taskset", "-c", "1", "h2load", "-t1", *kind, *map(str, more),
               f"{scheme}://127.0.0.1:{port}/{name}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    done = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored", out)
    if not done or done.group(2) != "0":
        print(out, file=sys.stderr)
    return int(done.group(1))


def load(transport, port, name, seconds):
    """Requests answered in so many seconds."""
    if transport == "h2":
        # h2load counts the warm-up out of its figures, so there is none.
        streams = "-m1" if name == "10m" else "-m10"
        return h2load(transport, port, name, "-c16", streams, "-w24", "-W30", f"-D{seconds}")
    scheme = "https" if transport == "tls" else "http"
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS[name]}", f"-d{seconds}s", f"{scheme}://127.0.0.1:{port}/{name}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        print(out, file=sys.stderr)
    return int(re.search(r"(\d+) requests in", out).group(1))


def on_disk(work):
    return f"memory: {{ size: 1MiB }}, disk: {{ path: {work}/disk, size: 1GiB, admission: always }}"


def load_in_turn(work, port, name, seconds):
    """Requests answered in so many seconds, each for the next of many objects."""
    script = work / f"{name}.lua"
    script.write_text(
        f"""local n = 0
request = function() n = n + 1; return wrk.format("GET", "/many/{name}-" .. n % {MANY[name]}) end"""
    )
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS[name]}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{port}"]
    out = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        print(out, file=sys.stderr)
    return int(re.search(r"(\d+) requests in", out).group(1))


def warm_many(contestants):
    """All of them into every cache; what is asked for last must be a hit that the origin does not see."""
    for name, port in ((n, c[1]["plain"]) for n, c in contestants.items()):
        for _ in range(3):
            for size, many in MANY.items():
                for i in range(many):
                    answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/many/{size}-{i}")
                    assert len(answer.read()) == SIZES[size]
            time.sleep(1)  # what is queued is written
        if name == "sluicegate":
            told = [urllib.request.urlopen(f"http://127.0.0.1:{port}/many/{size}-{i}").headers["cache-status"]
                    for size, many in MANY.items() for i in range(0, many, max(1, many // 20))]
            assert all("; hit" in t for t in told), told


def throughput_in_turn(contestants, cases, args, work):
    print("| case | nginx | sluicegate | sluicegate × nginx | spread |\n|---|---|---|---|---|")
    for name in dict.fromkeys(size for size, _ in cases):
        figures = {n: [] for n in contestants}
        for _ in range(args.rounds):
            for n, (processes, ports) in contestants.items():
                before = spent(processes)
                requests = load_in_turn(work, ports["plain"], name, args.seconds)
                figures[n].append(requests / max(spent(processes) - before, 1e-9))
        a, b = (statistics.median(figures[n]) for n in ("nginx", "sluicegate"))
        spread = ", ".join(f"{max(f) / min(f):.2f}" for f in figures.values())
        print(f"| {name} from disk | {a:,.0f} | {b:,.0f} | {b / a:.2f} | {spread} |", flush=True)


def spent(processes):
    return sum(cpu_seconds(p.pid) for p in processes)


def warm(contestants):
    """Every object into every cache, and the proof that what is measured are hits."""
    for ports in (c[1] for c in contestants.values()):
        for name, size in SIZES.items():
            for _ in range(3):
                body = urllib.request.urlopen(f"http://127.0.0.1:{ports['plain']}/{name}").read()
                assert len(body) == size, (name, len(body))


def throughput(contestants, cases, args):
    names = list(contestants)
    print(f"| case | {' | '.join(names)} | {' | '.join(f'{n} × nginx' for n in names[1:])} | spread |")
    print("|" + "---|" * (2 * len(names) + 1))
    for name, transport in cases:
        figures = {n: [] for n in names if transport in contestants[n][1]}
        for _ in range(args.rounds):
            for n in figures:
                processes, ports = contestants[n]
                before = spent(processes)
                requests = load(transport, ports[transport], name, args.seconds)
                figures[n].append(requests / max(spent(processes) - before, 1e-9))
        middle = {n: statistics.median(f) for n, f in figures.items()}
        cells = [f"{middle[n]:,.0f}" if n in middle else "" for n in names]
        ratios = [f"{middle[n] / middle['nginx']:.2f}" if n in middle else "" for n in names[1:]]
        spread = ", ".join(f"{max(f) / min(f):.2f}" for f in figures.values())
        print(f"| {name} {transport} | {' | '.join(cells)} | {' | '.join(ratios)} | {spread} |", flush=True)


def latency(contestants, cases, args, work):
    print("| case | requests/s | server | p50 µs | p99 µs | p99 × nginx |\n|---|---|---|---|---|---|")
    log = work / "times.tsv"
    for name, transport in cases:
        some = {n: c[1][transport] for n, c in contestants.items() if transport in c[1]}
        reached = min(load(transport, port, name, 1) for port in some.values())
        clients = 16 if transport == "h2" else 64
        rate = max(1, reached // 2 // clients)
        tails = {n: ([], []) for n in some}
        for _ in range(args.rounds):
            for n, port in some.items():
                log.unlink(missing_ok=True)
                h2load(transport, port, name, f"-c{clients}", f"-n{rate * clients * args.seconds}", f"--rps={rate}", f"--log-file={log}")
                times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
                tails[n][0].append(times[len(times) // 2])
                tails[n][1].append(times[len(times) * 99 // 100])
        base = statistics.median(tails["nginx"][1])
        for n, (mid, tail) in tails.items():
            p50, p99 = statistics.median(mid), statistics.median(tail)
            print(f"| {name} {transport} | {rate * clients:,} | {n} | {p50:,.0f} | {p99:,.0f} | {p99 / base:.2f} |", flush=True)


def chosen(text):
    cases = [(s, t) for s in SIZES for t in TRANSPORTS]
    wanted = [w.split("-") for w in text.split(",")] if text else []
    return [c for c in cases if not wanted or any(all(part in c for part in w) for w in wanted)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=ROOT / "target/release/sluicegate")
    parser.add_argument("--beside", type=pathlib.Path, help="another build to compare with, as `before`")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each contestant for each case")
    parser.add_argument("--cases", default="", help="sizes and transports, comma-separated: 1k, tls, 10m-h2")
    parser.add_argument("--p99", action="store_true", help="latency at an equal rate instead of cost")
    parser.add_argument("--disk", action="store_true", help="hits that memory does not hold")
    parser.add_argument("--without-varnish", action="store_true")
    args = parser.parse_args()
    running = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        # nginx's worker gives up root and must be able to read the files
        work.chmod(0o755)
        try:
            site = work / "www"
            site.mkdir()
            for name, size in SIZES.items():
                (site / name).write_bytes(b"x" * size)
            if args.disk:
                (site / "many").mkdir()
                for name, many in MANY.items():
                    for i in range(many):
                        (site / "many" / f"{name}-{i}").write_bytes(b"x" * SIZES[name])
            origin = free_port()
            running.append(nginx(work, "origin", 1, f"server {{ listen 127.0.0.1:{origin}; root {site}; expires 1d; }}"))
            wait_for(origin)
            cert, key = certificate(work)
            contestants = {"nginx": start_nginx(work, origin, cert, key)}
            levels = [on_disk(work)] if args.disk else []
            contestants["sluicegate"] = start_sluicegate(work, origin, cert, key, args.binary.resolve(), "sluicegate", *levels)
            if args.beside and not args.disk:
                contestants["before"] = start_sluicegate(work, origin, cert, key, args.beside.resolve(), "before")
            varnish = ([], {}) if args.without_varnish or args.disk else start_varnish(work, origin)
            if varnish[1]:
                contestants["varnish"] = varnish
            running += [p for processes, _ in contestants.values() for p in processes]
            for port in (port for _, ports in contestants.values() for port in ports.values()):
                wait_for(port)
            warm(contestants)
            if args.disk:
                warm_many(contestants)
                throughput_in_turn(contestants, chosen(args.cases), args, work)
            elif args.p99:
                latency(contestants, chosen(args.cases), args, work)
            else:
                throughput(contestants, chosen(args.cases), args)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


if __name__ == "__main__":
    main()
