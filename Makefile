# `make` lists the targets. Each one makes .venv itself; once that is there it starts at once.

PYTHONS = python3.11 python3.12 python3.13 python3
FITS = import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
RUN = .venv/bin/python -m
PARALLEL = -n 2 --dist loadfile --no-loadscope-reorder
CACHES = .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis

.PHONY: help demo serve test test-all test-campaigns test-contract check bench faults bundle capacity load train evaluate fidelity lock setup clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Options: make demo IMAGE=photo.jpg; make serve PORT=9000 GRPC_PORT=9500; both MODEL=people; make test|test-campaigns|bench|faults|train|evaluate|fidelity ARGS='...'; PYTHON=python3.12"

demo: setup ## find the coins in a photograph: export, serve, ask, draw; results in build/demo
	@$(RUN) deploy.local.demo $(if $(MODEL),--model="$$MODEL") $(if $(PORT),--port=$(PORT)) $(if $(IMAGE),--image="$$IMAGE")

serve: setup ## keep the function (PORT, 8080) and its model (GRPC_PORT, 8500) running until Ctrl-C
	@$(RUN) deploy.local.serve $(if $(MODEL),--model="$$MODEL") $(if $(PORT),--port=$(PORT)) $(if $(GRPC_PORT),--grpc-port=$(GRPC_PORT))

test: setup ## run the daily tests, the cheapest first
	@$(RUN) pytest $(PARALLEL) $(ARGS)

test-all: setup ## run the daily tests, print which branches they reach, then run the campaigns
	@$(RUN) pytest $(PARALLEL) --cov --cov-report=term:skip-covered $(ARGS)
	@$(RUN) pytest $(PARALLEL) --campaign $(ARGS)

test-campaigns: setup ## run what costs too much for every day alone
	@$(RUN) pytest $(PARALLEL) --campaign $(ARGS)

test-contract: setup ## test the interface against the TensorFlow Serving on TF_SERVING_ADDRESS, or else the stand-in
	@$(RUN) tests.http $(ARGS)

check: setup ## lint, formatting, types, directions of imports, spelling
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	.venv/bin/lint-imports
	$(RUN) codespell_lib

bench: setup ## measure the function against the least it could take, and against other ways, in one run; build/bench.json
	@$(RUN) tests.bench $(ARGS)

faults: setup ## break model servers and clients for half an hour, check every answer; build/faults.md, .json; SOAK=60m
	@SOAK="$(SOAK)" $(RUN) tests.faults $(ARGS)

bundle: setup ## write the function's source for a cloud, without TensorFlow, to build/function
	@$(RUN) deploy.bundle $(ARGS)

capacity: setup ## compute what a rate of photographs needs, from your `make bench` or else the committed one; ARGS='--rates=5,50'
	@$(RUN) deploy.capacity $(if $(wildcard build/bench.json),--figures=build/bench.json) $(ARGS)

load: setup ## send real photographs to URL (USERS at once, for TIME), check every answer, say PASS or FAIL
	@$(RUN) locust -f tests/load/locustfile.py --headless --users=$(or $(USERS),4) --spawn-rate=10 --run-time=$(or $(TIME),60s) \
		--stop-timeout=120 $(if $(URL),--host="$$URL") $(ARGS)

train: setup ## train the bundled model anew (an hour or two on two cores)
	@$(RUN) deploy.models.shapes.train $(ARGS)

evaluate: setup ## measure the bundled model on held-out scenes and on real coins
	@$(RUN) deploy.models.shapes.evaluate $(ARGS)

fidelity: setup ## measure what the int8 exports of the bundled model cost against float32
	@$(RUN) deploy.models.shapes.fidelity $(ARGS)

lock: setup ## work out requirements.lock from the requirements; ARGS=--upgrade for newer versions
	@.venv/bin/uv pip compile --universal --python-version=3.11 --generate-hashes --exclude-newer=P3D --output-file=requirements.lock requirements.txt deploy/requirements.in tests/requirements.in --quiet $(ARGS)

setup: .venv/ready ## make .venv, if it is missing, unfinished or older than the lock (every target does)

# A second make waits for the first. What is unfinished has no `ready` and is begun again.
.venv/ready: requirements.lock
	@set -e; mkdir -p build; exec 9>build/setup.lock; if command -v flock >/dev/null; then flock 9; fi; \
	if [ $@ -nt $< ]; then exit; fi; \
	for python in $(or $(PYTHON),$(PYTHONS)) ""; do if "$$python" -c '$(FITS)' 2>/dev/null; then break; fi; done; \
	if [ -z "$$python" ]; then \
		echo "setup: Python 3.11, 3.12 or 3.13 is needed, got none of $(or $(PYTHON),$(PYTHONS)); name one: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	echo "setup: installing into .venv ($$("$$python" -V)): TensorFlow and the tools, 3.4 GB, some minutes"; \
	"$$python" -m venv --clear .venv; \
	sed -n '/^uv==/,/[^\]$$/p' $< | .venv/bin/python -m pip install --quiet --disable-pip-version-check -r /dev/stdin; \
	.venv/bin/uv pip sync --python=.venv/bin/python --require-hashes --compile-bytecode $<; \
	touch $@

clean: ## remove everything that these targets made, .venv too
	rm -rf build .venv $(CACHES)
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
