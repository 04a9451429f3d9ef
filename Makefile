# `make help` lists the targets. Each installs what it needs from Debian's packages first.

PREFIX  ?= /usr/local
DESTDIR ?=
LIBDIR  ?= $(PREFIX)/lib
NGINX_SRC ?=
KEEP    ?=

CARGO   ?= cargo
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libdockline.so.$(shell echo $(VERSION) | cut -d. -f1-2)
# What a C program that links libdockline.a needs besides (rustc --print native-static-libs).
STATIC_LIBS := -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc
VENV    := target/venv

.PHONY: help build gateway image nginx-module install install-nginx-module demo demo-router check test lint header reasons \
        test-rust test-c test-install test-e2e test-e2e-gateway soak faults fuzz bench bench-ports bench-router clean

help:
	@echo 'make build           the library: target/release/libdockline.so and .a'
	@echo 'make gateway         the programs: target/release/dockline and dockline-docker-proxy'
	@echo 'make image           a container image of dockline, from scratch'
	@echo 'make nginx-module    target/nginx/ngx_http_dockline_module.so for the installed nginx,'
	@echo '                     or for the source tree NGINX_SRC=/path/to/nginx'
	@echo 'make demo            the docker CLI through plain nginx and through dockline, side by side'
	@echo '                     (KEEP=1 leaves it running)'
	@echo 'make demo-router     the router, with four containers that come and go (KEEP=1 leaves it running)'
	@echo 'make check           while you work: format, clippy, all Rust tests, without a daemon; one to three minutes'
	@echo 'make test            everything: Rust, C, fuzzing for a minute each, nginx and docker end to end'
	@echo 'make soak            5,000 tunnels through the gateway for a minute (SOAK_SECONDS=60)'
	@echo 'make faults          tunnels through the gateway while its system calls fail'
	@echo 'make lint            rustfmt, clippy, rustdoc, the header'
	@echo 'make install         library and programs: PREFIX= DESTDIR= LIBDIR='
	@echo 'make install-nginx-module   the module, where the installed nginx looks for it'
	@echo 'make bench           CPU and memory beside nginx, HAProxy and docker-proxy (benches/README.md)'
	@echo 'make bench-ports     1000 published ports, with Docker'"'"'s docker-proxy and with dockline'"'"'s'
	@echo 'make bench-router    what routes cost, and how soon a change is seen, beside nginx with a reload for each'
	@echo 'make header          regenerate include/dockline.h from the code'

build:
	@scripts/install-deps build
	# TLS is no part of the C ABI yet; without it the library is half as large.
	$(CARGO) build --release --no-default-features --features ffi

gateway:
	@scripts/install-deps build
	$(CARGO) build --release -p dockline-gateway -p dockline-docker-proxy

image: gateway
	@scripts/install-deps demo
	@scripts/image

nginx-module: build
	@scripts/install-deps nginx
	NGINX_SRC="$(NGINX_SRC)" scripts/build-nginx-module

install: build gateway
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 0755 target/release/dockline target/release/dockline-docker-proxy $(DESTDIR)$(PREFIX)/bin
	target/release/dockline man > $(DESTDIR)$(PREFIX)/share/man/man1/dockline.1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	target/release/dockline completions bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/dockline
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 0755 target/release/libdockline.so $(DESTDIR)$(LIBDIR)/libdockline.so.$(VERSION)
	ln -sf libdockline.so.$(VERSION) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libdockline.so
	install -m 0644 target/release/libdockline.a $(DESTDIR)$(LIBDIR)/libdockline.a
	install -m 0644 include/dockline.h $(DESTDIR)$(PREFIX)/include/dockline.h
	printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$${prefix}/include' '' \
	    'Name: dockline' 'Description: core of a proxy for the Docker Engine API' 'Version: $(VERSION)' \
	    'Libs: -L$${libdir} -ldockline' 'Libs.private: $(STATIC_LIBS)' 'Cflags: -I$${includedir}' \
	    > $(DESTDIR)$(LIBDIR)/pkgconfig/dockline.pc

install-nginx-module: nginx-module
	install -D -m 0644 target/nginx/ngx_http_dockline_module.so \
	    $(DESTDIR)$$(nginx -V 2>&1 | tr ' ' '\n' | sed -n 's/^--modules-path=//p')/ngx_http_dockline_module.so

demo: nginx-module
	@scripts/install-deps demo
	@KEEP="$(KEEP)" scripts/demo

demo-router: gateway
	@scripts/install-deps demo-router
	@KEEP="$(KEEP)" scripts/demo-router

