# The image of the gateway, for amd64 and arm64:
#
#   docker build -t onboardflow-gateway .
#   docker buildx build --platform linux/amd64,linux/arm64 -t registry.example.com/onboardflow-gateway:0.1.0 --push .
#
# scripts/image builds and runs it where there is neither a daemon nor a registry.
#
# glibc rather than musl: what is shipped is then what the tests and the measurements ran. The price is a runtime with libc
# in it, some 13 MB, which scanners know and base image updates patch. A release has static binaries as well.
ARG RUST_IMAGE=docker.io/library/rust:1.95-trixie
# CA roots, time zones, libc, a `nonroot` user; no shell, no package manager, no OpenSSL (rustls is in the binary).
ARG RUNTIME_IMAGE=gcr.io/distroless/base-nossl-debian13:nonroot


# The compiler runs on the builder's own architecture and compiles for the image's: no emulation.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS toolchain
ARG TARGETARCH
WORKDIR /src
RUN set -eu; \
    case "$TARGETARCH" in \
      amd64) cpu=x86_64 ;; \
      arm64) cpu=aarch64 ;; \
      *) echo "no image for TARGETARCH '$TARGETARCH': amd64 and arm64 are" >&2; exit 1 ;; \
    esac; \
    triple=$cpu-unknown-linux-gnu gcc=$cpu-linux-gnu-gcc; \
    if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
      apt-get update; \
      apt-get install --yes --no-install-recommends "gcc-$(echo $cpu | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
      rm -rf /var/lib/apt/lists/*; \
      rustup target add "$triple"; \
    fi; \
    printf '[build]\ntarget = "%s"\n[target.%s]\nlinker = "%s"\n' "$triple" "$triple" "$gcc" >"$CARGO_HOME/config.toml"; \
    # Unwinding needs libgcc_s, which is not in the runtime image; the one that belongs to this compiler goes along.
    mkdir -p "/out/usr/lib/$cpu-linux-gnu"; \
    cp -L "$($gcc -print-file-name=libgcc_s.so.1)" "/out/usr/lib/$cpu-linux-gnu/"


# The dependencies, in a layer that only Cargo.toml and Cargo.lock can change: they are built around an empty program.
# Tests, benches and examples aren't in the image's context, so the manifest must not name them.
FROM toolchain AS build
COPY Cargo.toml Cargo.lock ./
RUN set -eu; \
    sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' Cargo.toml; \
    mkdir src; \
    echo 'fn main() {}' | tee build.rs >src/main.rs; \
    : >src/lib.rs; \
    cargo build --profile image --locked; \
    rm -r src build.rs; \
    # Else cargo, which goes by times, would take the empty program for the newer one.
    find target -path '*/.fingerprint/onboardflow-gateway-*' -prune -exec rm -r {} +
COPY build.rs ./
COPY proto proto
COPY src src
RUN set -eu; \
    cargo build --profile image --locked --bin onboardflow-gateway; \
    install -D -m 755 target/*/image/onboardflow-gateway /out/usr/local/bin/onboardflow-gateway


FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="onboardflow-gateway" \
      org.opencontainers.image.description="A gRPC gateway in front of OnboardFlow's Customers REST API" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /out /
# As numbers, so that the kubelet's runAsNonRoot can see that it isn't root.
USER 65532:65532
EXPOSE 50051 9090
ENTRYPOINT ["/usr/local/bin/onboardflow-gateway"]
CMD ["serve"]
