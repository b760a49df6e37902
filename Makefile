# The project's commands. `make demo` and `make test` need nothing but Python 3.11, make and this folder.

VENV   := .venv
READY  := $(VENV)/.ready
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
TOGETHER := -n 2 --dist loadfile  # two processes; the tests of a file share their mesh
CALLS  := 1000000
BUILDER := docker
ENGINE = $(BUILDER)
TAG    := dev

export TORCH_INDEX PYTHON BUILDER TAG REGISTRY IMAGES BASE TORCH
.DEFAULT_GOAL := help
.PHONY: help setup demo up test unit mesh test-cluster soak mutants bench bench-quick check lint types imports proto proto-check proto-lint chart chart-check manifests manifests-check images images-check lock format clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables    TORCH_INDEX=URL (index for torch alone), PYTHON=interpreter, ARGS=… (for demo, up and the tests), CALLS=… (for soak)"

setup: $(READY) ## the environment .venv; the other targets do this by themselves

$(READY): pyproject.toml constraints.txt scripts/setup.sh
	@scripts/setup.sh

demo: $(READY) ## the whole product in three minutes, on real data
	@$(BIN)/infermesh demo $(ARGS)

up: $(READY) ## a mesh in the foreground; state in ./.infermesh
	@$(BIN)/infermesh up $(ARGS)

test: $(READY) ## every test
	@$(PYTEST) $(TOGETHER) $(ARGS)

unit: $(READY) ## the fast tests: no process is started
	@$(PYTEST) $(TOGETHER) -m 'not mesh and not chart' $(ARGS)

mesh: $(READY) ## the tests that start real processes
	@$(PYTEST) $(TOGETHER) -m mesh $(ARGS)

test-cluster: $(READY) ## the tests on a real cluster: the one of KUBECONFIG, or one that scripts/cluster.sh can start
	@scripts/cluster.sh $(ARGS)

soak: $(READY) ## the long tests, for the night: CALLS=1000000 calls each
	@$(PYTEST) -m soak --soak $(CALLS) $(ARGS)

mutants: $(READY) ## plants faults, one after the other, and sees whether the tests notice each; minutes
	@$(BIN)/python -m tests.mutants $(ARGS)

bench: $(READY) ## every figure about speed, beside other servers; writes benchmarks/results; half an hour, and more once
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(READY) ## the same with fewer repeats and only the fastest peers: less than five minutes
	@$(BIN)/python -m benchmarks --quick $(ARGS)

check: lint types imports proto-check proto-lint chart-check ## everything that CI looks at beside the tests

lint: $(READY) ## style
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: $(READY) ## mypy --strict
	@$(BIN)/mypy

imports: $(READY) ## which room may import which
	@$(BIN)/lint-imports

proto: $(READY) ## generates the stubs
	@$(BIN)/python scripts/gen_protos.py

proto-check: $(READY) ## the committed stubs are those of protos/
	@$(BIN)/python scripts/check_protos.py

chart: $(READY) ## the chart's schema and table of values, from the services' settings and the comments
	@$(BIN)/python scripts/gen_chart.py

chart-check: $(READY) ## the committed schema and table are those
	@$(BIN)/python scripts/gen_chart.py --check

manifests: $(READY) ## k8s/rendered: the chart's defaults as plain manifests; needs helm
	@$(BIN)/python scripts/gen_manifests.py

manifests-check: $(READY) ## the committed manifests are those
	@$(BIN)/python scripts/gen_manifests.py --check

proto-lint: ## buf lint and buf breaking, where there is buf or npm
	@scripts/buf.sh

images: ## the four container images; BUILDER=docker|podman|buildah|COMMAND TAG=dev REGISTRY= IMAGES= BASE= TORCH=
	@scripts/images.sh

images-check: ## starts them, without arguments and with mistakes, and looks into them; ENGINE=docker|podman|buildah
	@python3 scripts/check_images.py --engine "$(ENGINE)" --tag "$(TAG)" --registry "$(REGISTRY)"

lock: $(READY) ## what the images install, by hash: requirements/*.txt
	@$(BIN)/python -m pip install -q -c constraints.txt --group lock
	@scripts/lock.sh

format: $(READY) ## formats the code
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

clean: ## removes the environment, caches and the state of `make up`
	rm -rf $(VENV) .infermesh .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* build dist
	find services tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf services/*.egg-info
