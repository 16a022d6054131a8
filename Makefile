# `make demo` and `make test` need git, make, python3 and, on a machine without a cluster, root on Debian.
# With KUBECONFIG set, that cluster is used; MODELSWAP_IMAGE_LOAD then says how it gets images (see CONTRIBUTING.md).

VENV := .venv
PYTHON := $(VENV)/bin/python
LOCAL := python3 -m localcluster
export PYTHONPATH := $(CURDIR)/operator:$(CURDIR)/deploy/local:$(CURDIR)/deploy/demo
DEMO_IMAGES := agent demo-store mlserver-sklearn operator
SOURCES := operator deploy tests

# The cluster's tests have the machine for themselves: some of them measure.
SIDE_BY_SIDE := --numprocesses=2 --dist=loadfile $(addprefix tests/,unit simulation dataplane api)

ifdef KUBECONFIG
IN_CLUSTER := env
CLUSTER :=
else
IN_CLUSTER := $(LOCAL) run --
CLUSTER := cluster-up
endif

PYTEST = $(IN_CLUSTER) $(abspath $(PYTHON)) -m pytest

.PHONY: help demo test simulate bench-registry bench-swap bench-loading lint format generate kustomize verify crds images shell cluster-up cluster-down cluster-status cluster-destroy

help: ## What there is to do
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

demo: $(CLUSTER) $(VENV)/ready ## A real model, swapped under load on a real cluster (REPORT=FILE for the figures)
	@images=$$($(LOCAL) images $(DEMO_IMAGES)) && \
	$(IN_CLUSTER) $(abspath $(PYTHON)) -m demo --images "$$images" $(if $(REPORT),--report $(REPORT))

test: $(CLUSTER) $(VENV)/ready ## All tests: unit, simulation, data plane, API server, end to end (ARGS= for some of them)
	@$(LOCAL) test-tools && images=$$($(LOCAL) images) && export MODELSWAP_TEST_IMAGES="$$images" && \
	$(PYTEST) $(or $(ARGS),$(SIDE_BY_SIDE)) $(if $(ARGS),,&& $(PYTEST) tests/e2e)

simulate: $(VENV)/ready ## A long run of the simulation (STEPS=1000000)
	@MODELSWAP_SIMULATION_STEPS=$(or $(STEPS),1000000) $(PYTHON) -m pytest tests/simulation $(ARGS)

bench-registry: $(VENV)/ready ## Queries of the registry beside a plain dict (REPORT=FILE for the figures)
	@$(PYTHON) -m tests.bench.registry $(if $(REPORT),--report $(REPORT))

bench-swap: $(CLUSTER) $(VENV)/ready ## Swaps and rollbacks under load, beside other ways; writes docs/benchmarks.md (REPORT=FILE, ROUNDS=20)
	@rollouts=$$($(LOCAL) rollouts) || rollouts=; images=$$($(LOCAL) images $(DEMO_IMAGES)) && \
	$(IN_CLUSTER) $(abspath $(PYTHON)) -m tests.bench.swap --images "$$images" --rollouts "$$rollouts" \
	$(if $(REPORT),--report $(REPORT)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-loading: $(CLUSTER) $(VENV)/ready ## Good versions loaded alone, beside bad ones, beside more good ones (REPORT=FILE)
	@images=$$($(LOCAL) images) && \
	MODELSWAP_TEST_IMAGES="$$images" $(IN_CLUSTER) $(abspath $(PYTHON)) -m tests.bench.loading $(if $(REPORT),--report $(REPORT))

lint: $(VENV)/ready ## Style, types, imports, generated files
	$(VENV)/bin/ruff check $(SOURCES)
	$(VENV)/bin/ruff format --check $(SOURCES)
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory verify

format: $(VENV)/ready ## Bring the sources into form
	$(VENV)/bin/ruff check --fix $(SOURCES)
	$(VENV)/bin/ruff format $(SOURCES)

generate: crds ## Write what is generated: CRDs, reference, the table of requirements
	$(PYTHON) -m modelswap.api.reference docs/reference.md
	$(PYTHON) -m modelswap.settings_reference docs/settings.md
	$(PYTHON) -m tests.support.requirements docs/requirements.md

crds: $(VENV)/ready ## Write the CRDs from the models
	$(PYTHON) -m modelswap.api.crdgen crds
	rm -rf charts/modelswap/crds && cp -r crds charts/modelswap/crds

kustomize: crds ## Write the kustomize base from the chart
	rm -rf deploy/kustomize/base/crds && cp -r crds deploy/kustomize/base/crds
	@$(PYTHON) -m tests.support.chart deploy/kustomize/base/operator.yaml

verify: generate ## Fail when a generated file is out of date
	@git diff --exit-code --stat -- crds charts/modelswap/crds docs/reference.md docs/settings.md docs/requirements.md

cluster-up: ## A real Kubernetes on this machine
	@$(LOCAL) up

cluster-down: ## End it; its objects stay
	@$(LOCAL) down

cluster-destroy: ## End it and remove everything
	@$(LOCAL) destroy

cluster-status: ## How its parts are
	@$(LOCAL) status

images: ## Build the images and bring them to the cluster
	@$(LOCAL) images

shell: ## A shell with kubectl and helm at the cluster
	@$(LOCAL) shell

$(VENV)/ready: requirements-dev.txt pyproject.toml
	@python3 -c 'import ensurepip' 2>/dev/null || (apt-get update -q && apt-get install -qy python3-venv)
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --require-hashes -r requirements-dev.txt
	@touch $@