header:
	DOCKLINE_UPDATE_HEADER=1 $(CARGO) test --quiet --features ffi --test abi header_is_up_to_date

reasons:
	DOCKLINE_UPDATE_REASONS=1 $(CARGO) test --quiet --test reasons

# For each change while it is made. What `make lint` and `make test` have besides: the smaller feature sets, rustdoc, C,
# fuzzing, and everything that needs nginx or a Docker daemon.
check:
	@scripts/install-deps rust
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --features dockline/ffi -- -D warnings
	$(CARGO) nextest run --workspace --features dockline/ffi --status-level slow

test: test-rust test-c test-install fuzz test-e2e test-e2e-gateway faults
	$(MAKE) soak SOAK_SECONDS=15

test-rust:
	@scripts/install-deps rust
	$(CARGO) check --no-default-features
	$(CARGO) nextest run --workspace --features dockline/ffi
	$(CARGO) test --doc --workspace --features dockline/ffi

test-c: build
	@scripts/install-deps c
	$(MAKE) -C ffi-tests test

# What `make install` leaves must serve a program that knows only pkg-config.
test-install: build gateway
	rm -rf target/install-test
	$(MAKE) install PREFIX=$(CURDIR)/target/install-test
	PKG_CONFIG_PATH=target/install-test/lib/pkgconfig sh -ec '\
	    for program in relay_server conn_proxy engine_server; do \
	        cc -std=c11 -Wall -Wextra -Werror examples/$$program.c -o target/install-test/$$program-shared \
	            $$(pkg-config --cflags --libs dockline) -Wl,-rpath,$(CURDIR)/target/install-test/lib; \
	        cc -std=c11 -Wall -Wextra -Werror examples/$$program.c -o target/install-test/$$program-static \
	            $$(pkg-config --cflags dockline) target/install-test/lib/libdockline.a \
	            $$(pkg-config --static --libs-only-l dockline | sed s/-ldockline//); \
	        readelf -d target/install-test/$$program-shared | grep -q "$(SONAME)"; \
	    done'
	target/install-test/bin/dockline selftest

$(VENV)/bin/pytest: tests/e2e/requirements.txt
	@scripts/install-deps e2e
	test -x $(VENV)/bin/pip || python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt
	touch $@

test-e2e: nginx-module gateway $(VENV)/bin/pytest
	@scripts/install-deps e2e
	$(VENV)/bin/pytest tests/e2e

test-e2e-gateway: gateway $(VENV)/bin/pytest
	@scripts/install-deps e2e
	DOCKLINE_E2E_FRONT=gateway $(VENV)/bin/pytest tests/e2e

SOAK_SECONDS ?= 60
soak:
	@scripts/install-deps build
	$(CARGO) test --release -p dockline-gateway --test soak -- --seconds $(SOAK_SECONDS)

# strace makes the calls fail; six kinds of failure, with one, two and four workers: half a minute.
faults:
	@scripts/install-deps build faults
	$(CARGO) test --release -p dockline-gateway --test soak -- --faults

FUZZ_SECONDS ?= 60
fuzz:
	@scripts/install-deps fuzz
	scripts/fuzz $(FUZZ_SECONDS)

bench: nginx-module gateway
	@scripts/install-deps bench
	$(CARGO) bench --bench nginx_relay
	$(CARGO) bench --bench gateway
	$(CARGO) bench --bench parsers
	$(CARGO) bench --bench docker_proxy
	$(CARGO) bench --bench routes

bench-ports: gateway $(VENV)/bin/pytest
	$(VENV)/bin/python tests/e2e/bench_ports.py

bench-router: gateway $(VENV)/bin/pytest
	@scripts/install-deps bench-router
	unshare --net --mount $(VENV)/bin/python tests/e2e/bench_router.py

lint:
	@scripts/install-deps rust
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --workspace --all-targets --features dockline/ffi -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	$(CARGO) clippy --no-default-features --features drive -- -D warnings
	$(CARGO) clippy --no-default-features --features engine -- -D warnings
	$(CARGO) clippy --no-default-features --features ffi -- -D warnings
	RUSTDOCFLAGS='-D warnings -D rustdoc::broken_intra_doc_links' $(CARGO) doc --no-deps --workspace --features dockline/ffi
	@! $(CARGO) tree --workspace --edges normal --prefix none | grep -E '^(tokio|async-std|smol|futures-executor) '
	$(CARGO) test --quiet --features ffi --test abi

clean:
	$(CARGO) clean
