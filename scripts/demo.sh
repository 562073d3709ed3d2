#!/usr/bin/env bash
# The gateway at work, on this machine, in about half a minute (after the first build).
#
#   scripts/demo.sh          builds, starts everything, walks through the tour, leaves the gateway running
#   scripts/demo.sh --tour   the same, but ends after the tour: 0 only if every step held
#
# Nothing of the tour is staged: each step prints what the gateway answered and checks it.
#   OPENAI_API_KEY           set: questions go to OpenAI instead of the demo's own model (they cost a fraction of a cent)
#   SLUICEGATE_PROFILE=dev|release   uses a debug build (ready sooner, slower), or the one to ship (ready later)
set -euo pipefail
cd "$(dirname "$0")/.."

tour_only=false
case ${1:-} in
    "") ;;
    --tour) tour_only=true ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

# --- telling ---------------------------------------------------------------------------------------------------
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' cyan=$'\e[36m' off=$'\e[0m'
else
    bold='' dim='' green='' red='' cyan='' off=''
fi
steps=0 failed=0
title() { steps=$((steps + 1)); printf '\n%s%d. %s%s\n' "$bold" "$steps" "$*" "$off"; }
say() { printf '   %s\n' "$*"; }
cmd() { printf '   %s$ %s%s\n' "$dim" "$*" "$off"; }

# check WHAT CONDITION...: a step's promise, kept or not.
check() {
    local what=$1
    shift
    if "$@"; then
        printf '   %s✓ %s%s\n' "$green" "$what" "$off"
    else
        printf '   %s✗ %s%s\n' "$red" "$what" "$off"
        failed=$((failed + 1))
    fi
}
is() { [[ $1 == "$2" ]]; }
has() { [[ $1 == *"$2"* ]]; }
less() { (($1 < $2)); }

# --- building --------------------------------------------------------------------------------------------------
# shellcheck source=scripts/setup.sh
source scripts/setup.sh < /dev/null
profile=${SLUICEGATE_PROFILE:-demo}
folder=$profile
[[ $profile == dev ]] && folder=debug
printf '%sbuilding (%s; the first time takes some minutes)%s\n' "$dim" "$profile" "$off"
cargo build --locked --quiet --profile "$profile" --bin sluicegate
bin=${CARGO_TARGET_DIR:-target}/$folder/sluicegate

# --- starting --------------------------------------------------------------------------------------------------
work=$(mktemp -d)
pids=()
stop() {
    ((${#pids[@]} == 0)) || kill "${pids[@]}" 2> /dev/null || true
    wait 2> /dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM

taken() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }
# A port that is free: the wanted one, else the next free one after it.
used=' '
pick() {
    local port=$1
    while taken "$port" || has "$used" " $port "; do port=$((port + 1)); done
    [[ $port == "$1" ]] || printf '%sport %s is taken, using %s%s\n' "$dim" "$1" "$port" "$off" >&2
    picked=$port used+="$port "
}
pick 8080; web=$picked
pick 9090; admin=$picked
pick 8081; app=$picked
pick 8082; model=$picked

# A copy of the configuration and the script, so that the tour can edit the script without touching yours.
sed -e "s#127.0.0.1:8080#127.0.0.1:$web#; s#127.0.0.1:9090#127.0.0.1:$admin#" \
    -e "s#127.0.0.1:8081#127.0.0.1:$app#; s#127.0.0.1:8082#127.0.0.1:$model#" \
    -e 's#\.\./scripts/policy/demo.rhai#demo.rhai#; s#output: stdout#output: '"$work"'/access.log#' \
    conf/demo.yaml > "$work/demo.yaml"
cp scripts/policy/demo.rhai "$work/demo.rhai"
provider="the demo's own model"
if [[ -n ${OPENAI_API_KEY:-} ]]; then
    provider=OpenAI
    sed -i -e "s#base_url: \"http://127.0.0.1:$model/v1\"#base_url: \"https://api.openai.com/v1\", api_key: env:OPENAI_API_KEY#" \
        -e 's#demo-small#gpt-4.1-mini#; s#demo-large#gpt-4.1#; s#demo-embedding#text-embedding-3-small#' "$work/demo.yaml"
fi

# A secret for this run only.
SLUICEGATE_DEMO_SECRET=$(openssl rand -hex 32)
export SLUICEGATE_DEMO_SECRET

"$bin" demo --origin "127.0.0.1:$app" --model "127.0.0.1:$model" --latency 1500ms > "$work/demo.log" 2>&1 &
pids+=($!)
"$bin" run -c "$work/demo.yaml" > "$work/gateway.log" 2>&1 &
gateway=$!
pids+=("$gateway")

# ready URL NAME LOG: waits until it answers, at most a minute.
ready() {
    local deadline=$((SECONDS + 60))
    until curl -fsS -o /dev/null --max-time 2 "$1" 2> /dev/null; do
        if ((SECONDS > deadline)) || ! kill -0 "${pids[@]}" 2> /dev/null; then
            printf '%s%s did not start:%s\n' "$red" "$2" "$off" >&2
            cat "$3" >&2
            exit 1
        fi
        sleep 0.1
    done
}
ready "http://127.0.0.1:$app/healthz" "the demo app" "$work/demo.log"
ready "http://127.0.0.1:$admin/healthz" "the gateway" "$work/gateway.log"
base=http://127.0.0.1:$web
printf '%sthe gateway listens on %s, its admin port on %s%s\n' "$dim" "$base" "127.0.0.1:$admin" "$off"

# --- asking ----------------------------------------------------------------------------------------------------
# ask CURL-ARGUMENTS...: one request; leaves status, ms, and the files head and body.
ask() {
    local timing
    timing=$(curl -sS -o "$work/body" -D "$work/head" --max-time 60 -w '%{http_code} %{time_total}' "$@")
    status=${timing% *}
    ms=$(awk -v t="${timing#* }" 'BEGIN { printf "%.1f", t * 1000 }')
    whole_ms=${ms%.*}
}
field() { sed -n "s/^$1: *//Ip" "$work/head" | tr -d '\r' | head -1; }
show() {
    local name value
    for name in "$@"; do
        value=$(field "$name")
        [[ -z $value ]] || printf '   %s%s: %s%s\n' "$cyan" "$name" "$value" "$off"
    done
}
browser=(-A 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36'
    -H 'Accept: text/html' -H 'Accept-Language: en')

# question TEXT: a chat call for the model `auto`; the script decides which one that is.
question() {
    ask "$base/v1/chat/completions" -H 'Content-Type: application/json' \
        -d "{\"model\":\"auto\",\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"$1\"}]}"
    answer=$(python3 -c 'import json,sys; print(json.load(sys.stdin)["choices"][0]["message"]["content"])' < "$work/body" 2> /dev/null || cat "$work/body")
}
told() { say "\"$1\""; say "${ms} ms · $(field x-sluicegate-source) · tier $(field x-sluicegate-tier) · ${answer:0:76}…"; }

title "A page: fetched once, then served from memory"
cmd "curl -i $base/"
for _ in first second; do
    ask "${browser[@]}" "$base/"
    say "$status in ${ms} ms · source $(field x-sluicegate-source) · requests that reached the app so far: $(field x-origin-hits)"
    show cache-status
    sources+=" $(field x-sluicegate-source)" hits+=" $(field x-origin-hits)"
done
check "MISS, then HIT" is "$sources" " origin http_cache"
check "the second one did not reach the app" is "${hits% *}" " ${hits##* }"

title "A question to $provider, then the same one in other words"
question "How do I return an item that I bought?"
told "How do I return an item that I bought?"
check "the model was asked" is "$(field x-sluicegate-source)" provider
first=$answer model_ms=$whole_ms
question "How can I return an item I bought?"
told "How can I return an item I bought?"
show x-sluicegate-score cache-status
check "answered by meaning, without the model" is "$(field x-sluicegate-source)" ai_semantic
check "with the answer of the first" is "$answer" "$first"
check "in milliseconds (${whole_ms}) instead of the model's ${model_ms}" less "$((whole_ms * 10))" "$model_ms"
question "How can I reset my password?"
told "How can I reset my password?"
check "a different question is not mistaken for it" is "$(field x-sluicegate-source)" provider
question "How do I return an item that I bought?"
told "How do I return an item that I bought?"
check "the very same question needs no vectors" is "$(field x-sluicegate-source)" ai_exact

title "The script chooses the model: cheap for the easy, large for the hard"
question "Which cups do you sell?"
told "Which cups do you sell?"
check "an easy question went to the cheap tier" is "$(field x-sluicegate-tier)" cheap
show x-sluicegate-model x-sluicegate-cost-usd
question "Explain step by step how to brew green tea."
told "Explain step by step how to brew green tea."
check "a hard one went to the standard tier" is "$(field x-sluicegate-tier)" standard
show x-sluicegate-model x-sluicegate-cost-usd

title "A stream: the tokens arrive as the model makes them"
cmd "curl -N $base/v1/chat/completions -d '{\"stream\":true, …}'"
ask -N "$base/v1/chat/completions" -H 'Content-Type: application/json' -w '%{http_code} %{time_starttransfer}' \
    -d '{"model":"auto","stream":true,"messages":[{"role":"user","content":"When will my parcel arrive?"}]}'
say "$(grep -c '^data: ' "$work/body") events · $(grep -o '"content":"[^"]*"' "$work/body" | sed 's/"content":"//; s/"$//' | tr -d '\n' | head -c 76)…"
check "it ended cleanly" grep -q '^data: \[DONE\]' "$work/body"

title "The account pages want a signed token"
cmd "curl -i $base/account/"
ask "${browser[@]}" "$base/account/"
say "$status"
show www-authenticate x-sluicegate-source x-sluicegate-reason
check "401 without a token" is "$status" 401
b64() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
signing="$(printf '{"alg":"HS256","typ":"JWT"}' | b64).$(printf '{"sub":"ada","iss":"tea-shop","exp":%d}' $(($(date +%s) + 3600)) | b64)"
token=$signing.$(printf '%s' "$signing" | openssl dgst -sha256 -hmac "$SLUICEGATE_DEMO_SECRET" -binary | b64)
cmd "curl -i -H 'Authorization: Bearer ${token:0:24}…' $base/account/"
ask "${browser[@]}" -H "Authorization: Bearer $token" "$base/account/"
say "$status · $(grep -o 'Hello, [a-z]*' "$work/body" || true)"
check "200 with it, and the app knows who it is" is "$status $(grep -o 'Hello, [a-z]*' "$work/body" || true)" "200 Hello, ada"
ask "${browser[@]}" -H "Authorization: Bearer ${token%?}" "$base/account/"
check "401 again when one character of the signature is missing" is "$status" 401

title "An experiment: each visitor always sees the same half of it"
visits='' sticky=true
for visitor in 1 2 3 4 5 6 7 8 9 10; do
    mine=''
    for _ in 1 2 3; do
        ask "${browser[@]}" -H "X-Forwarded-For: 203.0.113.$visitor" "$base/shop"
        arm=$(field x-arm)
        [[ -z $mine || $arm == "$mine" ]] || sticky=false
        mine=$arm
    done
    visits+=" $mine"
done
say "ten visitors, three visits each:$visits"
check "nobody changed sides" is "$sticky" true
check "both arms are seen" has "$(tr ' ' '\n' <<< "$visits" | sort -u | tr '\n' ' ')" "candidate control"

title "A crawler that collects text for models is turned away"
cmd "curl -i -A 'GPTBot/1.2' $base/"
ask -A 'Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)' "$base/"
say "$status · $(head -c 76 "$work/body")"
show x-sluicegate-source x-sluicegate-reason
check "403, by the script" is "$status $(field x-sluicegate-source)" "403 policy"

title "The script is edited while the gateway runs"
ask "${browser[@]}" "$base/"
say "before: x-greeting: $(field x-greeting)"
cmd "sed -i 's/\"welcome\"/\"good to see you\"/' demo.rhai"
sed 's/"welcome"/"good to see you"/' "$work/demo.rhai" > "$work/demo.rhai.new"
now_ms() { date +%s%3N; }
edited=$(now_ms)
mv "$work/demo.rhai.new" "$work/demo.rhai"
while ask "${browser[@]}" "$base/" && [[ $(field x-greeting) != "good to see you" ]] && (($(now_ms) - edited < 5000)); do sleep 0.02; done
live=$(($(now_ms) - edited))
say "after ${live} ms: x-greeting: $(field x-greeting)"
check "live in under a second, without a restart" less "$live" 1000
check "and it really is the new one" is "$(field x-greeting)" "good to see you"

title "What that saved so far"
curl -sS "http://127.0.0.1:$admin/metrics" > "$work/metrics"
total() { awk -v f="$1" '$0 ~ "^" f "[{ ]" { sum += $NF } END { printf "%d", sum }' "$work/metrics"; }
saved_ms=$(total sluicegate_ai_saved_milliseconds_total)
saved_tokens=$(total sluicegate_ai_saved_tokens_total)
saved_nano=$(total sluicegate_ai_saved_nano_usd_total)
spent_nano=$(total sluicegate_ai_cost_nano_usd_total)
say "$(awk -v t="$saved_ms" 'BEGIN { printf "%.1f", t / 1000 }') s of waiting, $saved_tokens tokens, $(awk -v n="$saved_nano" 'BEGIN { printf "%.6f", n / 1e9 }') USD not spent"
say "$(awk -v n="$spent_nano" 'BEGIN { printf "%.6f", n / 1e9 }') USD spent · everything else: curl http://127.0.0.1:$admin/metrics"
check "waiting was saved" less 1000 "$saved_ms"
check "tokens were saved" less 0 "$saved_tokens"
check "money was saved" less 0 "$saved_nano"

# --- the end ---------------------------------------------------------------------------------------------------
if ((failed > 0)); then
    printf '\n%s%d promises were not kept.%s The gateway said:\n' "$red" "$failed" "$off"
    tail -20 "$work/gateway.log"
    exit 1
fi
printf '\n%severy step held%s\n' "$green" "$off"
$tour_only && exit 0

cat << END

The gateway is still running. Talk to it:

  curl -i $base/
  curl $base/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{"model":"auto","messages":[{"role":"user","content":"How do I brew green tea?"}]}'
  OPENAI_BASE_URL=$base/v1 OPENAI_API_KEY=none python3 your_app.py
  curl http://127.0.0.1:$admin/status

Edit $work/demo.rhai or $work/demo.yaml: the next request obeys. Ctrl-C ends it.
END
wait "$gateway"
