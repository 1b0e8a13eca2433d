# Two commands matter: `make demo` and `make test`. Each installs what it needs and says so.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PY := .venv/bin/python
RUFF := .venv/bin/ruff
HTTP2 := istiod/grpcserver/budget.py,istiod/grpcserver/cuts.py,istiod/grpcserver/deadlines.py,istiod/grpcserver/frames.py,istiod/grpcserver/headers.py,istiod/grpcserver/http2.py,istiod/grpcserver/inbound.py,istiod/grpcserver/messages.py,istiod/grpcserver/outbox.py,istiod/grpcserver/request.py,istiod/grpcserver/status.py,istiod/grpcserver/stream.py,istiod/grpcserver/turns.py
PAGE := istiod/meshpage/configuration.py,istiod/meshpage/findings.py,istiod/meshpage/graph.py,istiod/meshpage/journeys.py,istiod/meshpage/listing.py,istiod/meshpage/proxies.py,istiod/meshpage/render.py,istiod/meshpage/samples.py,istiod/meshpage/topology.py,istiod/meshpage/traffic.py
PURE := crds/*,wire/*,istiod/settings.py,istiod/features.py,istiod/config/*,istiod/status/*,istiod/watch/objects.py,istiod/watch/strip.py,istiod/watch/kinds.py,istiod/watch/selection.py,istiod/mesh/*,istiod/envoy/*,istiod/ads/session.py,istiod/ads/plan.py,$(PAGE),$(HTTP2),webhook/inject.py,agent/bootstrap/*,agent/iptables/rules.py
CONFORMANCE ?= ../shared/conformance
export CONFORMANCE

.PHONY: help demo demo-up demo-down check test test-long faults soak fuzz conformance bench generate lock clean packages \
	node-packages test-packages cluster images

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.venv/.installed: requirements-dev.lock pyproject.toml tools/venv.sh
	@echo "== installing Python packages from the hashed lock into .venv"
	@tools/venv.sh
	@touch $@

build/.stubs: .venv/.installed tools/stubs.py protos/ca.proto protos/drain.proto protos/nds.proto
	@echo "== generating type stubs of Envoy's messages into build/stubs"
	@$(PY) -W ignore tools/stubs.py build/stubs
	@touch $@

packages: ## install the Debian packages that pods need (iptables, iproute2, nftables)
	@tools/packages.sh

node-packages: ## the same, and those of a Kubernetes node (containerd, runc, CNI plugins)
	@tools/packages.sh cluster

test-packages: ## the same, the browser that tests look at the mesh page with, and another clock
	@tools/packages.sh cluster browser

OUT ?= .
generate: .venv/.installed build/.stubs ## write protos/*_pb2, the stubs, the CustomResourceDefinitions, dashboards and docs/fields.md anew
	@$(PY) -m grpc_tools.protoc -I. --python_out=$(OUT) --pyi_out=$(OUT) protos/ca.proto protos/drain.proto protos/nds.proto
	@$(PY) -m tools.crds $(OUT)
	@$(PY) -m tools.fields $(OUT)
	@$(PY) -m tools.dashboards $(OUT)

lock: .venv/.installed ## resolve requirements*.in into the hashed locks
	@.venv/bin/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate requirements.in -o requirements.lock
	@.venv/bin/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-annotate requirements-dev.in -o requirements-dev.lock

# Tests without Envoy, root or Kubernetes run on all cores (four at most), a file's tests on one of them.
WORKERS := -n auto --maxprocesses 4 --dist loadfile
check: .venv/.installed build/.stubs ## formatting, lint, types, import contracts, spelling, dependencies, pure-core coverage
	@rm -rf build/generated && mkdir -p build/generated/protos && $(MAKE) -s generate OUT=build/generated
	@diff -rq -x '*.proto' -x __init__.py -x __pycache__ build/generated/protos protos && \
		diff -rq -x '*.py' -x checks -x schema -x __pycache__ build/generated/crds crds && \
		diff -rq build/generated/charts/base/files/crds charts/base/files/crds && \
		diff -rq build/generated/charts/istiod/files/dashboards charts/istiod/files/dashboards && \
		diff -q build/generated/samples/addons/grafana-dashboards.yaml samples/addons/grafana-dashboards.yaml && \
		diff -q build/generated/docs/fields.md docs/fields.md || \
		{ echo "protos/, crds/*.yaml, charts/*/files, samples/addons or docs/fields.md is not what make generate writes"; exit 1; }
	$(RUFF) format --check .
	$(RUFF) check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache | tail -14
	$(PY) tools/limits.py
	.venv/bin/codespell
	.venv/bin/deptry . 2>&1 | tail -3
	git ls-files '*.sh' .ci/run | xargs .venv/bin/shellcheck
	$(PY) -m pytest $(WORKERS) -m "not envoy and not root and not long and not apiserver and not cluster" \
		--cov --cov-report= tests
	$(PY) -m coverage report --include='$(PURE)' --fail-under=100 --skip-covered --show-missing

