#!/usr/bin/env bash
# Runs the public HTTP cache test suite (http-tests/cache-tests) against the gateway with a default cache route.
#
#   scripts/conformance.sh CHECKOUT [-o RESULTS.json] [-t SECONDS] [-f FLOOR]
#
#   CHECKOUT   a checkout of the suite with its dependencies installed (`npm install` in it)
#   -o FILE    also keeps the suite's own results there
#   -t SEC     time limit for the suite, in seconds (default 420; a healthy run takes one to two minutes)
#   -f N       fewest required tests that must pass (default 155)
#
# Prints the score by class (required, optimal, behaviour) and the ids of what failed. Exit 0: it ran, and at least
# FLOOR required tests passed; 1: it did not; 2: wrong usage. Needs node and cargo, or SLUICEGATE_BIN instead of cargo.
set -euo pipefail
script=${BASH_SOURCE[0]}
[[ $script == */* ]] || script=./$script
here=$(cd "${script%/*}" && pwd)

usage() {
    local line
    while IFS= read -r line; do
        [[ $line == '#!'* ]] && continue
        [[ $line == '#'* ]] || break
        line=${line#\#}
        printf '%s\n' "${line# }" >&2
    done < "$script"
    exit 2
}
die() {
    printf 'conformance: %s\n' "$*" >&2
    exit "${code:-1}"
}

results='' limit=420 floor=155
[[ $# -ge 1 && $1 != -* ]] || usage
checkout=$1
shift
while getopts 'o:t:f:' option; do
    case $option in
        o) results=$OPTARG ;;
        t) limit=$OPTARG ;;
        f) floor=$OPTARG ;;
        *) usage ;;
    esac
done
[[ $OPTIND -gt $# && $limit =~ ^[0-9]+$ && $floor =~ ^[0-9]+$ ]] || usage
for file in tests/index.mjs test-engine/cli.mjs test-engine/server/server.mjs; do
    [[ -f $checkout/$file ]] || code=2 die "$checkout is no checkout of http-tests/cache-tests: it has no $file"
done
checkout=$(cd "$checkout" && pwd)
command -v node > /dev/null || die 'needs node (14.8 or later), which is not on the PATH'

bin=${SLUICEGATE_BIN:-$here/../target/release/sluicegate}
if [[ -z ${SLUICEGATE_BIN:-} && ! -x $bin ]]; then
    command -v cargo > /dev/null || die 'needs cargo to build the gateway, or SLUICEGATE_BIN'
    (cd "$here/.." && cargo build --locked --release --bin sluicegate)
fi
[[ -x $bin ]] || die "$bin cannot be run"

work=$(mktemp -d)
pids=()
# Only what was started here is ended, by its id.
clean_up() {
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2> /dev/null || true
    wait 2> /dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 1' INT TERM

# wait_for WHAT PID COMMAND...: until the command succeeds, ten seconds at most.
wait_for() {
    local what=$1 pid=$2 _
    shift 2
    for _ in {1..100}; do
        "$@" && return 0
        kill -0 "$pid" 2> /dev/null || break
        sleep 0.1
    done
    cat "$work"/*.log >&2 || true
    die "$what did not start"
}

# The suite's origin, on a free port of the loopback interface only.
(cd "$checkout" && exec env npm_config_protocol=http npm_config_port=0 npm_config_pidfile="$work/origin.pid" \
    CONFORMANCE_PORT_FILE="$work/origin.port" \
    node --require "$here/conformance/loopback.cjs" test-engine/server/server.mjs) > "$work/origin.log" 2>&1 &
pids+=($!)
wait_for 'the origin of the suite' $! test -s "$work/origin.port"

cat > "$work/sluicegate.yaml" << YAML
version: 1
listeners: { web: { address: "127.0.0.1:0" } }
upstreams: { origin: { servers: ["127.0.0.1:$(< "$work/origin.port")"] } }
caches: { main: { memory: { size: 256MiB } } }
routes: [ { upstream: origin, cache: true } ]
observability: { access_log: false }
YAML
: > "$work/gateway.log"
listens() { grep -q 'listener="web"' "$work/gateway.log"; }
NO_COLOR=1 RUST_LOG=info "$bin" run -c "$work/sluicegate.yaml" > "$work/gateway.log" 2>&1 &
pids+=($!)
wait_for 'the gateway' $! listens
web=$(sed -n 's/.*listener="web".* address=\([0-9.:]*\).*/\1/p' "$work/gateway.log" | head -n 1)
[[ -n $web ]] || die 'the gateway did not say where it listens'

(cd "$checkout" && exec env -u HTTP_PROXY -u HTTPS_PROXY -u http_proxy -u https_proxy \
    npm_config_base="http://$web" npm_config_id='' npm_package_config_id='' \
    timeout -k 5 "$limit" node --no-warnings test-engine/cli.mjs) > "$work/results.json" 2> "$work/suite.log" || {
    status=$?
    head -n 20 "$work/suite.log" >&2
    [[ $status == 124 ]] && die "the suite did not finish within $limit s"
    die "the suite ended with status $status"
}
[[ -z $results ]] || cp "$work/results.json" "$results"
node --no-warnings "$here/conformance/score.mjs" "$checkout" "$work/results.json" "$floor"
