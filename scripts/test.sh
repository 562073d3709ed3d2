#!/usr/bin/env bash
# Everything that must hold before a change is merged: formatting, lints, licences, unit and integration
# tests, the official SDKs, the demo's tour. Needs a Rust toolchain; the rest is fetched by setup.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
exec < /dev/null
# shellcheck source=scripts/setup.sh
source scripts/setup.sh

readonly DENY_VERSION=0.20.2
declare -a TIMES=()

# step NAME COMMAND...: runs one step, says how long it took; the first step that fails ends the script.
step() {
    local name=$1 started=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    TIMES+=("$(printf '%5ds  %s' "$((SECONDS - started))" "$name")")
}

# cargo-deny from the machine if it has one, else from target/tools, else built there once.
deny() {
    local bin
    bin=$(command -v cargo-deny || echo target/tools/bin/cargo-deny)
    if [[ ! -x $bin ]]; then
        cargo install cargo-deny --version "$DENY_VERSION" --locked --root target/tools
    fi
    "$bin" check bans licenses sources
}

# The official SDKs for Python and Node in an environment of their own, target/sdk, as pinned beside the sessions in
# tests/it/sdk. Node itself comes from PyPI, too: Debian's is older than the SDKs ask for.
sdk() {
    local pins=tests/it/sdk venv=target/sdk node=target/sdk/node
    if ! cat "$pins"/requirements.txt "$pins"/package{,-lock}.json | cmp -s - "$venv/.pins"; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins/requirements.txt"
        mkdir -p "$node"
        cp "$pins"/package{,-lock}.json "$node"
        PATH=$PWD/$venv/bin:$PATH npm ci --prefix "$node" --no-audit --no-fund --ignore-scripts --loglevel=error
        cat "$pins"/requirements.txt "$pins"/package{,-lock}.json > "$venv/.pins"
    fi
    "$venv/bin/pip" --disable-pip-version-check list 2> /dev/null | grep -E '^(anthropic|google-genai|openai) '
    PATH=$PWD/$venv/bin:$PATH npm ls --prefix "$node" --depth=0 --loglevel=error
}

tests() {
    cargo test --locked --no-fail-fast 2>&1 | tee target/test.log
}

tour() {
    SLUICEGATE_PROFILE=dev scripts/demo.sh --tour
}

# The last lines of every run, failed ones too: times, then the tests of all binaries added up
# (cargo prints `test result: ok. 12 passed; 0 failed; ...` for each).
summary() {
    printf '\n== times\n'
    printf '%s\n' "${TIMES[@]}"
    [[ -f target/test.log ]] || return 0
    awk '/^test result:/ { passed += $4; failed += $6 }
         END { printf "\n%d passed, %d failed\n", passed, failed }' target/test.log
}
trap summary EXIT

rm -f target/test.log
step "format" cargo fmt --check
step "lints" cargo clippy --locked --all-targets -- -D warnings
step "licences, bans, sources" deny
step "sdks" sdk
step "demo tour" tour
step "tests" tests