# A cluster that the user names on make's command line; one that only the environment names may be anybody's.
STORIES := $(if $(filter command%,$(origin KUBECONFIG)),E2E_KUBECONFIG=$(KUBECONFIG))

# CHECKED=yes: `make check` has just passed on this tree, and its tests and what they covered need not come again.
# Tests with Envoy wait more than they work, so they run side by side, too. Some count seconds, or share what there is one
# of: what fails in that crowd has to pass alone, and both are seen.
NODELESS = -m "$(if $(CHECKED),(envoy or root) and )not long and not apiserver and not cluster"
CLUSTERED = -m "not long and (apiserver or cluster)" --cov --cov-append --cov-report=
FAILED = import json; print(*sorted({one.split('::')[0] for one in json.load(open('.pytest_cache/v/cache/lastfailed'))}))

test: .venv/.installed test-packages ## all tests but the long ones: real Envoy, iptables, API server, Kubernetes node
	@mkdir -p build && echo "== Kubernetes is built meanwhile, if it is not in the cache (build/tools.log)"
	@$(PY) -m e2e.harness.tools >build/tools.log 2>&1 &
	$(PY) -m pytest $(WORKERS) $(NODELESS) --cov $(if $(CHECKED),--cov-append) --cov-report= tests || { \
		echo "== what failed beside others, again and alone"; \
		$(PY) -m pytest --lf --lfnf=none $(NODELESS) --cov --cov-append --cov-report= tests; }
	$(STORIES) $(PY) -m pytest $(CLUSTERED) tests || { \
		echo "== the files in which something failed, once more: their tests build on each other"; \
		$(STORIES) $(PY) -m pytest $(CLUSTERED) $$($(PY) -c "$(FAILED)"); }
	$(PY) -m coverage report --fail-under=90 --skip-covered --sort=cover | tail -40

test-long: .venv/.installed packages ## the long counts and durations, and other drawn examples than the seeded ones
	$(PY) -m pytest $(WORKERS) -m "hypothesis and not long and not envoy and not root and not apiserver and not cluster" \
		--hypothesis-profile=anew tests
	$(PY) -m pytest -m long --hypothesis-profile=anew --timeout 3600 -s tests

FAULTS ?= 1-60
faults: .venv/.installed test-packages ## fault by fault of docs/faults.md, with figures; FAULTS=1,8,33-37, LONG=yes, WRITE=yes
	@$(PY) -m e2e.faults $(FAULTS) $(if $(LONG),--long) $(if $(WRITE),--write)

SOAK ?= 8h
soak: .venv/.installed ## hours of changes: does anything grow; SOAK=20m for less, FAULTS=1,10 for faults in full length
	@$(PY) -m bench.soak $(SOAK)
	@$(if $(filter command%,$(origin FAULTS)),$(PY) -m e2e.faults $(FAULTS) --full)

FUZZ ?= 20
fuzz: .venv/.installed ## fuzz every parser of outside input, guided by coverage; FUZZ=seconds for each; finds are in build/fuzz
	$(PY) -m tools.fuzz $(FUZZ)

demo: .venv/.installed packages ## bring BookInfo up on this machine, change its routing live, show what happened
	@$(PY) -m examples.demo

demo-up: .venv/.installed packages ## keep BookInfo running, its page on http://127.0.0.1:8080/productpage
	@$(PY) -m examples.demo up

demo-down: .venv/.installed ## end what demo-up left running
	@$(PY) -m examples.demo down

cluster: .venv/.installed node-packages ## a shell in a real Kubernetes node of its own, or in the cluster of KUBECONFIG=
	@$(STORIES) $(PY) -m e2e.harness.sandbox

HUB ?= registry.local/istio
TAG ?= 1
images: .venv/.installed node-packages ## build the container images; HUB=, TAG=; docker, buildah, or OCI archives
	@tools/images.sh $(HUB) $(TAG)

conformance: .venv/.installed ## how close to recordings of a real istiod; cases in CONFORMANCE (docs/conformance.md)
	@$(PY) -m conformance

BENCH ?= 100,5,100
bench: .venv/.installed build/fleet build/load ## what changes and first configurations cost; BENCH=services,endpoints,proxies, or dataplane
	@$(PY) -m $(if $(filter dataplane,$(BENCH)),bench.dataplane,bench $(BENCH) --note)

build/fleet: $(wildcard bench/fleet/*)
	@command -v go >/dev/null || { echo "make bench needs Go (1.25 or newer) to build its fleet of proxies; none is in PATH"; exit 1; }
	@echo "== building the fleet of fake proxies into build/fleet"
	@mkdir -p build && cd bench/fleet && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o ../../build/fleet .

build/load: $(wildcard bench/load/*)
	@command -v go >/dev/null || { echo "bench.dataplane needs Go (1.25 or newer) to build its load and echo; none is in PATH"; exit 1; }
	@echo "== building the load and the echo of bench.dataplane into build/load"
	@mkdir -p build && cd bench/load && CGO_ENABLED=0 GOFLAGS=-mod=mod go build -o ../../build/load .

clean: ## remove what was built
	rm -rf build .venv .mypy_cache .ruff_cache .pytest_cache .coverage
