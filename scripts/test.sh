#!/usr/bin/env bash
# Everything that must hold before a change is merged: formatting, lints, licences, unit and integration
# tests, the official Python SDK, the demo's tour. Needs a Rust toolchain; the rest is fetched by setup.sh.
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

# The official OpenAI and Anthropic SDKs in a virtual environment of their own, as pinned in tests/it/sdk/requirements.txt.
sdk() {
    local venv=target/sdk stamp=target/sdk/.requirements
    if ! cmp -s tests/it/sdk/requirements.txt "$stamp"; then
        python3 -m venv --clear "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/it/sdk/requirements.txt
        cp tests/it/sdk/requirements.txt "$stamp"
    fi
    "$venv/bin/python" -c 'import anthropic, openai; print("openai", openai.__version__, "anthropic", anthropic.__version__)'
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
step "python sdk" sdk
step "demo tour" tour
step "tests" tests
