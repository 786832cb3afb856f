# The common tasks, for https://just.systems. Each is one line that works without just, too.

# What there is
default:
    @just --list

# The gateway with an emulated OnboardFlow behind it, and nothing to configure
sandbox *FLAGS:
    cargo run --release -- sandbox {{ FLAGS }}

# The tests; a name or part of it runs those that match
test *NAME:
    cargo test --locked {{ NAME }}

# Format and lint, as far as that can be done without asking
fix:
    cargo fmt
    cargo clippy --all-targets --fix --allow-dirty --allow-staged

# What a call costs, against a floor and a textbook gateway; docs/performance.md
bench *FLAGS:
    cargo run --release --locked --manifest-path benches/roundtrip/Cargo.toml -- {{ FLAGS }}

# Every check that CI makes
check:
    bash .ci/run

# Pinned grpcurl, buf, ghz and cargo-deny, in .tools/bin
tools *NAMES:
    scripts/tools {{ NAMES }}

# What README.md's grpcurl commands print, against what it shows; --update writes it
readme *FLAGS:
    cargo build --release --locked
    scripts/tools grpcurl
    scripts/try-readme {{ FLAGS }}

# Whether the proto keeps what callers were promised; --update takes an addition into the promise
contract *FLAGS:
    scripts/tools buf
    scripts/check-contract {{ FLAGS }}

# Metrics and spans of a sandbox, in a real OpenTelemetry Collector
otlp:
    cargo build --locked
    scripts/check-otlp

# The callers of examples/, grpcurl and ghz against the binary
interop *FLAGS:
    scripts/tools buf ghz grpcurl grpcurl-v1alpha
    scripts/interop {{ FLAGS }}
